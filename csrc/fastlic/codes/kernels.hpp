// From logits to frequencies, a table of kernels for each instruction set. All compute the same integers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fastlic/isa.hpp"

namespace fastlic::codes {

struct Peak {
  std::int32_t logit;
  std::size_t word;  // the first that has it
};

// Counts are multiples of kPanel; logits lie within +-2^26.
struct Kernels {
  Peak (*peak)(const std::int32_t* logits, std::size_t count);
  // weights[i] = table[d mod 256] >> (d / 256), d = peak - logits[i] >= 0. Returns their sum.
  std::uint64_t (*weigh)(const std::int32_t* logits, std::size_t count, std::int32_t peak, const std::int32_t* table,
                         std::uint32_t* weights);
  // shares[i] = weights[i] * rate >> shift; sums[j] = the sum of kPanel of them. Returns the sum of all.
  std::uint32_t (*share)(const std::uint32_t* weights, std::size_t count, std::uint32_t rate, unsigned shift,
                         std::uint32_t* shares, std::uint32_t* sums);
};

const Kernels& kernels(Isa isa) noexcept;

}  // namespace fastlic::codes

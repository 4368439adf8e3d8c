// Loops of these kernels; each kernel file compiles them for its own target (vectors.hpp).
#pragma once

#include <algorithm>

#include "fastlic/codes/kernels.hpp"
#include "fastlic/nn/memory.hpp"
#include "fastlic/vectors.hpp"

namespace fastlic::codes::bodies {

using namespace fastlic::bodies;
using nn::kPanel;

template <typename Simd>
FASTLIC_INLINE Peak peak(const std::int32_t* logits, std::size_t count) {
  std::int32_t best = logits[0];
  for (std::size_t i = 0; i < count; ++i) best = logits[i] > best ? logits[i] : best;  // std::max hinders GCC 12
  std::size_t word = 0;
  while (!Simd::any(logits + word, best)) word += kLanes;
  while (logits[word] != best) ++word;
  return {best, word};
}

template <typename Simd>
FASTLIC_INLINE std::uint64_t weigh(const std::int32_t* logits, std::size_t count, std::int32_t peak,
                                   const std::int32_t* table, std::uint32_t* weights) {
  constexpr std::size_t kChunk = 1024 * kLanes;  // sums of as many weights of 2^20 stay below 2^31 in each lane
  std::uint64_t total = 0;
  for (std::size_t first = 0; first < count; first += kChunk) {
    Ints sum{};
    for (std::size_t i = first; i < std::min(count, first + kChunk); i += kLanes) {
      Ints x, weight;
      load(logits + i, x);
      Simd::weigh(table, peak - x, weight);
      store(weight, weights + i);
      sum += weight;
    }
    for (std::size_t lane = 0; lane < kLanes; ++lane) total += static_cast<std::uint32_t>(sum[lane]);
  }
  return total;
}

FASTLIC_INLINE std::uint32_t share(const std::uint32_t* __restrict weights, std::size_t count, std::uint32_t rate,
                                   unsigned shift, std::uint32_t* __restrict shares, std::uint32_t* __restrict sums) {
  std::uint32_t total = 0;
  for (std::size_t first = 0; first < count; first += kPanel) {
    std::uint32_t sum = 0;
    for (std::size_t i = first; i < first + kPanel; ++i) {
      shares[i] = static_cast<std::uint32_t>(std::uint64_t{weights[i]} * rate >> shift);
      sum += shares[i];
    }
    *sums++ = sum;
    total += sum;
  }
  return total;
}

// What the compiler's vectors lack, one by one.
struct OneByOne {
  // Whether one of 16 values is this one.
  FASTLIC_INLINE static bool any(const std::int32_t* values, std::int32_t value) {
    return std::find(values, values + kLanes, value) != values + kLanes;
  }
  // table[d mod 256] >> (d / 256). Vectors shift by more than 31 as one would wish; C++ may not.
  FASTLIC_INLINE static void weigh(const std::int32_t* table, const Ints& d, Ints& out) {
    for (std::size_t k = 0; k < kLanes; ++k) out[k] = table[d[k] & 255] >> std::min(d[k] >> 8, 31);
  }
};

}  // namespace fastlic::codes::bodies

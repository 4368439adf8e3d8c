// Inner loops of the Gaussian coder, for each instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fastlic/isa.hpp"
#include "fastlic/lane_stream.hpp"

namespace fastlic {

struct GaussianEncodeJob {
  std::uint32_t* states;
  unsigned lanes;
  std::uint8_t* next;
  std::uint8_t* escapes;  // bit i is set if symbol i is an escape, cleared by the caller
  std::uint8_t* shifted;  // bit i is set if symbol i has raw bits
};

struct GaussianDecodeJob {
  std::uint32_t* states;
  unsigned lanes;
  const std::uint8_t* next;
  const std::uint8_t* limit;
  std::uint8_t* escapes;
  std::uint8_t* shifted;
  std::size_t begin;  // of the symbols to decode, in all arrays and bit arrays
};

// Symbols are [groups * lanes]. Decoding leaves the raw bits of shifted symbols zero and escapes undefined.
struct GaussianKernels {
  void (*encode)(GaussianEncodeJob&, const std::int32_t* symbols, const float* means, const float* scales,
                 std::size_t groups);
  std::size_t (*decode)(GaussianDecodeJob&, const float* means, const float* scales, std::int32_t* out,
                        std::size_t groups);
};

// Single symbols, for the odd ends.
void encode_one_gaussian(GaussianEncodeJob& job, std::size_t lane, const std::int32_t* symbols, const float* means,
                         const float* scales, std::size_t at);
void decode_one_gaussian(GaussianDecodeJob& job, std::size_t lane, const float* means, const float* scales,
                         std::int32_t* out);

// Kernels for streams of `lanes` lanes at that level.
const GaussianKernels& gaussian_kernels(Isa isa, unsigned lanes) noexcept;

}  // namespace fastlic

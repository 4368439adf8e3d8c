// Fixed-point numbers of the integer models, as fastlic/integers/fixed.py defines them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fastlic/nn/memory.hpp"

namespace fastlic::nn {

constexpr unsigned kMeanBits = 6;                     // means and latents count 2^-6
constexpr std::int32_t kLatentLimit = (1 << 26) - 1;  // latents are clipped to this magnitude
constexpr unsigned kMaxActivationBits = 16;           // activations are int16
constexpr unsigned kMaxWideBits = 27;                 // means and scales; latent - mean stays in int32
constexpr std::int32_t kOffsetLimit = 1 << 20;        // reconstruction offsets lie within +-this
constexpr unsigned kMinShift = 1, kMaxShift = 62;
constexpr unsigned kMaxFactorShift = 62;  // of numbers of float32 that are kept as integers
constexpr std::size_t kMaxChannels = 1 << 14;
constexpr unsigned kHyperStride = 4;  // z is at 1/4 of the latent

// out = clip((acc * (acc >= 0 ? multiplier : negative) + 2^(shift-1)) >> shift, +-limit), per channel, in int64:
// |acc| and |multiplier| are at most 2^31, so the product plus 2^61 stays below 2^63.
struct Requantiser {
  std::size_t channels = 0;
  std::int32_t limit = 0;
  Buffer<std::int32_t> multiplier, negative;  // [padded channels]; padding has multiplier 0, so it becomes 0
  Buffer<std::int64_t> shift, rounding;       // [padded channels]
  // [padded channels] shift - 32 and rounding * 2^-32: where no channel is shifted by less than 33, low halves of
  // products count for nothing. Empty where one is.
  Buffer<std::int32_t> high_shift, high_rounding;
};

struct Offset {
  int row, column;
};

// index = number of thresholds below the scale; padded to a power of two with values that no scale exceeds.
struct Thresholds {
  Buffer<std::int32_t> values;
  std::size_t count = 0;
};

}  // namespace fastlic::nn

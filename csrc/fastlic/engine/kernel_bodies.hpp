// Plain loops that every instruction set shares; each kernel file compiles them for its own target. Always inlined, so
// that no copy compiled for one target can be linked into another.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "fastlic/engine/model.hpp"

#define FASTLIC_INLINE [[gnu::always_inline]] inline

namespace fastlic::engine::bodies {

FASTLIC_INLINE std::int32_t requantise_one(std::int32_t acc, const Requantiser& r, std::size_t c) {
  const std::int64_t multiplier = acc >= 0 ? r.multiplier[c] : r.negative[c];
  const std::int64_t value = (acc * multiplier + r.rounding[c]) >> r.shift[c];
  return static_cast<std::int32_t>(std::clamp<std::int64_t>(value, -r.limit, r.limit));
}

// Branchless binary search: after the loop, `below` thresholds are smaller than the scale.
FASTLIC_INLINE std::uint8_t choose_one(std::int32_t scale, const std::int32_t* thresholds, std::size_t size) {
  std::size_t below = 0;
  for (std::size_t step = size / 2; step > 0; step /= 2) below += thresholds[below + step - 1] < scale ? step : 0;
  return static_cast<std::uint8_t>(below);
}

FASTLIC_INLINE void quantise(const std::int32_t* latents, const std::int32_t* means, std::size_t count,
                             std::int32_t* symbols) {
  // |latent| <= 2^26 and |mean| <= 2^26: no overflow.
  for (std::size_t i = 0; i < count; ++i) {
    symbols[i] = (latents[i] - means[i] + (1 << (kMeanBits - 1))) >> kMeanBits;
  }
}

// Symbols of a hostile stream are any int32. Beyond 2^23 the latent is clipped whatever the mean, so clipping the symbol
// first changes nothing and keeps all in int32.
constexpr std::int32_t kSymbolLimit = 1 << 23;
static_assert(std::int64_t{kSymbolLimit} * (1 << kMeanBits) - (1 << (kMaxWideBits - 1)) >= kLatentLimit);
static_assert(std::int64_t{kSymbolLimit} * (1 << kMeanBits) + (1 << (kMaxWideBits - 1)) < (std::int64_t{1} << 31));

FASTLIC_INLINE void reconstruct(const std::int32_t* symbols, const std::int32_t* means, std::size_t count,
                                std::int32_t* latents) {
  for (std::size_t i = 0; i < count; ++i) {
    const std::int32_t symbol = std::clamp(symbols[i], -kSymbolLimit, kSymbolLimit);
    latents[i] = std::clamp(symbol * (1 << kMeanBits) + means[i], -kLatentLimit, kLatentLimit);
  }
}

}  // namespace fastlic::engine::bodies

// Plain loops that every instruction set shares; each kernel file compiles them for its own target. Always inlined, so
// that no copy compiled for one target can be linked into another.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "fastlic/nn/fixed.hpp"

#define FASTLIC_INLINE [[gnu::always_inline]] inline

namespace fastlic::nn::bodies {

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

FASTLIC_INLINE std::uint32_t difference(std::int32_t a, std::int32_t b) {
  return static_cast<std::uint32_t>(a) - static_cast<std::uint32_t>(b);
}

FASTLIC_INLINE void quantise(const std::int32_t* latents, const std::int32_t* means, std::size_t count,
                             std::int32_t* symbols) {
  // |latent| <= 2^26 and |mean| <= 2^26: no overflow, unless another thread changes latents: then it wraps.
  for (std::size_t i = 0; i < count; ++i) {
    symbols[i] = static_cast<std::int32_t>(difference(latents[i], means[i]) + (1u << (kMeanBits - 1))) >> kMeanBits;
  }
}

// A difference loses its index's zone, but not beyond zero, before it is rounded.
FASTLIC_INLINE void quantise_down(const std::int32_t* latents, const std::int32_t* means, const std::uint8_t* indexes,
                                  const std::int32_t* zones, std::size_t count, std::int32_t* symbols) {
  for (std::size_t i = 0; i < count; ++i) {
    const auto distance = static_cast<std::int32_t>(difference(latents[i], means[i]));
    const std::int32_t zone = zones[indexes[i]];
    const std::uint32_t left = difference(distance, std::clamp(distance, -zone, zone));
    symbols[i] = static_cast<std::int32_t>(left + (1u << (kMeanBits - 1))) >> kMeanBits;
  }
}

// Symbols of a hostile stream are any int32. Beyond 2^23 the latent is clipped whatever the mean, so clipping the
// symbol first changes nothing and keeps all in int32.
constexpr std::int32_t kSymbolLimit = 1 << 23;
constexpr std::int64_t kBeyondSymbols = (1 << (kMaxWideBits - 1)) + kOffsetLimit;
static_assert(std::int64_t{kSymbolLimit} * (1 << kMeanBits) - kBeyondSymbols >= kLatentLimit);
static_assert(std::int64_t{kSymbolLimit} * (1 << kMeanBits) + kBeyondSymbols < (std::int64_t{1} << 31));

FASTLIC_INLINE void reconstruct(const std::int32_t* symbols, const std::int32_t* means, std::size_t count,
                                std::int32_t* latents) {
  for (std::size_t i = 0; i < count; ++i) {
    const std::int32_t symbol = std::clamp(symbols[i], -kSymbolLimit, kSymbolLimit);
    latents[i] = std::clamp(symbol * (1 << kMeanBits) + means[i], -kLatentLimit, kLatentLimit);
  }
}

FASTLIC_INLINE void reconstruct_offset(const std::int32_t* symbols, const std::int32_t* means,
                                       const std::uint8_t* indexes, const std::int32_t* offsets, std::size_t count,
                                       std::int32_t* latents) {
  for (std::size_t i = 0; i < count; ++i) {
    const std::int32_t symbol = std::clamp(symbols[i], -kSymbolLimit, kSymbolLimit);
    const std::int32_t sign = (symbol > 0) - (symbol < 0);
    const std::int32_t value = symbol * (1 << kMeanBits) + sign * offsets[indexes[i]] + means[i];
    latents[i] = std::clamp(value, -kLatentLimit, kLatentLimit);
  }
}

// 4x4 tile of inputs (row by row, [channels] each) -> B^T d B, sixteen rows `stride` apart. winograd.hpp has the
// matrices.
FASTLIC_INLINE void winograd_input(const std::int16_t* const* tile, std::size_t channels, std::int16_t* __restrict out,
                                   std::size_t stride) {
  for (std::size_t first = 0; first < channels; first += kPanel) {
    std::int16_t d[16][kPanel], t[16][kPanel];
    for (std::size_t i = 0; i < 16; ++i) __builtin_memcpy(d[i], tile[i] + first, sizeof d[i]);
    for (std::size_t j = 0; j < 4; ++j) {  // columns: combine rows
      for (std::size_t c = 0; c < kPanel; ++c) {
        t[j][c] = static_cast<std::int16_t>(d[j][c] - d[8 + j][c]);
        t[4 + j][c] = static_cast<std::int16_t>(d[4 + j][c] + d[8 + j][c]);
        t[8 + j][c] = static_cast<std::int16_t>(d[8 + j][c] - d[4 + j][c]);
        t[12 + j][c] = static_cast<std::int16_t>(d[4 + j][c] - d[12 + j][c]);
      }
    }
    for (std::size_t i = 0; i < 16; i += 4) {
      for (std::size_t c = 0; c < kPanel; ++c) {
        d[i][c] = static_cast<std::int16_t>(t[i][c] - t[i + 2][c]);
        d[i + 1][c] = static_cast<std::int16_t>(t[i + 1][c] + t[i + 2][c]);
        d[i + 2][c] = static_cast<std::int16_t>(t[i + 2][c] - t[i + 1][c]);
        d[i + 3][c] = static_cast<std::int16_t>(t[i + 1][c] - t[i + 3][c]);
      }
    }
    for (std::size_t i = 0; i < 16; ++i) __builtin_memcpy(out + i * stride + first, d[i], sizeof d[i]);
  }
}

// Sixteen rows of one panel of products, `stride` apart -> the 2x2 tile of accumulators [4][kPanel], bias added:
// A^T m A is four times the sum modulo 2^32, and the sum is below 2^29.
FASTLIC_INLINE void winograd_output(const std::int32_t* products, std::size_t stride, const std::int32_t* bias,
                                    std::int32_t* out) {
  std::uint32_t t[8][kPanel];
  const auto row = [&](std::size_t i, std::size_t c) { return static_cast<std::uint32_t>(products[i * stride + c]); };
  for (std::size_t j = 0; j < 4; ++j) {
    for (std::size_t c = 0; c < kPanel; ++c) {
      t[j][c] = row(j, c) + row(4 + j, c) + row(8 + j, c);
      t[4 + j][c] = row(4 + j, c) - row(8 + j, c) - row(12 + j, c);
    }
  }
  for (std::size_t i = 0; i < 2; ++i) {
    for (std::size_t c = 0; c < kPanel; ++c) {
      const std::uint32_t left = t[4 * i][c] + t[4 * i + 1][c] + t[4 * i + 2][c];
      const std::uint32_t right = t[4 * i + 1][c] - t[4 * i + 2][c] - t[4 * i + 3][c];
      out[2 * i * kPanel + c] = (static_cast<std::int32_t>(left) >> 2) + bias[c];
      out[(2 * i + 1) * kPanel + c] = (static_cast<std::int32_t>(right) >> 2) + bias[c];
    }
  }
}

}  // namespace fastlic::nn::bodies

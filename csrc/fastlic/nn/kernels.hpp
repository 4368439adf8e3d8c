// Inner loops of the engine, one file per instruction set, and the table that chooses between them. All compute the
// same integers: sums are exact in any order, and requantisation is defined in int64 (model.hpp).
#pragma once

#include <cstddef>
#include <cstdint>

#include "fastlic/nn/fixed.hpp"
#include "fastlic/nn/packed.hpp"
#include "fastlic/isa.hpp"

namespace fastlic::nn {

struct Channels {
  std::size_t first, last;
};

struct Kernels {
  void (*multiply)(const GemmJob<std::int8_t>& job);
  void (*multiply_wide)(const GemmJob<std::int16_t>& job);
  // Channels [first, last) of a row, multiples of kPanel; acc and out start at channel `first`.
  void (*requantise16)(const std::int32_t* acc, const Requantiser& requantiser, Channels channels, std::int16_t* out);
  void (*requantise32)(const std::int32_t* acc, const Requantiser& requantiser, Channels channels, std::int32_t* out);
  // The two transforms of winograd.hpp.
  void (*winograd_input)(const std::int16_t* const* tile, std::size_t channels, std::int16_t* out, std::size_t stride);
  void (*winograd_output)(const std::int32_t* products, std::size_t stride, const std::int32_t* bias,
                          std::int32_t* out);
  // Scale indexes of any number of scales.
  void (*choose)(const std::int32_t* scales, std::size_t count, const Thresholds& thresholds, std::uint8_t* indexes);
  // symbol = (latent - mean + 1/2) rounded down, and latent = clip(symbol + mean), in units of 2^-6; any symbols.
  void (*quantise)(const std::int32_t* latents, const std::int32_t* means, std::size_t count, std::int32_t* symbols);
  // The same of a difference that comes nearer to zero by what `zones` says for its scale index, >= 0.
  void (*quantise_down)(const std::int32_t* latents, const std::int32_t* means, const std::uint8_t* indexes,
                        const std::int32_t* zones, std::size_t count, std::int32_t* symbols);
  void (*reconstruct)(const std::int32_t* symbols, const std::int32_t* means, std::size_t count, std::int32_t* latents);
  // The same with every symbol but 0 moved away from zero by what `offsets` says for its scale index.
  void (*reconstruct_offset)(const std::int32_t* symbols, const std::int32_t* means, const std::uint8_t* indexes,
                             const std::int32_t* offsets, std::size_t count, std::int32_t* latents);
};

const Kernels& kernels(Isa isa) noexcept;

extern const Kernels kScalar;

// What an encoder makes of one row of latents. zones: by scale index, or null to round to the nearest.
inline void quantise_row(const Kernels& kernels, const std::int32_t* latents, const std::int32_t* means,
                         const std::uint8_t* indexes, const std::int32_t* zones, std::size_t count,
                         std::int32_t* symbols) {
  if (zones == nullptr) {
    kernels.quantise(latents, means, count, symbols);
  } else {
    kernels.quantise_down(latents, means, indexes, zones, count, symbols);
  }
}

// Portable loops that more than one of the tables uses.
namespace plain {
void winograd_input(const std::int16_t* const* tile, std::size_t channels, std::int16_t* out, std::size_t stride);
void winograd_output(const std::int32_t* products, std::size_t stride, const std::int32_t* bias, std::int32_t* out);
void choose(const std::int32_t* scales, std::size_t count, const Thresholds& thresholds, std::uint8_t* indexes);
void quantise(const std::int32_t* latents, const std::int32_t* means, std::size_t count, std::int32_t* symbols);
void quantise_down(const std::int32_t* latents, const std::int32_t* means, const std::uint8_t* indexes,
                   const std::int32_t* zones, std::size_t count, std::int32_t* symbols);
void reconstruct(const std::int32_t* symbols, const std::int32_t* means, std::size_t count, std::int32_t* latents);
void reconstruct_offset(const std::int32_t* symbols, const std::int32_t* means, const std::uint8_t* indexes,
                        const std::int32_t* offsets, std::size_t count, std::int32_t* latents);
}  // namespace plain
#if defined(__x86_64__)
extern const Kernels kAvx2, kAvx512, kAvx512Vnni;
#elif defined(__aarch64__)
extern const Kernels kNeon;
#endif

}  // namespace fastlic::nn

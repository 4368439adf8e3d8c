// Inner loops of layers and entropy models, a table of them for each instruction set. All compute the same integers:
// sums are exact in any order, and requantisation is defined in int64 (fixed.hpp).
#pragma once

#include <cstddef>
#include <cstdint>

#include "fastlic/isa.hpp"
#include "fastlic/nn/fixed.hpp"
#include "fastlic/nn/layer.hpp"
#include "fastlic/nn/packed.hpp"

namespace fastlic::nn {

struct Channels {
  std::size_t first, last;
};

// What a layer norm knows of its channels, all [padded channels].
struct LevelParameters {
  std::int16_t up = 0;  // sums are of (x << up) * weight * 2^-15, rounded
  Buffer<std::int16_t> weight;
  Buffer<float> scale, factor, bias;
  float limit = 0;
};

struct Moments {
  std::int64_t sum, squares;
};

// Scores of some queries of a window, and what becomes of them.
struct Weighing {
  const std::int32_t* scores;  // [rows][columns], whole panels
  std::size_t rows, columns;
  const std::int32_t* present;  // [columns] -1, or 0 for keys that count for nothing; null: all count
  float sharpness;              // units of 2^-11 of a halved weight in one unit of the scores
  std::int32_t most;            // of a row's weights together
  std::int16_t* weights;        // [rows][columns]
  float* inverse;               // [rows] 1 over their sum
};

// Where a transformed tile of inputs belongs: sixteen maps of `component` numbers each, from number `at` on. In planes
// of bytes, such a map is of as many low and then of as many high ones.
struct TransformedTile {
  std::int16_t* data;
  std::size_t at, component;

  // Numbers of a map of so many tiles, of `unit` numbers each: in whole lines, and with room for a transform that
  // writes a whole panel; and of all maps, with room for a product that reads 15 rows and 63 bytes beyond the last one.
  static constexpr std::size_t component_of(std::size_t tiles, std::size_t unit) {
    constexpr std::size_t kWhole = 2 * kPanel;  // bytes of a line
    return (tiles * unit + kPanel + kWhole - 1) / kWhole * kWhole;
  }
  static constexpr std::size_t all_of(std::size_t tiles, std::size_t unit) {
    return kComponents * component_of(tiles, unit) + 8 * unit + kPanel;
  }
};

struct Kernels {
  void (*multiply)(const GemmJob<std::int8_t>& job);
  void (*multiply_wide)(const GemmJob<std::int16_t>& job);
  // Channels [first, last) of a row, multiples of kHalfPanel; acc and out start at channel `first`.
  void (*requantise16)(const std::int32_t* acc, const Requantiser& requantiser, Channels channels, std::int16_t* out);
  void (*requantise32)(const std::int32_t* acc, const Requantiser& requantiser, Channels channels, std::int32_t* out);
  // The two transforms of winograd.hpp. 4x4 tile of inputs (row by row, [channels] each) -> B^T d B. Inputs are read in
  // whole panels of channels, and written in whole panels too, except in planes. Sixteen rows of products of some
  // channels of one panel, `stride` apart -> the 2x2 tile of outputs, bias added and requantised; products, bias and
  // each of the four `out` start at channel `first`.
  void (*winograd_input)(const std::int16_t* const* tile, std::size_t channels, const TransformedTile& to);
  void (*winograd_output16)(const std::int32_t* products, std::size_t stride, const std::int32_t* bias,
                            const Requantiser& requantiser, Channels channels, std::int16_t* const* out);
  void (*winograd_output32)(const std::int32_t* products, std::size_t stride, const std::int32_t* bias,
                            const Requantiser& requantiser, Channels channels, std::int32_t* const* out);
  // Scale indexes of any number of scales.
  void (*choose)(const std::int32_t* scales, std::size_t count, const Thresholds& thresholds, std::uint8_t* indexes);
  // symbol = (latent - mean + 1/2) rounded down, of a difference that comes nearer to zero by what `zones` says for its
  // scale index, >= 0; null rounds to the nearest.
  void (*quantise)(const std::int32_t* latents, const std::int32_t* means, const std::uint8_t* indexes,
                   const std::int32_t* zones, std::size_t count, std::int32_t* symbols);
  // latent = clip(symbol + mean), in units of 2^-6; any symbols. Those but 0 are moved away from zero by what `offsets`
  // says for their scale index; null: by nothing.
  void (*reconstruct)(const std::int32_t* symbols, const std::int32_t* means, const std::uint8_t* indexes,
                      const std::int32_t* offsets, std::size_t count, std::int32_t* latents);
  // GELU or SiLU in place of activations of channels [first, first + channels).
  void (*curve)(std::int16_t* x, const Curve& curve, std::size_t first, std::size_t channels, const TailLines& tail);
  // a times the logistic function of b, whose units the curve knows.
  void (*gate)(const std::int16_t* a, const std::int16_t* b, const Curve& curve, std::size_t channels,
               const TailLines& tail, std::int16_t* out);
  // Sums of a depthwise kernel of `count` taps over padded channels; taps outside the map point to zeros.
  void (*depthwise)(const std::int16_t* const* taps, std::size_t count, const std::int16_t* weights,
                    const std::int32_t* bias, std::size_t channels, std::int32_t* out);
  // (x << up)^2 in units of 2^15, rounded: the squares that GDN sums.
  void (*square)(const std::int16_t* x, std::size_t channels, std::int16_t up, std::int16_t* out);
  // x divided or multiplied by the root of its norm, times a factor; single IEEE operations, rounded once each.
  void (*normalise)(const std::int16_t* x, const std::int32_t* norms, const float* factors, std::size_t channels,
                    bool inverse, float limit, std::int16_t* out);
  // (a * left + b * right + 2^(shift - 1)) >> shift, clipped.
  void (*mix)(const std::int16_t* a, const std::int16_t* b, const std::int16_t* left, const std::int16_t* right,
              std::size_t channels, int shift, std::int32_t limit, std::int16_t* out);
  // Sums of a position's channels, brought to one unit, and of their squares.
  Moments (*moments)(const std::int16_t* x, const LevelParameters& parameters, std::size_t channels);
  // (x * scale - mean) * rate * factor + bias, clipped; single IEEE operations, rounded once each.
  void (*level)(const std::int16_t* x, const LevelParameters& parameters, std::size_t channels, float mean, float rate,
                std::int16_t* out);
  // Softmax weights of a window (fastlic/integers/windows.py).
  void (*weigh)(const Weighing& job, const TailLines& powers);
  // One panel of weighted sums, [rows][kPanel], as means: times `inverse`, then a channel's factor, clipped; rows of
  // outputs lie `stride` apart. Single IEEE operations.
  void (*means)(const std::int32_t* sums, const float* inverse, std::size_t rows, const float* factors, float limit,
                std::int16_t* out, std::size_t stride);
  bool planes = false;  // whether products run on tiles of AMX, and transformed tiles are planes of bytes for them
};

const Kernels& kernels(Isa isa) noexcept;

// A product of a map of transformed tiles, whose first row begins at number `at`.
inline GemmJob<std::int16_t> transformed_job(const Kernels& kernels, std::size_t at, std::size_t component,
                                             GemmJob<std::int16_t> job) {
  if (kernels.planes) {
    job.a = reinterpret_cast<const std::int16_t*>(reinterpret_cast<const std::uint8_t*>(job.a) + at);
    job.plane_bytes = component;
  } else {
    job.a += at;
  }
  return job;
}

// Symbols of a hostile stream are any int32. Beyond 2^23 the latent is clipped whatever the mean, so clipping the
// symbol first changes nothing and keeps all in int32.
constexpr std::int32_t kSymbolLimit = 1 << 23;
constexpr std::int64_t kBeyondSymbols = (1 << (kMaxWideBits - 1)) + kOffsetLimit;
static_assert(std::int64_t{kSymbolLimit} * (1 << kMeanBits) - kBeyondSymbols >= kLatentLimit);
static_assert(std::int64_t{kSymbolLimit} * (1 << kMeanBits) + kBeyondSymbols < (std::int64_t{1} << 31));

}  // namespace fastlic::nn

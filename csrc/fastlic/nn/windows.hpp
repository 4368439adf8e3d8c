// Steps of Swin-like networks: layer norm over the channels of a position, attention within windows, softmax over
// channels, and means over whole maps. The arithmetic is that of fastlic/integers/windows.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "fastlic/memory.hpp"
#include "fastlic/nn/convolve.hpp"
#include "fastlic/nn/kernels.hpp"
#include "fastlic/nn/layer.hpp"
#include "fastlic/nn/reader.hpp"

namespace fastlic::nn {

// (x - mean) / sqrt(variance + epsilon), times a factor, and a bias.
struct LayerNorm {
  std::size_t channels = 0;
  std::int64_t epsilon = 0;  // C^2 times it, in squares of the unit of sums
  LevelParameters parameters;
};

// Attention of the positions of a window to each other, from queries, keys and values of 3 C channels.
struct WindowAttention {
  std::size_t size = 1, offset = 0;  // windows of size x size begin at offset + k size
  std::size_t heads = 1, dims = 1;   // channels of each head
  std::size_t columns = 0;           // keys of a window, in whole panels
  Buffer<std::int32_t> bias;         // [heads][size^2 queries][columns]
  Buffer<float> sharpness;           // [heads]
  Buffer<float> factors;             // [C and one panel more]
  std::int32_t most = 0;             // what a sum of weights may be
  float limit = 0;

  std::size_t tokens() const noexcept { return size * size; }
  std::size_t channels() const noexcept { return heads * dims; }
};

// Softmax over each of several groups of channels that lie one after the other.
struct Softmax {
  std::size_t groups = 1, each = 1;  // channels of a group
  std::size_t columns = 0;           // the same in whole panels
  Buffer<float> sharpness;           // [groups]
  Buffer<float> factors;             // [groups][columns]
  Buffer<std::int32_t> present;      // [columns]
  float limit = 0;
};

// The mean of a map, at each of its positions.
struct MapMean {
  std::size_t channels = 0;
  Buffer<float> factors;  // [channels]
  float limit = 0;
};

// `numbers` are those of the step; `input` is the largest magnitude of what it reads, `output` becomes that of what it
// gives. Faults are std::invalid_argument.
LayerNorm read_layer_norm(const ArrayReader& arrays, const String& name, std::span<const std::uint8_t> numbers,
                          std::size_t channels, std::int32_t input, std::int32_t& output);
WindowAttention read_windows(const ArrayReader& arrays, const String& name, std::span<const std::uint8_t> numbers,
                             std::size_t channels, std::int32_t input, std::int32_t& output);

// What scores of a key have more, by its distance from the query in a window: [heads][size^2 queries][padded keys], of
// at most this magnitude.
Buffer<std::int32_t> read_window_bias(const ArrayReader& arrays, const String& name, std::size_t heads,
                                      std::size_t size, std::int64_t limit);

Softmax read_softmax(const ArrayReader& arrays, const String& name, std::span<const std::uint8_t> numbers,
                     std::size_t channels, std::int32_t& output);
MapMean read_map_mean(const ArrayReader& arrays, const String& name, std::span<const std::uint8_t> numbers,
                      std::size_t channels, std::int32_t& output);

// One position; `out` has padded channels.
void weigh(const Softmax& softmax, const TailLines& powers, const std::int16_t* x, std::int16_t* out,
           const Kernels& kernels);

// Of a whole map in memory, with padding.
Buffer<std::int16_t> mean_of(const MapMean& mean, const Source& x, Team& team);

// One position.
void normalise(const LayerNorm& norm, const std::int16_t* x, std::int16_t* out, const Kernels& kernels);

// Whole rows of windows, cut where the map ends.
void attend(const WindowAttention& windows, const TailLines& powers, const Source& x, const Target& out, Rows rows,
            const Tools& tools);

// Bytes that a thread keeps while it works on windows, at most.
std::uint64_t scratch_of(const WindowAttention& windows);

// The first row of the window that has this row, and the first one behind it, which may be beyond the map.
inline std::size_t window_start(const WindowAttention& windows, std::size_t row) {
  return row < windows.offset ? 0 : (row - windows.offset) / windows.size * windows.size + windows.offset;
}
inline std::size_t window_end(const WindowAttention& windows, std::size_t row) {
  return row < windows.offset ? windows.offset : window_start(windows, row) + windows.size;
}

}  // namespace fastlic::nn

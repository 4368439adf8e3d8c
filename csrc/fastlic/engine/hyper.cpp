#include "fastlic/engine/hyper.hpp"

#include <algorithm>
#include <cstring>

#include "fastlic/parallel.hpp"

namespace fastlic::engine {
namespace {

// Output positions (or tiles of them) multiplied together: enough to reuse a panel of weights from cache, few enough
// that their gathered or transformed inputs (up to 25 times some hundred channels) stay in L2.
constexpr std::size_t kTile = 48;

// At least `size` values that stay with the thread from call to call; one buffer per type.
template <typename T>
T* scratch(std::size_t size) {
  thread_local Buffer<T> buffer;
  if (buffer.size() < size) buffer.resize(size);
  return buffer.data();
}

// The inputs of one output position, tap after tap; outside the map lie zeros.
void gather(const Map<std::int16_t>& x, const std::vector<Offset>& taps, std::size_t u, std::size_t v,
            std::int16_t* out) {
  const std::size_t size = x.row_size;
  for (const Offset& tap : taps) {
    // Unsigned wrap-around makes negative coordinates large.
    const std::size_t row = u + static_cast<std::size_t>(tap.row), column = v + static_cast<std::size_t>(tap.column);
    if (row < x.height && column < x.width) {
      std::memcpy(out, x.at(row, column), size * sizeof *out);
    } else {
      std::memset(out, 0, size * sizeof *out);
    }
    out += size;
  }
}

template <typename Out>
using Requantise = void (*)(const std::int32_t*, const Requantiser&, Channels, Out*);

// Tap by tap: every output position gathers its inputs.
template <typename Out>
void convolve_direct(const Layer& layer, const Map<std::int16_t>& x, Map<Out>& out, Requantise<Out> requantise,
                     const Kernels& kernels, unsigned threads) {
  struct Tile {
    const Phase* phase;
    std::size_t columns, first, count;  // positions of the phase: raster over `columns`
  };
  std::vector<Tile> tiles;
  for (const Phase& phase : layer.phases) {
    if (phase.row >= out.height || phase.column >= out.width) continue;
    const std::size_t rows = (out.height - phase.row - 1) / layer.up + 1;
    const std::size_t columns = (out.width - phase.column - 1) / layer.up + 1;
    for (std::size_t first = 0; first < rows * columns; first += kTile) {
      tiles.push_back({&phase, columns, first, std::min(kTile, rows * columns - first)});
    }
  }
  parallel_for(tiles.size(), threads, [&](std::size_t index) {
    const Tile& tile = tiles[index];
    const PackedMatrix& weights = tile.phase->weights;
    std::int16_t* gathered = scratch<std::int16_t>(kTile * weights.depth);
    std::int32_t* sums = scratch<std::int32_t>(kTile * weights.columns);
    const std::int32_t* start[kTile];
    for (std::size_t i = 0; i < tile.count; ++i) {
      const std::size_t position = tile.first + i;
      gather(x, tile.phase->taps, position / tile.columns, position % tile.columns, gathered + i * weights.depth);
      start[i] = layer.bias_of(*tile.phase).data();
    }
    kernels.multiply(job_of(gathered, weights.depth, tile.count, weights, start, sums));
    for (std::size_t i = 0; i < tile.count; ++i) {
      const std::size_t position = tile.first + i;
      const std::size_t row = layer.up * (position / tile.columns) + tile.phase->row;
      const std::size_t column = layer.up * (position % tile.columns) + tile.phase->column;
      requantise(sums + i * weights.columns, layer.requantiser_of(*tile.phase), {0, weights.columns},
                 out.at(row, column));
    }
  });
}

// By Winograd's transform (winograd.hpp): 2x2 outputs of every phase share a 4x4 tile of inputs.
template <typename Out>
void convolve_winograd(const Layer& layer, const Map<std::int16_t>& x, Map<Out>& out, Requantise<Out> requantise,
                       const Kernels& kernels, unsigned threads) {
  const std::size_t size = x.row_size;
  // Tiles over the positions (u, v) that produce any output.
  const std::size_t across = ((out.width - 1) / layer.up + 2) / 2, down = ((out.height - 1) / layer.up + 2) / 2;
  const Buffer<std::int16_t> outside(size);
  const std::int32_t zeros[kPanel] = {};
  parallel_for((across * down + kTile - 1) / kTile, threads, [&](std::size_t chunk) {
    const std::size_t first = chunk * kTile, count = std::min(kTile, across * down - first);
    std::int16_t* transformed = scratch<std::int16_t>(kComponents * kTile * size);  // [component][tile][channels]
    std::int32_t* products = scratch<std::int32_t>(kComponents * kTile * kPanel);   // [component][tile][one panel]
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t u = 2 * ((first + i) / across), v = 2 * ((first + i) % across);
      const std::int16_t* tile[kComponents];
      for (std::size_t k = 0; k < kComponents; ++k) {
        const std::size_t row = u + k / 4 - 1, column = v + k % 4 - 1;  // -1 wraps to large
        tile[k] = row < x.height && column < x.width ? x.at(row, column) : outside.data();
      }
      kernels.winograd_input(tile, size, transformed + i * size, kTile * size);
    }
    const std::int32_t* start[kTile];
    std::fill_n(start, count, zeros);
    for (std::size_t p = 0; p < layer.phases.size(); ++p) {
      for (std::size_t k = 0; k < kComponents; ++k) {
        if (layer.winograd[p][k].depth == 0) std::fill_n(products + k * kTile * kPanel, count * kPanel, 0);
      }
      for (std::size_t panel = 0; panel < layer.bias.size(); panel += kPanel) {
        for (std::size_t k = 0; k < kComponents; ++k) {
          const WideMatrix& weights = layer.winograd[p][k];
          if (weights.depth == 0) continue;
          kernels.multiply_wide({transformed + k * kTile * size, size, count, &weights.data[panel * weights.depth],
                                 weights.depth, kPanel, start, products + k * kTile * kPanel});
        }
        for (std::size_t i = 0; i < count; ++i) {
          alignas(kLine) std::int32_t sums[4 * kPanel];
          const Phase& phase = layer.phases[p];
          kernels.winograd_output(products + i * kPanel, kTile * kPanel, &layer.bias_of(phase)[panel], sums);
          for (std::size_t corner = 0; corner < 4; ++corner) {
            const std::size_t u = 2 * ((first + i) / across) + corner / 2, v = 2 * ((first + i) % across) + corner % 2;
            const std::size_t row = layer.up * u + phase.row, column = layer.up * v + phase.column;
            if (row >= out.height || column >= out.width) continue;
            requantise(sums + corner * kPanel, layer.requantiser_of(phase), {panel, panel + kPanel},
                       out.at(row, column) + panel);
          }
        }
      }
    }
  });
}

// One layer over the map; the output is cut off at height x width.
template <typename Out>
Map<Out> convolve(const Layer& layer, const Map<std::int16_t>& x, std::size_t height, std::size_t width,
                  Requantise<Out> requantise, const Kernels& kernels, unsigned threads) {
  Map<Out> out(height, width, layer.outputs);
  if (layer.winograd.empty()) {
    convolve_direct(layer, x, out, requantise, kernels, threads);
  } else {
    convolve_winograd(layer, x, out, requantise, kernels, threads);
  }
  return out;
}

Map<std::int16_t> all_but_last(const Model& model, Map<std::int16_t> x, const Kernels& kernels, unsigned threads) {
  for (std::size_t i = 0; i + 1 < model.hyper.size(); ++i) {
    const Layer& layer = model.hyper[i];
    x = convolve(layer, x, x.height * layer.up, x.width * layer.up, kernels.requantise16, kernels, threads);
  }
  return x;
}

}  // namespace

Map<std::int16_t> hyper_input(const Model& model, const std::int32_t* z, std::size_t rows, std::size_t columns,
                              const Kernels& kernels) {
  const std::size_t channels = model.hyper_channels();
  Map<std::int16_t> x(rows, columns, channels);
  Buffer<std::int32_t> latent(x.row_size);
  for (std::size_t position = 0; position < rows * columns; ++position) {
    for (std::size_t c = 0; c < channels; ++c) {
      const std::int64_t value = (std::int64_t{z[position * channels + c]} << kMeanBits) + model.z_median[c];
      latent[c] = static_cast<std::int32_t>(std::clamp<std::int64_t>(value, -kLatentLimit, kLatentLimit));
    }
    kernels.requantise16(latent.data(), model.z_input, {0, x.row_size}, x.at(0, position));
  }
  return x;
}

Map<std::int16_t> hyper_features(const Model& model, Map<std::int16_t> x, std::size_t height, std::size_t width,
                                 const Kernels& kernels, unsigned threads) {
  x = all_but_last(model, std::move(x), kernels, threads);
  return convolve(model.hyper.back(), x, height, width, kernels.requantise16, kernels, threads);
}

Map<std::int32_t> hyper_head(const Model& model, Map<std::int16_t> x, std::size_t height, std::size_t width,
                             const Kernels& kernels, unsigned threads) {
  x = all_but_last(model, std::move(x), kernels, threads);
  return convolve(model.hyper.back(), x, height, width, kernels.requantise32, kernels, threads);
}

}  // namespace fastlic::engine

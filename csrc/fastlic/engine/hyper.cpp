#include "fastlic/engine/hyper.hpp"

#include <algorithm>
#include <cstring>

#include "fastlic/parallel.hpp"

namespace fastlic::engine {
namespace {

// Output positions gathered and multiplied together: enough to reuse a panel of weights from cache, few enough that
// their gathered inputs (up to 25 taps of some hundred channels) stay in L2.
constexpr std::size_t kTile = 48;

// The inputs of one output position, tap after tap; outside the map lie zeros.
void gather(const Map<std::int16_t>& x, const std::vector<Offset>& taps, std::size_t u, std::size_t v, std::int16_t* out) {
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

// One layer over the map; the output is cut off at height x width.
template <typename Out>
Map<Out> convolve(const Layer& layer, const Map<std::int16_t>& x, std::size_t height, std::size_t width,
                  void (*requantise)(const std::int32_t*, const Requantiser&, Out*), const Kernels& kernels,
                  unsigned threads) {
  Map<Out> out(height, width, layer.outputs);
  struct Tile {
    const Phase* phase;
    std::size_t columns, first, count;  // positions of the phase: raster over `columns`
  };
  std::vector<Tile> tiles;
  for (const Phase& phase : layer.phases) {
    if (phase.row >= height || phase.column >= width) continue;
    const std::size_t rows = (height - phase.row - 1) / layer.up + 1;
    const std::size_t columns = (width - phase.column - 1) / layer.up + 1;
    for (std::size_t first = 0; first < rows * columns; first += kTile) {
      tiles.push_back({&phase, columns, first, std::min(kTile, rows * columns - first)});
    }
  }
  parallel_for(tiles.size(), threads, [&](std::size_t index) {
    const Tile& tile = tiles[index];
    const PackedMatrix& weights = tile.phase->weights;
    // Per thread, kept between tiles: the gathered inputs are the engine's largest scratch.
    thread_local Buffer<std::int16_t> gathered;
    thread_local Buffer<std::int32_t> sums;
    gathered.resize(std::max(gathered.size(), kTile * weights.depth));
    sums.resize(std::max(sums.size(), kTile * weights.columns));
    const std::int32_t* start[kTile];
    for (std::size_t i = 0; i < tile.count; ++i) {
      const std::size_t position = tile.first + i;
      gather(x, tile.phase->taps, position / tile.columns, position % tile.columns, &gathered[i * weights.depth]);
      start[i] = layer.bias.data();
    }
    kernels.multiply({gathered.data(), weights.depth, tile.count, &weights, start, sums.data()});
    for (std::size_t i = 0; i < tile.count; ++i) {
      const std::size_t position = tile.first + i;
      const std::size_t row = layer.up * (position / tile.columns) + tile.phase->row;
      const std::size_t column = layer.up * (position % tile.columns) + tile.phase->column;
      requantise(&sums[i * weights.columns], layer.requantiser, out.at(row, column));
    }
  });
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
    kernels.requantise16(latent.data(), model.z_input, x.at(0, position));
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

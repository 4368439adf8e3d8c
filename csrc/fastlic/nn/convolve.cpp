#include "fastlic/nn/convolve.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "fastlic/nn/tiles.hpp"

namespace fastlic::nn {
namespace {

// Output positions (or tiles of them) multiplied together: enough to reuse a panel of weights from cache, few enough
// that their gathered or transformed inputs stay in L2.
constexpr std::size_t kTile = 48;

void bend(const Layer& layer, Channels channels, std::int16_t* out, const Tools& tools) {
  if (layer.curve.empty()) return;
  const std::size_t count = channels.last - channels.first;
  tools.kernels.curve(out, layer.curve, channels.first, count, tools.tail_of(layer.curve));
}
void bend(const Layer&, Channels, std::int32_t*, const Tools&) {}  // only activations have curves

void finish(const Layer& layer, const Requantiser& requantiser, const std::int32_t* sums, Channels channels,
            std::int16_t* out, const Tools& tools) {
  tools.kernels.requantise16(sums, requantiser, channels, out);
  bend(layer, channels, out, tools);
}
void finish(const Layer&, const Requantiser& requantiser, const std::int32_t* sums, Channels channels,
            std::int32_t* out, const Tools& tools) {
  tools.kernels.requantise32(sums, requantiser, channels, out);
}

// Where a layer reads what it asks for outside of a map of `size`: the same place inside, or, by reflection, another
// one.
std::size_t inside(const Layer& layer, std::size_t at, std::size_t size) {
  if (!layer.reflect || at < size) return at;
  return at + size < size ? std::size_t{0} - at : 2 * (size - 1) - at;  // below zero: wrapped to large
}

// Whether `count` taps from `first` on follow each other in one row of x without a gap.
bool follow(const Part& part, const Source& x, std::size_t first, std::size_t count, std::size_t row,
            std::size_t column) {
  return x.has(row, column) && column + count <= x.width && first + count <= part.taps.size();
}

// In whole half panels, of which both sides have the room.
void copy_channels(std::int16_t* to, const std::int16_t* from, std::size_t count) {
  for (std::size_t c = 0; c < count; c += kHalfPanel) __builtin_memcpy(to + c, from + c, kHalfPanel * sizeof *to);
}

// What the taps around (u, v) read; `to` has room for half a panel more.
void gather(const Layer& layer, const Part& part, const Source& x, std::size_t u, std::size_t v, std::int16_t* to) {
  const std::size_t depth = layer.depth;
  for (std::size_t t = 0; t < part.taps.size();) {
    const Offset& tap = part.taps[t];
    // Unsigned wrap-around makes negative coordinates large.
    const std::size_t r = u + static_cast<std::size_t>(tap.row), c = v + static_cast<std::size_t>(tap.column);
    std::size_t count = 1;
    if (depth == x.stride) {  // a row of taps lies together, unless it is cut off
      while (t + count < part.taps.size() && part.taps[t + count].row == tap.row &&
             part.taps[t + count].column == tap.column + static_cast<int>(count)) {
        ++count;
      }
      if (!follow(part, x, t, count, r, c)) count = 1;
    }
    const std::size_t row = inside(layer, r, x.height), column = inside(layer, c, x.width);
    if (x.has(row, column)) {
      copy_channels(to, x.at(row, column), count * depth);
    } else {
      std::memset(to, 0, count * depth * sizeof *to);
    }
    to += count * depth;
    t += count;
  }
}

// The sums of `rows` rows of inputs, layer.columns() apart.
void multiply(const Layer& layer, const Part& part, const std::int16_t* a, std::size_t a_stride, std::size_t rows,
              const std::int32_t* const* start, std::int32_t* sums, const Tools& tools) {
  const std::size_t columns = layer.columns();
  if (part.wide.depth > 0) {
    tools.kernels.multiply_wide(
        {a, a_stride, rows, part.wide.data.data(), part.wide.depth, layer.multiplied(), start, sums, columns});
  } else {
    tools.kernels.multiply(
        {a, a_stride, rows, part.weights.data.data(), part.weights.depth, layer.computed(), start, sums, columns});
  }
}

// Outputs of a merged layer, which belong at (row, column) and the three positions next to it.
template <typename T, typename Within>
void spread(const Layer& layer, const T* values, const View<T>& out, std::size_t row, std::size_t column,
            const Within& within) {
  const std::size_t line = layer.up * layer.outputs;
  for (std::size_t r = 0; r < layer.up; ++r) {
    if (out.stride == layer.outputs && within(row + r, column + layer.up - 1)) {  // one behind the other
      std::copy_n(values + r * line, line, out.at(row + r, column));
      continue;
    }
    for (std::size_t c = 0; c < layer.up; ++c) {
      const T* from = values + r * line + c * layer.outputs;
      if (within(row + r, column + c)) std::copy_n(from, layer.outputs, out.at(row + r, column + c));
    }
  }
}

// Tap by tap at `count` positions: from(i) is the position that the taps of output i surround, and finish_row(i, sums)
// takes its sums.
template <typename From, typename FinishRow>
void multiply_taps(const Layer& layer, const Part& part, const Source& x, std::size_t count, const From& from,
                   const FinishRow& finish_row, const Tools& tools) {
  parallel_for((count + kTile - 1) / kTile, tools.team, [&](std::size_t chunk) {
    const std::size_t first = chunk * kTile, rows = std::min(kTile, count - first);
    const std::size_t depth = std::max(part.weights.depth, part.wide.depth);
    std::int32_t* sums = scratch<std::int32_t>(kTile * layer.columns());
    std::int16_t* gathered = scratch<std::int16_t>(kTile * depth + kHalfPanel);
    const std::int32_t* start[kTile];
    std::fill_n(start, rows, part.bias.data());
    for (std::size_t i = 0; i < rows; ++i) {
      const auto [u, v] = from(first + i);
      gather(layer, part, x, u, v, gathered + i * depth);
    }
    multiply(layer, part, gathered, depth, rows, start, sums, tools);
    for (std::size_t i = 0; i < rows; ++i) finish_row(first + i, sums + i * layer.columns());
  });
}

struct Position {
  std::size_t row, column;
};

// Rows of a map that `up` times as many rows of outputs come from: those whose first output is in `rows`, or any if all
// of them belong together.
Rows sources(const Layer& layer, std::size_t shift, std::size_t height, Rows rows) {
  const std::size_t up = layer.up, last = std::min(rows.last, height);
  const auto above = [&](std::size_t row) { return row > shift ? (row - shift + up - 1) / up : 0; };
  return layer.merged ? Rows{rows.first / up, (last + up - 1) / up} : Rows{above(rows.first), above(last)};
}

template <typename T>
void convolve_direct(const Layer& layer, const Part& part, const Source& x, const View<T>& out, Rows rows,
                     const Tools& tools) {
  if (part.column >= out.width) return;
  const Rows from = sources(layer, part.row, out.height, rows);
  if (from.first >= from.last) return;
  const std::size_t columns = (out.width - part.column - 1) / layer.up + 1;
  const auto within = [&](std::size_t r, std::size_t c) {
    return r >= rows.first && r < std::min(rows.last, out.height) && c < out.width;
  };
  multiply_taps(
      layer, part, x, (from.last - from.first) * columns,
      [&](std::size_t i) { return Position{layer.down * (from.first + i / columns), layer.down * (i % columns)}; },
      [&](std::size_t i, const std::int32_t* sums) {
        const std::size_t row = layer.up * (from.first + i / columns) + part.row;
        const std::size_t column = layer.up * (i % columns) + part.column;
        const Channels all{0, layer.computed()};
        if (!layer.merged) return finish(layer, part.requantiser, sums, all, out.at(row, column), tools);
        T values[kPanel];
        finish(layer, part.requantiser, sums, all, values, tools);
        spread(layer, values, out, row, column, within);
      },
      tools);
}

// By Winograd's transform: 2x2 outputs of every part share tiles of 4x4 inputs, and so do the pieces of a kernel larger
// than 3x3. A block of outputs is worked on together; its tiles are `splits` - 1 more in both directions.
template <typename T>
void convolve_winograd(const Layer& layer, const Source& x, const View<T>& out, Rows asked, const Tools& tools) {
  const std::size_t size = layer.depth, unit = layer.phases * size, more = layer.splits - 1;
  const Rows rows_out{asked.first, std::min(asked.last, out.height)};
  if (rows_out.first >= rows_out.last) return;
  // In tiles.
  const std::size_t begin = rows_out.first / layer.up / 2, end = ((rows_out.last - 1) / layer.up + 2) / 2;
  const std::size_t across = ((out.width - 1) / layer.up + 2) / 2, down = end - begin;
  const std::size_t block_width = std::min(across, kTile / 2),
                    block_height = std::max<std::size_t>(kTile / block_width, 1);
  const std::size_t blocks_across = (across + block_width - 1) / block_width;
  const std::size_t blocks_down = (down + block_height - 1) / block_height;
  const Buffer<std::int16_t> outside(padded(size));
  const std::int32_t zeros[kPanel] = {};
  const auto within = [&](std::size_t r, std::size_t c) {
    return r >= rows_out.first && r < rows_out.last && c < out.width;
  };
  parallel_for(blocks_across * blocks_down, tools.team, [&](std::size_t block) {
    const std::size_t left = block % blocks_across * block_width, above = block / blocks_across * block_height;
    const std::size_t wide = std::min(block_width, across - left), high = std::min(block_height, down - above);
    const std::size_t top = begin + above;
    const std::size_t line = wide + more, tiles = line * (high + more);  // of inputs
    // Products of all tiles of a line, the last ones of which mean nothing: so a block is one matrix.
    const std::size_t rows = line * high - more;
    const std::size_t component = TransformedTile::component_of(tiles, unit);
    std::int16_t* transformed = scratch<std::int16_t>(TransformedTile::all_of(tiles, unit));  // [component][tile][unit]
    std::int32_t* products = scratch<std::int32_t>(kComponents * rows * kPanel);  // [component][row][one panel]
    for (std::size_t i = 0; i < tiles; ++i) {
      const std::size_t u = 2 * (top + i / line) - layer.splits, v = 2 * (left + i % line) - layer.splits;
      for (std::size_t phase = 0; phase < layer.phases; ++phase) {
        const std::int16_t* tile[kComponents];
        std::size_t columns[4];
        for (std::size_t k = 0; k < 4; ++k) {  // below zero wraps to large
          columns[k] = inside(layer, layer.down * (v + k) + phase % 2, x.width);
        }
        for (std::size_t k = 0; k < 4; ++k) {
          const std::size_t row = inside(layer, layer.down * (u + k) + phase / 2, x.height);
          const std::int16_t* begin = x.has(row, 0) ? x.at(row, 0) : nullptr;
          for (std::size_t j = 0; j < 4; ++j) {
            const bool there = begin != nullptr && columns[j] < x.width;
            tile[4 * k + j] = there ? begin + columns[j] * x.stride : outside.data();
          }
        }
        tools.kernels.winograd_input(tile, size, {transformed, i * unit + phase * size, component});
      }
    }
    Buffer<const std::int32_t*> start(rows, zeros), again(rows);
    const ReadyTiles ready(tools.kernels);
    for (const Part& part : layer.parts) {
      for (std::size_t panel = 0; panel < layer.computed(); panel += kPanel) {
        const std::size_t columns = std::min(kPanel, layer.computed() - panel);
        const std::size_t outputs = std::min(kPanel, layer.multiplied() - panel);
        for (std::size_t k = 0; k < kComponents; ++k) {
          std::int32_t* own = products + k * rows * kPanel;
          bool begun = false;
          for (const Strip& strip : part.strips[k]) {
            if (begun) {
              for (std::size_t i = 0; i < rows; ++i) again[i] = own + i * kPanel;
            }
            const std::size_t depth = strip.weights.depth;
            tools.kernels.multiply_wide(
                transformed_job(tools.kernels, strip.row * line * unit + strip.at, component,
                                {transformed + k * component, unit, rows, &strip.weights.data[panel * depth], depth,
                                 outputs, begun ? again.data() : start.data(), own, kPanel}));
            begun = true;
          }
          if (!begun && panel == 0) std::fill_n(own, rows * kPanel, 0);  // which no later panel writes
        }
        const Channels channels{panel, panel + columns};
        const auto finish_tile = [&](const std::int32_t* own, const std::int32_t* bias, T* const* to) {
          if constexpr (sizeof(T) == sizeof(std::int16_t)) {
            tools.kernels.winograd_output16(own, rows * kPanel, bias, part.requantiser, channels, to);
          } else {
            tools.kernels.winograd_output32(own, rows * kPanel, bias, part.requantiser, channels, to);
          }
        };
        // visit(tile, where its outputs belong, row by row).
        const auto each_tile = [&](const auto& visit) {
          for (std::size_t r = 0; r < high; ++r) {
            for (std::size_t c = 0; c < wide; ++c) {
              const std::size_t up = layer.up, row = 2 * up * (top + r) + part.row;
              const std::size_t column = 2 * up * (left + c) + part.column;
              visit(r * line + c,
                    std::array<Position, 4>{
                        {{row, column}, {row, column + up}, {row + up, column}, {row + up, column + up}}});
            }
          }
        };
        T values[4 * kPanel];  // of merged layers, and what lies outside
        each_tile([&](std::size_t i, const std::array<Position, 4>& where) {
          T* to[4];
          for (std::size_t k = 0; k < 4; ++k) {
            const auto [row, column] = where[k];
            to[k] = layer.merged || !within(row, column) ? values + k * kPanel : out.at(row, column) + panel;
          }
          finish_tile(products + i * kPanel, &part.bias[panel], to);
          for (std::size_t k = 0; k < 4 && layer.merged; ++k) {
            bend(layer, channels, to[k], tools);
            spread(layer, to[k], out, where[k].row, where[k].column, within);
          }
        });
        if (layer.curve.empty() || layer.merged) continue;
        // In a loop of its own: reading a row right behind the two stores that wrote it would wait for them.
        each_tile([&](std::size_t, const std::array<Position, 4>& where) {
          for (const auto [row, column] : where) {
            if (within(row, column)) bend(layer, {panel, panel + kPanel}, out.at(row, column) + panel, tools);
          }
        });
      }
    }
  });
}

// 1x1 layers read rows where they lie.
template <typename T>
void convolve_dense(const Layer& layer, const Source& x, const View<T>& out, Rows rows, const Tools& tools) {
  const std::size_t positions = (std::min(rows.last, x.height) - rows.first) * x.width;
  const std::int16_t* from = x.at(rows.first, 0);
  T* to = out.at(rows.first, 0);
  parallel_for((positions + kTile - 1) / kTile, tools.team, [&](std::size_t chunk) {
    const std::size_t first = chunk * kTile, count = std::min(kTile, positions - first);
    apply(layer, from + first * x.stride, x.stride, count, to + first * out.stride, out.stride, tools);
  });
}

}  // namespace

std::uint64_t scratch_of(const Layer& layer) {
  if (layer.splits > 0) {
    // Of a map one tile wide, as convolve_winograd has it: no block has more.
    const std::uint64_t more = layer.splits - 1, tiles = (1 + more) * (kTile + more);
    const std::uint64_t unit = layer.phases * layer.depth;
    return TransformedTile::all_of(tiles, unit) * sizeof(std::int16_t) +
           kComponents * tiles * kPanel * sizeof(std::int32_t) + tile_scratch(0, unit * layer.splits);
  }
  std::uint64_t depth = 0;
  for (const Part& part : layer.parts) depth = std::max<std::uint64_t>(depth, part.taps.size() * layer.depth);
  return kTile * (layer.columns() * sizeof(std::int32_t) + depth * sizeof(std::int16_t)) + kPanel +
         tile_scratch(kTile, std::max<std::uint64_t>(depth, layer.depth));
}

double work_of(const Layer& layer, std::size_t outputs) {
  const auto size = [](const auto& matrix) { return static_cast<double>(matrix.depth * matrix.columns); };
  double work = 0;  // of a position before sizes are multiplied
  for (const Part& part : layer.parts) {
    work += size(part.weights) + 2 * size(part.wide);
    // Multiplied once for 2 x 2 positions.
    for (const auto& component : part.strips) {
      for (const Strip& strip : component) work += 2 * size(strip.weights) / 4;
    }
  }
  return work * static_cast<double>(outputs) / static_cast<double>(layer.up * layer.up);
}

template <typename T>
void convolve(const Layer& layer, const Source& x, const View<T>& out, const Tools& tools, Rows rows) {
  if (layer.splits > 0) {
    convolve_winograd(layer, x, out, rows, tools);
  } else if (layer.up == layer.down && layer.parts[0].taps.size() == 1 && x.height == out.height &&
             x.width == out.width) {
    convolve_dense(layer, x, out, rows, tools);
  } else {
    for (const Part& part : layer.parts) convolve_direct(layer, part, x, out, rows, tools);
  }
}

template void convolve(const Layer&, const Source&, const Target&, const Tools&, Rows);
template void convolve(const Layer&, const Source&, const Head&, const Tools&, Rows);

void convolve_at(const Layer& layer, const Source& x, std::span<const std::size_t> where, const Target& out,
                 const Tools& tools) {
  multiply_taps(
      layer, layer.parts[0], x, where.size(),
      [&](std::size_t i) { return Position{where[i] / x.width, where[i] % x.width}; },
      [&](std::size_t i, const std::int32_t* sums) {
        finish(layer, layer.parts[0].requantiser, sums, {0, layer.columns()}, out.at(where[i]), tools);
      },
      tools);
}

void convolve(const Depthwise& layer, const Source& x, const Target& out, const Tools& tools, Rows rows) {
  const std::size_t channels = padded(layer.channels);
  const Buffer<std::int16_t> outside(channels);
  const std::size_t side = layer.side, reach = layer.reach(), count = side * side;
  parallel_for(rows.last - rows.first, tools.team, [&](std::size_t i) {
    const std::size_t row = rows.first + i;
    std::int32_t* sums = scratch<std::int32_t>(channels);
    const std::int16_t** taps = scratch<const std::int16_t*>(count);
    for (std::size_t column = 0; column < x.width; ++column) {
      for (std::size_t t = 0, r = row - reach; r != row + reach + 1; ++r) {  // below 0 wraps to large
        for (std::size_t c = column - reach; c != column + reach + 1; ++c, ++t) {
          taps[t] = r < x.height && c < x.width ? x.at(r, c) : outside.data();
        }
      }
      tools.kernels.depthwise(taps, count, layer.weights.data(), layer.bias.data(), channels, sums);
      std::int16_t* to = out.at(row, column);
      tools.kernels.requantise16(sums, layer.requantiser, {0, channels}, to);
      if (!layer.curve.empty()) tools.kernels.curve(to, layer.curve, 0, channels, tools.tail_of(layer.curve));
    }
  });
}

template <typename T>
void apply(const Layer& layer, const std::int16_t* a, std::size_t a_stride, std::size_t rows, T* out,
           std::size_t out_stride, const Tools& tools) {
  const Part& part = layer.parts[0];
  std::int32_t* sums = scratch<std::int32_t>(kTile * layer.columns());
  const std::int32_t* start[kTile];
  std::fill_n(start, std::min(rows, kTile), part.bias.data());
  for (std::size_t first = 0; first < rows; first += kTile) {
    const std::size_t count = std::min(kTile, rows - first);
    multiply(layer, part, a + first * a_stride, a_stride, count, start, sums, tools);
    for (std::size_t i = 0; i < count; ++i) {
      const std::int32_t* own = sums + i * layer.columns();
      finish(layer, part.requantiser, own, {0, layer.computed()}, out + (first + i) * out_stride, tools);
    }
  }
}

template void apply(const Layer&, const std::int16_t*, std::size_t, std::size_t, std::int16_t*, std::size_t,
                    const Tools&);
template void apply(const Layer&, const std::int16_t*, std::size_t, std::size_t, std::int32_t*, std::size_t,
                    const Tools&);

void activate(const std::int32_t* numbers, const Requantiser& requantiser, std::int16_t* out, const Kernels& kernels) {
  const std::size_t columns = padded(requantiser.channels);
  std::int32_t* row = scratch<std::int32_t>(columns);
  std::fill(std::copy_n(numbers, requantiser.channels, row), row + columns, 0);
  kernels.requantise16(row, requantiser, {0, columns}, out);
}

void hyper_input(const std::int32_t* z, std::span<const std::int32_t> medians, const Requantiser& requantiser,
                 const Target& out, Rows rows, const Tools& tools) {
  const std::size_t n = medians.size();
  Buffer<std::int32_t> latent(n);
  for (std::size_t p = rows.first * out.width; p < rows.last * out.width; ++p) {
    for (std::size_t c = 0; c < n; ++c) {
      const std::int64_t value = std::int64_t{z[p * n + c]} * (1 << kMeanBits) + medians[c];
      latent[c] = static_cast<std::int32_t>(std::clamp<std::int64_t>(value, -kLatentLimit, kLatentLimit));
    }
    activate(latent.data(), requantiser, out.at(p), tools.kernels);
  }
}

}  // namespace fastlic::nn

#include "fastlic/nn/convolve.hpp"

#include <algorithm>
#include <cstring>

namespace fastlic::nn {
namespace {

// Output positions (or tiles of them) multiplied together: enough to reuse a panel of weights from cache, few enough
// that their gathered or transformed inputs stay in L2.
constexpr std::size_t kTile = 48;

// At least `size` values that stay with the thread from call to call; one buffer per type.
template <typename T>
T* scratch(std::size_t size) {
  thread_local Buffer<T> buffer;
  if (buffer.size() < size) buffer.resize(size);
  return buffer.data();
}

void finish(const Layer& layer, const Requantiser& requantiser, const std::int32_t* sums, Channels channels,
            std::int16_t* out, const Tools& tools) {
  tools.kernels.requantise16(sums, requantiser, channels, out);
  if (!layer.gelu.empty()) {
    tools.kernels.gelu(out, layer.gelu, channels.first, channels.last - channels.first, tools.tail);
  }
}

void finish(const Layer&, const Requantiser& requantiser, const std::int32_t* sums, Channels channels,
            std::int32_t* out, const Tools& tools) {
  tools.kernels.requantise32(sums, requantiser, channels, out);
}

// What the taps around (u, v) read, zeros outside the map.
void gather(const Layer& layer, const Part& part, const Source& x, std::size_t u, std::size_t v, std::int16_t* to) {
  for (const Offset& tap : part.taps) {
    // Unsigned wrap-around makes negative coordinates large.
    const std::size_t r = u + static_cast<std::size_t>(tap.row), c = v + static_cast<std::size_t>(tap.column);
    if (r < x.height && c < x.width) {
      std::memcpy(to, x.at(r, c), layer.depth * sizeof *to);
    } else {
      std::memset(to, 0, layer.depth * sizeof *to);
    }
    to += layer.depth;
  }
}

// Tap by tap at `count` positions: place(i) is where output i lies, from(i) the position that its taps surround.
template <typename From, typename Place>
void multiply_taps(const Layer& layer, const Part& part, const Source& x, std::size_t count, const From& from,
                   const Place& place, const Tools& tools) {
  parallel_for((count + kTile - 1) / kTile, tools.team, [&](std::size_t chunk) {
    const std::size_t first = chunk * kTile, rows = std::min(kTile, count - first), depth = part.weights.depth;
    std::int32_t* sums = scratch<std::int32_t>(kTile * layer.columns());
    std::int16_t* gathered = scratch<std::int16_t>(kTile * depth);
    const std::int32_t* start[kTile];
    std::fill_n(start, rows, part.bias.data());
    for (std::size_t i = 0; i < rows; ++i) {
      const auto [u, v] = from(first + i);
      gather(layer, part, x, u, v, gathered + i * depth);
    }
    tools.kernels.multiply({gathered, depth, rows, part.weights.data.data(), depth, layer.columns(), start, sums});
    for (std::size_t i = 0; i < rows; ++i) {
      finish(layer, part.requantiser, sums + i * layer.columns(), {0, layer.columns()}, place(first + i), tools);
    }
  });
}

struct Position {
  std::size_t row, column;
};

template <typename T>
void convolve_direct(const Layer& layer, const Part& part, const Source& x, const View<T>& out, const Tools& tools) {
  if (part.row >= out.height || part.column >= out.width) return;
  const std::size_t rows = (out.height - part.row - 1) / layer.up + 1;
  const std::size_t columns = (out.width - part.column - 1) / layer.up + 1;
  multiply_taps(
      layer, part, x, rows * columns,
      [&](std::size_t i) { return Position{layer.down * (i / columns), layer.down * (i % columns)}; },
      [&](std::size_t i) {
        return out.at(layer.up * (i / columns) + part.row, layer.up * (i % columns) + part.column);
      },
      tools);
}

// By Winograd's transform: 2x2 outputs of every part share tiles of 4x4 inputs, and so do the pieces of a kernel larger
// than 3x3. A block of outputs is worked on together; its tiles are `splits` - 1 more in both directions.
template <typename T>
void convolve_winograd(const Layer& layer, const Source& x, const View<T>& out, const Tools& tools) {
  const std::size_t size = layer.depth, more = layer.splits - 1;
  const std::size_t across = ((out.width - 1) / layer.up + 2) / 2, down = ((out.height - 1) / layer.up + 2) / 2;
  const std::size_t block_width = std::min(across, kTile / 2),
                    block_height = std::max<std::size_t>(kTile / block_width, 1);
  const std::size_t blocks_across = (across + block_width - 1) / block_width;
  const std::size_t blocks_down = (down + block_height - 1) / block_height;
  const Buffer<std::int16_t> outside(size);
  const std::int32_t zeros[kPanel] = {};
  parallel_for(blocks_across * blocks_down, tools.team, [&](std::size_t block) {
    const std::size_t left = block % blocks_across * block_width, top = block / blocks_across * block_height;
    const std::size_t wide = std::min(block_width, across - left), high = std::min(block_height, down - top);
    const std::size_t line = wide + more, tiles = line * (high + more);  // of inputs
    // Products of all tiles of a line, the last ones of which mean nothing: so a block is one matrix.
    const std::size_t rows = line * high - more;
    std::int16_t* transformed = scratch<std::int16_t>(kComponents * tiles * size);  // [component][tile][channels]
    std::int32_t* products = scratch<std::int32_t>(kComponents * rows * kPanel);    // [component][row][one panel]
    for (std::size_t i = 0; i < tiles; ++i) {
      const std::size_t u = 2 * (top + i / line) - layer.splits, v = 2 * (left + i % line) - layer.splits;
      const std::int16_t* tile[kComponents];
      for (std::size_t k = 0; k < kComponents; ++k) {
        const std::size_t row = u + k / 4, column = v + k % 4;  // below zero wraps to large
        tile[k] = row < x.height && column < x.width ? x.at(row, column) : outside.data();
      }
      tools.kernels.winograd_input(tile, size, transformed + i * size, tiles * size);
    }
    Buffer<const std::int32_t*> start(rows, zeros), again(rows);
    for (const Part& part : layer.parts) {
      for (std::size_t panel = 0; panel < layer.columns(); panel += kPanel) {
        for (std::size_t k = 0; k < kComponents; ++k) {
          std::int32_t* own = products + k * rows * kPanel;
          bool begun = false;
          for (std::size_t r = 0; r < layer.splits; ++r) {
            const WideMatrix& weights = part.pieces[r].weights[k];
            if (weights.depth == 0) continue;
            if (begun) {
              for (std::size_t i = 0; i < rows; ++i) again[i] = own + i * kPanel;
            }
            const std::int16_t* a = transformed + (k * tiles + r * line + part.pieces[r].first[k]) * size;
            tools.kernels.multiply_wide({a, size, rows, &weights.data[panel * weights.depth], weights.depth, kPanel,
                                         begun ? again.data() : start.data(), own});
            begun = true;
          }
          if (!begun) std::fill_n(own, rows * kPanel, 0);
        }
        const auto each_corner = [&](std::size_t i, const auto& visit) {
          for (std::size_t corner = 0; corner < 4; ++corner) {
            const std::size_t u = 2 * (top + i / line) + corner / 2, v = 2 * (left + i % line) + corner % 2;
            const std::size_t row = layer.up * u + part.row, column = layer.up * v + part.column;
            if (i % line < wide && row < out.height && column < out.width) visit(corner, out.at(row, column) + panel);
          }
        };
        const Channels channels{panel, panel + kPanel};
        for (std::size_t i = 0; i < rows; ++i) {
          alignas(kLine) std::int32_t sums[4 * kPanel];
          tools.kernels.winograd_output(products + i * kPanel, rows * kPanel, &part.bias[panel], sums);
          each_corner(i, [&](std::size_t corner, T* to) {
            if constexpr (sizeof(T) == sizeof(std::int16_t)) {
              tools.kernels.requantise16(sums + corner * kPanel, part.requantiser, channels, to);
            } else {
              tools.kernels.requantise32(sums + corner * kPanel, part.requantiser, channels, to);
            }
          });
        }
        if constexpr (sizeof(T) == sizeof(std::int16_t)) {
          if (layer.gelu.empty()) continue;
          // In a loop of its own: reading a row right behind the two stores that wrote it would wait for them.
          for (std::size_t i = 0; i < rows; ++i) {
            each_corner(i, [&](std::size_t, T* to) { tools.kernels.gelu(to, layer.gelu, panel, kPanel, tools.tail); });
          }
        }
      }
    }
  });
}

template <typename Finish>
void multiply_rows(const Layer& layer, const std::int16_t* a, std::size_t a_stride, std::size_t rows,
                   const Tools& tools, const Finish& finish_row) {
  const Part& part = layer.parts[0];
  std::int32_t* sums = scratch<std::int32_t>(kTile * layer.columns());
  const std::int32_t* start[kTile];
  std::fill_n(start, std::min(rows, kTile), part.bias.data());
  for (std::size_t first = 0; first < rows; first += kTile) {
    const std::size_t count = std::min(kTile, rows - first);
    tools.kernels.multiply({a + first * a_stride, a_stride, count, part.weights.data.data(), part.weights.depth,
                            layer.columns(), start, sums});
    for (std::size_t i = 0; i < count; ++i) finish_row(first + i, sums + i * layer.columns());
  }
}

// 1x1 layers read rows where they lie.
template <typename T>
void convolve_dense(const Layer& layer, const Source& x, const View<T>& out, const Tools& tools) {
  parallel_for((x.positions() + kTile - 1) / kTile, tools.team, [&](std::size_t chunk) {
    const std::size_t first = chunk * kTile, count = std::min(kTile, x.positions() - first);
    multiply_rows(layer, x.at(first), x.stride, count, tools, [&](std::size_t row, const std::int32_t* sums) {
      finish(layer, layer.parts[0].requantiser, sums, {0, layer.columns()}, out.at(first + row), tools);
    });
  });
}

template <typename T>
void convolve_any(const Layer& layer, const Source& x, const View<T>& out, const Tools& tools) {
  if (layer.splits > 0) {
    convolve_winograd(layer, x, out, tools);
  } else if (layer.up == layer.down && layer.parts[0].taps.size() == 1 && x.height == out.height &&
             x.width == out.width) {
    convolve_dense(layer, x, out, tools);
  } else {
    for (const Part& part : layer.parts) convolve_direct(layer, part, x, out, tools);
  }
}

template <typename T>
void run_any(const Stack& stack, Source x, const View<T>& out, Plane (&scratch)[2], const Tools& tools) {
  for (std::size_t i = 0; i + 1 < stack.size(); ++i) {
    Plane& plane = scratch[i % 2];
    const std::size_t up = stack[i].up, down = stack[i].down;
    const std::size_t height = (x.height * up + down - 1) / down, width = (x.width * up + down - 1) / down;
    convolve(stack[i], x, plane.shape(height, width, stack[i].outputs), tools);
    x = plane.source();
  }
  convolve(stack.back(), x, out, tools);
}

}  // namespace

void convolve(const Layer& layer, const Source& x, const Target& out, const Tools& tools) {
  convolve_any(layer, x, out, tools);
}

void convolve(const Layer& layer, const Source& x, const Head& out, const Tools& tools) {
  convolve_any(layer, x, out, tools);
}

void run(const Stack& stack, Source x, const Target& out, Plane (&scratch)[2], const Tools& tools) {
  run_any(stack, x, out, scratch, tools);
}

void run(const Stack& stack, Source x, const Head& out, Plane (&scratch)[2], const Tools& tools) {
  run_any(stack, x, out, scratch, tools);
}

void convolve_at(const Layer& layer, const Source& x, std::span<const std::size_t> where, const Target& out,
                 const Tools& tools) {
  multiply_taps(
      layer, layer.parts[0], x, where.size(),
      [&](std::size_t i) { return Position{where[i] / x.width, where[i] % x.width}; },
      [&](std::size_t i) { return out.at(where[i]); }, tools);
}

void convolve(const Depthwise& layer, const Source& x, const Target& out, const Tools& tools) {
  const std::size_t channels = padded(layer.channels);
  const Buffer<std::int16_t> outside(channels);
  parallel_for(x.height, tools.team, [&](std::size_t row) {
    std::int32_t* sums = scratch<std::int32_t>(channels);
    for (std::size_t column = 0; column < x.width; ++column) {
      const std::int16_t* taps[9];
      for (std::size_t t = 0; t < 9; ++t) {
        const std::size_t r = row + t / 3 - 1, c = column + t % 3 - 1;  // -1 wraps to large
        taps[t] = r < x.height && c < x.width ? x.at(r, c) : outside.data();
      }
      tools.kernels.depthwise(taps, layer.weights.data(), layer.bias.data(), channels, sums);
      std::int16_t* to = out.at(row, column);
      tools.kernels.requantise16(sums, layer.requantiser, {0, channels}, to);
      if (!layer.gelu.empty()) {
        tools.kernels.gelu(to, layer.gelu, 0, channels, tools.tail);
      }
    }
  });
}

void apply(const Layer& layer, const std::int16_t* a, std::size_t a_stride, std::size_t rows, std::int16_t* out,
           std::size_t out_stride, const Tools& tools) {
  multiply_rows(layer, a, a_stride, rows, tools, [&](std::size_t row, const std::int32_t* sums) {
    finish(layer, layer.parts[0].requantiser, sums, {0, layer.columns()}, out + row * out_stride, tools);
  });
}

void apply_head(const Layer& layer, const std::int16_t* a, std::size_t a_stride, std::size_t rows, std::int32_t* out,
                const Tools& tools) {
  multiply_rows(layer, a, a_stride, rows, tools, [&](std::size_t row, const std::int32_t* sums) {
    tools.kernels.requantise32(sums, layer.parts[0].requantiser, {0, layer.columns()}, out + row * layer.columns());
  });
}

void hyper_input(const std::int32_t* z, std::span<const std::int32_t> medians, const Requantiser& requantiser,
                 const Target& out, const Tools& tools) {
  const std::size_t n = medians.size();
  Buffer<std::int32_t> latent(padded(n));
  for (std::size_t p = 0; p < out.positions(); ++p) {
    for (std::size_t c = 0; c < n; ++c) {
      const std::int64_t value = std::int64_t{z[p * n + c]} * (1 << kMeanBits) + medians[c];
      latent[c] = static_cast<std::int32_t>(std::clamp<std::int64_t>(value, -kLatentLimit, kLatentLimit));
    }
    tools.kernels.requantise16(latent.data(), requantiser, {0, latent.size()}, out.at(p));
  }
}

}  // namespace fastlic::nn

#include "fastlic/mlic/convolve.hpp"

#include <algorithm>
#include <cstring>

#include "fastlic/parallel.hpp"

namespace fastlic::mlic {
namespace {

using engine::kComponents;

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

void finish(const Layer& layer, const Requantiser& requantiser, const std::int32_t* sums, engine::Channels channels,
            std::int16_t* out, const Tools& tools) {
  tools.engine.requantise16(sums, requantiser, channels, out);
  if (!layer.gelu.empty()) {
    tools.own.gelu(out, layer.gelu, channels.first, channels.last - channels.first, tools.tables.tail);
  }
}

// Tap by tap: every output position gathers its inputs.
void convolve_direct(const Layer& layer, const Part& part, const Source& x, const Target& out, const Tools& tools) {
  if (part.row >= out.height || part.column >= out.width) return;
  const std::size_t rows = (out.height - part.row - 1) / layer.up + 1;
  const std::size_t columns = (out.width - part.column - 1) / layer.up + 1;
  const bool single = part.taps.size() == 1 && part.taps[0].row == 0 && part.taps[0].column == 0 &&
                      columns == x.width && rows == x.height;
  parallel_for((rows * columns + kTile - 1) / kTile, tools.threads, [&](std::size_t chunk) {
    const std::size_t first = chunk * kTile, count = std::min(kTile, rows * columns - first);
    const std::size_t depth = part.weights.depth;
    std::int32_t* sums = scratch<std::int32_t>(kTile * layer.columns());
    const std::int32_t* start[kTile];
    std::fill_n(start, count, part.bias.data());
    if (single) {
      tools.engine.multiply({x.at(first), x.stride, count, part.weights.data.data(), depth, layer.columns(), start, sums});
    } else {
      std::int16_t* gathered = scratch<std::int16_t>(kTile * depth);
      for (std::size_t i = 0; i < count; ++i) {
        std::int16_t* to = gathered + i * depth;
        const std::size_t u = (first + i) / columns, v = (first + i) % columns;
        for (const engine::Offset& tap : part.taps) {
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
      tools.engine.multiply({gathered, depth, count, part.weights.data.data(), depth, layer.columns(), start, sums});
    }
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t u = (first + i) / columns, v = (first + i) % columns;
      finish(layer, part.requantiser, sums + i * layer.columns(), {0, layer.columns()},
             out.at(layer.up * u + part.row, layer.up * v + part.column), tools);
    }
  });
}

// By Winograd's transform (engine/winograd.hpp): 2x2 outputs of every part share a 4x4 tile of inputs.
void convolve_winograd(const Layer& layer, const Source& x, const Target& out, const Tools& tools) {
  const std::size_t size = layer.depth;
  const std::size_t across = ((out.width - 1) / layer.up + 2) / 2, down = ((out.height - 1) / layer.up + 2) / 2;
  const Buffer<std::int16_t> outside(size);
  const std::int32_t zeros[kPanel] = {};
  parallel_for((across * down + kTile - 1) / kTile, tools.threads, [&](std::size_t chunk) {
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
      tools.engine.winograd_input(tile, size, transformed + i * size, kTile * size);
    }
    const std::int32_t* start[kTile];
    std::fill_n(start, count, zeros);
    for (const Part& part : layer.parts) {
      for (std::size_t k = 0; k < kComponents; ++k) {
        if (part.transformed[k].depth == 0) std::fill_n(products + k * kTile * kPanel, count * kPanel, 0);
      }
      for (std::size_t panel = 0; panel < layer.columns(); panel += kPanel) {
        for (std::size_t k = 0; k < kComponents; ++k) {
          const engine::WideMatrix& weights = part.transformed[k];
          if (weights.depth == 0) continue;
          tools.engine.multiply_wide({transformed + k * kTile * size, size, count, &weights.data[panel * weights.depth],
                                      weights.depth, kPanel, start, products + k * kTile * kPanel});
        }
        const auto each_corner = [&](std::size_t i, const auto& visit) {
          for (std::size_t corner = 0; corner < 4; ++corner) {
            const std::size_t u = 2 * ((first + i) / across) + corner / 2, v = 2 * ((first + i) % across) + corner % 2;
            const std::size_t row = layer.up * u + part.row, column = layer.up * v + part.column;
            if (row < out.height && column < out.width) visit(corner, out.at(row, column) + panel);
          }
        };
        const engine::Channels channels{panel, panel + kPanel};
        for (std::size_t i = 0; i < count; ++i) {
          alignas(engine::kLine) std::int32_t sums[4 * kPanel];
          tools.engine.winograd_output(products + i * kPanel, kTile * kPanel, &part.bias[panel], sums);
          each_corner(i, [&](std::size_t corner, std::int16_t* to) {
            tools.engine.requantise16(sums + corner * kPanel, part.requantiser, channels, to);
          });
        }
        if (layer.gelu.empty()) continue;
        // In a loop of its own: reading a row right behind the two stores that wrote it would wait for them.
        for (std::size_t i = 0; i < count; ++i) {
          each_corner(i, [&](std::size_t, std::int16_t* to) {
            tools.own.gelu(to, layer.gelu, panel, kPanel, tools.tables.tail);
          });
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
    tools.engine.multiply({a + first * a_stride, a_stride, count, part.weights.data.data(), part.weights.depth,
                           layer.columns(), start, sums});
    for (std::size_t i = 0; i < count; ++i) finish_row(first + i, sums + i * layer.columns());
  }
}

}  // namespace

void convolve(const Layer& layer, const Source& x, const Target& out, const Tools& tools) {
  if (layer.parts[0].winograd) {
    convolve_winograd(layer, x, out, tools);
  } else {
    for (const Part& part : layer.parts) convolve_direct(layer, part, x, out, tools);
  }
}

void run(const Stack& stack, Source x, const Target& out, Plane (&scratch)[2], const Tools& tools) {
  for (std::size_t i = 0; i + 1 < stack.size(); ++i) {
    Plane& plane = scratch[i % 2];
    const std::size_t up = stack[i].up;
    convolve(stack[i], x, plane.shape(x.height * up, x.width * up, stack[i].outputs), tools);
    x = plane.source();
  }
  convolve(stack.back(), x, out, tools);
}

void convolve(const Depthwise& layer, const Source& x, const Target& out, const Tools& tools) {
  const std::size_t channels = padded(layer.channels);
  const Buffer<std::int16_t> outside(channels);
  parallel_for(x.height, tools.threads, [&](std::size_t row) {
    std::int32_t* sums = scratch<std::int32_t>(channels);
    for (std::size_t column = 0; column < x.width; ++column) {
      const std::int16_t* taps[9];
      for (std::size_t t = 0; t < 9; ++t) {
        const std::size_t r = row + t / 3 - 1, c = column + t % 3 - 1;  // -1 wraps to large
        taps[t] = r < x.height && c < x.width ? x.at(r, c) : outside.data();
      }
      tools.own.depthwise(taps, layer.weights.data(), layer.bias.data(), channels, sums);
      std::int16_t* to = out.at(row, column);
      tools.engine.requantise16(sums, layer.requantiser, {0, channels}, to);
      if (!layer.gelu.empty()) {
        tools.own.gelu(to, layer.gelu, 0, channels, tools.tables.tail);
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
    tools.engine.requantise32(sums, layer.parts[0].requantiser, {0, layer.columns()}, out + row * layer.columns());
  });
}

}  // namespace fastlic::mlic

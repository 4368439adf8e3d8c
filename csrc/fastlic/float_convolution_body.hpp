// The four steps of a convolution by Winograd's transform, for each instruction set (simd/for_each_target.hpp).
namespace fastlic {
namespace {
namespace FASTLIC_SET {

namespace v = simd::FASTLIC_SET;

static_assert(kUnit % v::kLanes == 0);

constexpr std::size_t kRows = v::kRegisters > 16 ? 12 : 6, kPanel = 2 * v::kLanes;

// B^T d of six numbers, `apart` from each other.
FASTLIC_INLINE void enter(const v::Floats* d, v::Floats* out, std::size_t apart) {
  const v::Floats d0 = d[0], d1 = d[apart], d2 = d[2 * apart], d3 = d[3 * apart], d4 = d[4 * apart], d5 = d[5 * apart];
  const v::Floats two = v::all<v::Floats>(2.0f), three = v::all<v::Floats>(3.0f), five = v::all<v::Floats>(5.0f);
  const v::Floats odd = d3 - d1, even = d4 - d2;
  out[0] = v::add_product(three * odd, two, v::subtract_product(d0 + d4, two, d2));
  out[apart] = v::add_product(v::add_product(d2, two, d4 - d1), five, d3);
  out[2 * apart] = v::add_product(v::subtract_product(-d3, two, d1 + d4), five, d2);
  out[3 * apart] = -v::add_product(even, two, odd);
  out[4 * apart] = v::add_product(-odd, two, even);
  out[5 * apart] = v::add_product(three * even, two, v::subtract_product(d1 + d5, two, d3));
}

// G g of three numbers.
FASTLIC_INLINE void weigh(const v::Floats* g, v::Floats* out, std::size_t apart) {
  const v::Floats sides = g[0] + g[2 * apart], middle = g[apart];
  out[0] = g[0] * 0.5f;
  out[apart] = (sides + middle) * (1.0f / 6);
  out[2 * apart] = (sides - middle) * (1.0f / 6);
  out[3 * apart] = (g[0] + (middle * 0.5f + g[2 * apart] * 0.25f)) * (16.0f / 15);
  out[4 * apart] = (g[0] - (middle * 2.0f - g[2 * apart] * 4.0f)) * (1.0f / 30);
  out[5 * apart] = g[2 * apart] * 0.5f;
}

// A^T m of six numbers: four.
FASTLIC_INLINE void leave(const v::Floats* m, std::size_t apart, v::Floats* out, std::size_t between) {
  const v::Floats sum = m[apart] + m[2 * apart], difference = m[apart] - m[2 * apart];
  const v::Floats m3 = m[3 * apart], m4 = m[4 * apart];
  out[0] = (m[0] + sum) + (m3 + m4);
  out[between] =
      v::subtract_product(v::add_product(difference, v::all<v::Floats>(0.5f), m3), v::all<v::Floats>(2.0f), m4);
  out[2 * between] = v::add_product(v::add_product(sum, v::all<v::Floats>(0.25f), m3), v::all<v::Floats>(4.0f), m4);
  out[3 * between] = v::subtract_product(v::add_product(difference + m[5 * apart], v::all<v::Floats>(0.125f), m3),
                                         v::all<v::Floats>(8.0f), m4);
}

// Kernels of a panel of outputs and one input, transformed: taps [9][kPanel], to `out[k]` where there is one.
[[FASTLIC_TARGET]] void transform_kernels(const float* taps, float* const* out) {
  for (std::size_t half = 0; half < kPanel; half += v::kLanes) {
    v::Floats g[9], t[18], u[kComponents];
    for (std::size_t i = 0; i < 9; ++i) g[i] = v::load(taps + i * kPanel + half);
    for (std::size_t j = 0; j < 3; ++j) weigh(g + j, t + j, 3);
    for (std::size_t i = 0; i < kTileSide; ++i) weigh(t + 3 * i, u + kTileSide * i, 1);
    for (std::size_t k = 0; k < kComponents; ++k) {
      if (out[k] != nullptr) v::store(u[k], out[k] + half);
    }
  }
}

// A tile of inputs, row by row, transformed: to `out[k]` where there is one.
[[FASTLIC_TARGET]] void transform_inputs(const float* const* tile, std::size_t channels, float* const* out) {
  for (std::size_t c = 0; c < channels; c += v::kLanes) {
    v::Floats t[kComponents];
    for (std::size_t j = 0; j < kTileSide; ++j) {
      v::Floats d[kTileSide];
#pragma GCC unroll 6
      for (std::size_t i = 0; i < kTileSide; ++i) d[i] = v::load(tile[kTileSide * i + j] + c);
      enter(d, d, 1);
#pragma GCC unroll 6
      for (std::size_t i = 0; i < kTileSide; ++i) t[kTileSide * i + j] = d[i];
    }
    for (std::size_t i = 0; i < kTileSide; ++i) {
      v::Floats u[kTileSide];
      enter(t + kTileSide * i, u, 1);
      float* const* to = out + kTileSide * i;
#pragma GCC unroll 6
      for (std::size_t j = 0; j < kTileSide; ++j) {
        if (to[j] != nullptr) v::store(u[j], to[j] + c);
      }
    }
  }
}

// out [rows][panels * kPanel] = a [rows][depth] times b [panels][depth][kPanel]. Products are added up in blocks, and
// those then: of long sums that rounds off less.
[[FASTLIC_TARGET]] void multiply(const float* a, std::size_t rows, std::size_t depth, const float* b,
                                 std::size_t panels, float* out) {
  const std::size_t columns = panels * kPanel;
  for (std::size_t panel = 0; panel < panels; ++panel, b += depth * kPanel) {
    for (std::size_t first = 0; first < rows; first += kRows) {
      // Beyond the end the last rows are multiplied once more; `a` and `out` have kRows rows or more.
      const std::size_t begin = first + kRows <= rows ? first : rows < kRows ? 0 : rows - kRows;
      const float *from = a + begin * depth, *weights = b;
      float* to = out + begin * columns + panel * kPanel;
      for (std::size_t done = 0; done < depth; done += kBlock) {
        v::Floats sums[kRows][2];
#pragma GCC unroll 12
        for (std::size_t r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = v::all<v::Floats>(0.0f);
        for (std::size_t c = done, end = std::min(depth, done + kBlock); c < end; ++c, weights += kPanel) {
          const v::Floats left = v::load(weights), right = v::load(weights + v::kLanes);
#pragma GCC unroll 12
          for (std::size_t r = 0; r < kRows; ++r) {
            const v::Floats value = v::all<v::Floats>(from[r * depth + c]);
            sums[r][0] = v::add_product(sums[r][0], value, left);
            sums[r][1] = v::add_product(sums[r][1], value, right);
          }
        }
#pragma GCC unroll 12
        for (std::size_t r = 0; r < kRows; ++r) {
          float* own = to + r * columns;
          v::store(done == 0 ? sums[r][0] : v::load(own) + sums[r][0], own);
          v::store(done == 0 ? sums[r][1] : v::load(own + v::kLanes) + sums[r][1], own + v::kLanes);
        }
      }
    }
  }
}

// Sums of products of one tile, component by component, to 4x4 outputs, where they lie within the map.
[[FASTLIC_TARGET]] void transform_outputs(const float* const* products, const float* bias, std::size_t channels,
                                          float* const* out) {
  for (std::size_t c = 0; c < channels; c += v::kLanes) {
    v::Floats t[kOutputSide * kTileSide];
    for (std::size_t j = 0; j < kTileSide; ++j) {
      v::Floats m[kTileSide];
#pragma GCC unroll 6
      for (std::size_t i = 0; i < kTileSide; ++i) m[i] = v::load(products[kTileSide * i + j] + c);
      leave(m, 1, t + j, kTileSide);
    }
    const v::Floats start = v::load(bias + c);
    for (std::size_t i = 0; i < kOutputSide; ++i) {
      v::Floats y[kOutputSide];
      leave(t + kTileSide * i, 1, y, 1);
#pragma GCC unroll 4
      for (std::size_t j = 0; j < kOutputSide; ++j) {
        float* to = out[kOutputSide * i + j];
        if (to == nullptr) continue;
        const v::Floats value = y[j] + start;
        if (c + v::kLanes <= channels) {
          v::store(value, to + c);
        } else {
          for (std::size_t lane = 0; c + lane < channels; ++lane) to[c + lane] = value[lane];
        }
      }
    }
  }
}

constexpr WinogradKernels kKernels = {transform_kernels, transform_inputs, multiply, transform_outputs, kPanel, kRows};

}  // namespace FASTLIC_SET
}  // namespace
}  // namespace fastlic

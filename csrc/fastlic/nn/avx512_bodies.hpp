// AVX-512 loops, compiled once without and once with VNNI: the including file defines FASTLIC_TARGET (a gnu::target
// attribute) and FASTLIC_DOT(sum, x, w), the multiply-add of int16 pairs. Included by those two files only.
#include <immintrin.h>

#include <array>
#include <utility>

#include "fastlic/nn/kernel_bodies.hpp"
#include "fastlic/nn/kernels.hpp"

namespace fastlic::nn {
namespace {

constexpr std::size_t kLanes = 16;
static_assert(kPanel == 2 * kLanes);
// 2 vectors of sums for each of 14 rows, 2 of weights and one broadcast activation: 31 of 32 registers. Weights are
// read in one forward stream, which the hardware prefetches; software prefetches of any kind and distance changed
// nothing.
constexpr std::size_t kMaxRows = 14;

[[FASTLIC_TARGET]] inline __m512i load_weights(const std::int8_t* b) {
  return _mm512_cvtepi8_epi16(_mm256_load_si256(reinterpret_cast<const __m256i*>(b)));
}
[[FASTLIC_TARGET]] inline __m512i load_weights(const std::int16_t* b) { return _mm512_load_si512(b); }

template <typename Weight, std::size_t R>
[[FASTLIC_TARGET]] void multiply_rows(const GemmJob<Weight>& job, std::size_t first_row, std::size_t first_column) {
  const std::size_t columns = job.columns, stride = job.a_stride;
  __m512i sums[R][2];
#pragma GCC unroll 16
  for (std::size_t r = 0; r < R; ++r) {
    const std::int32_t* start = job.start[first_row + r] + first_column;
    sums[r][0] = _mm512_loadu_si512(start);
    sums[r][1] = _mm512_loadu_si512(start + kLanes);
  }
  const std::int16_t* a = job.a + first_row * stride;
  const Weight* b = job.b + first_column * job.depth;
  for (std::size_t k = 0; k < job.depth; k += 2, a += 2, b += 2 * kPanel) {
    const __m512i w0 = load_weights(b), w1 = load_weights(b + kPanel);
#pragma GCC unroll 16
    for (std::size_t r = 0; r < R; ++r) {
      std::int32_t pair;
      __builtin_memcpy(&pair, a + r * stride, sizeof pair);
      const __m512i x = _mm512_set1_epi32(pair);
      sums[r][0] = FASTLIC_DOT(sums[r][0], x, w0);
      sums[r][1] = FASTLIC_DOT(sums[r][1], x, w1);
    }
  }
  std::int32_t* out = job.out + first_row * columns + first_column;
#pragma GCC unroll 16
  for (std::size_t r = 0; r < R; ++r) {
    _mm512_storeu_si512(out + r * columns, sums[r][0]);
    _mm512_storeu_si512(out + r * columns + kLanes, sums[r][1]);
  }
}

template <typename Weight, std::size_t... R>
constexpr auto rows_table(std::index_sequence<R...>) {
  using MultiplyRows = void (*)(const GemmJob<Weight>&, std::size_t, std::size_t);
  return std::array<MultiplyRows, sizeof...(R)>{multiply_rows<Weight, R + 1>...};
}

template <typename Weight>
void multiply(const GemmJob<Weight>& job) {
  static constexpr auto kMultiplyRows = rows_table<Weight>(std::make_index_sequence<kMaxRows>());
  // Blocks of nearly equal height: 16 rows are 8 + 8, not 14 + 2.
  const std::size_t blocks = (job.rows + kMaxRows - 1) / kMaxRows;
  for (std::size_t column = 0; column < job.columns; column += kPanel) {
    for (std::size_t i = 0; i < blocks; ++i) {
      const std::size_t first = job.rows * i / blocks, last = job.rows * (i + 1) / blocks;
      kMultiplyRows[last - first - 1](job, first, column);
    }
  }
}

[[FASTLIC_TARGET]] inline __m512i requantise_lanes(const std::int32_t* acc, const Requantiser& r, std::size_t c) {
  const __m512i values = _mm512_loadu_si512(acc);
  const __m512i multiplier =
      _mm512_mask_loadu_epi32(_mm512_loadu_si512(&r.multiplier[c]), _mm512_movepi32_mask(values), &r.negative[c]);
  // 64-bit products of even and odd lanes; the low halves of odd lanes are ignored by the multiplication.
  __m512i even = _mm512_mul_epi32(values, multiplier);
  __m512i odd = _mm512_mul_epi32(_mm512_srli_epi64(values, 32), _mm512_srli_epi64(multiplier, 32));
  const __m512i lower = _mm512_unpacklo_epi64(even, odd), upper = _mm512_unpackhi_epi64(even, odd);
  // Lanes are now {0,1, 4,5, 8,9, 12,13} and {2,3, 6,7, 10,11, 14,15}; bring them into order.
  const __m512i first_order = _mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0);
  const __m512i second_order = _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4);
  const __m512i first = _mm512_permutex2var_epi64(lower, first_order, upper);
  const __m512i second = _mm512_permutex2var_epi64(lower, second_order, upper);
  even =
      _mm512_srav_epi64(_mm512_add_epi64(first, _mm512_loadu_si512(&r.rounding[c])), _mm512_loadu_si512(&r.shift[c]));
  odd = _mm512_srav_epi64(_mm512_add_epi64(second, _mm512_loadu_si512(&r.rounding[c + 8])),
                          _mm512_loadu_si512(&r.shift[c + 8]));
  // Saturation to int32 keeps everything beyond the limit beyond it.
  const __m512i narrow =
      _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtsepi64_epi32(even)), _mm512_cvtsepi64_epi32(odd), 1);
  const __m512i limit = _mm512_set1_epi32(r.limit);
  return _mm512_max_epi32(_mm512_min_epi32(narrow, limit), _mm512_sub_epi32(_mm512_setzero_si512(), limit));
}

[[FASTLIC_TARGET]] void requantise16(const std::int32_t* acc, const Requantiser& requantiser, Channels channels,
                                     std::int16_t* out) {
  for (std::size_t c = channels.first; c < channels.last; c += kLanes, acc += kLanes, out += kLanes) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_cvtepi32_epi16(requantise_lanes(acc, requantiser, c)));
  }
}

[[FASTLIC_TARGET]] void requantise32(const std::int32_t* acc, const Requantiser& requantiser, Channels channels,
                                     std::int32_t* out) {
  for (std::size_t c = channels.first; c < channels.last; c += kLanes, acc += kLanes, out += kLanes) {
    _mm512_storeu_si512(out, requantise_lanes(acc, requantiser, c));
  }
}

// Up to 64 thresholds stay in four registers; a two-register permute looks up 32 of them.
[[FASTLIC_TARGET]] void choose(const std::int32_t* scales, std::size_t count, const Thresholds& thresholds,
                               std::uint8_t* indexes) {
  const std::size_t size = thresholds.values.size();
  const std::int32_t* values = thresholds.values.data();
  if (size != 4 * kLanes) {
    for (std::size_t i = 0; i < count; ++i) indexes[i] = bodies::choose_one(scales[i], values, size);
    return;
  }
  const __m512i t0 = _mm512_loadu_si512(values), t1 = _mm512_loadu_si512(values + kLanes);
  const __m512i t2 = _mm512_loadu_si512(values + 2 * kLanes), t3 = _mm512_loadu_si512(values + 3 * kLanes);
  const __m512i middle = _mm512_set1_epi32(values[2 * kLanes - 1]);
  for (std::size_t i = 0; i < count; i += kLanes) {
    const auto live = static_cast<__mmask16>(count - i >= kLanes ? 0xFFFF : (1u << (count - i)) - 1);
    const __m512i scale = _mm512_maskz_loadu_epi32(live, scales + i);
    const __mmask16 above = _mm512_cmplt_epi32_mask(middle, scale);  // which half of the table
    __m512i below = _mm512_setzero_si512();
    for (int step = 16; step > 0; step /= 2) {
      const __m512i at = _mm512_add_epi32(below, _mm512_set1_epi32(step - 1));
      const __m512i low = _mm512_permutex2var_epi32(t0, at, t1);
      const __m512i threshold = _mm512_mask_mov_epi32(low, above, _mm512_permutex2var_epi32(t2, at, t3));
      below = _mm512_mask_add_epi32(below, _mm512_cmplt_epi32_mask(threshold, scale), below, _mm512_set1_epi32(step));
    }
    below = _mm512_mask_add_epi32(below, above, below, _mm512_set1_epi32(2 * kLanes));
    _mm512_mask_cvtepi32_storeu_epi8(indexes + i, live, below);
  }
}

[[FASTLIC_TARGET]] void quantise(const std::int32_t* latents, const std::int32_t* means, std::size_t count,
                                 std::int32_t* symbols) {
  bodies::quantise(latents, means, count, symbols);
}

[[FASTLIC_TARGET]] void quantise_down(const std::int32_t* latents, const std::int32_t* means,
                                    const std::uint8_t* indexes, const std::int32_t* zones, std::size_t count,
                                    std::int32_t* symbols) {
  bodies::quantise_down(latents, means, indexes, zones, count, symbols);
}

[[FASTLIC_TARGET]] void reconstruct(const std::int32_t* symbols, const std::int32_t* means, std::size_t count,
                                    std::int32_t* latents) {
  bodies::reconstruct(symbols, means, count, latents);
}

[[FASTLIC_TARGET]] void reconstruct_offset(const std::int32_t* symbols, const std::int32_t* means, const std::uint8_t* indexes,
                        const std::int32_t* offsets, std::size_t count, std::int32_t* latents) {
  bodies::reconstruct_offset(symbols, means, indexes, offsets, count, latents);
}

[[FASTLIC_TARGET]] void winograd_input(const std::int16_t* const* tile, std::size_t channels, std::int16_t* out,
                                       std::size_t stride) {
  bodies::winograd_input(tile, channels, out, stride);
}

[[FASTLIC_TARGET]] void winograd_output(const std::int32_t* products, std::size_t stride, const std::int32_t* bias,
                                        std::int32_t* out) {
  bodies::winograd_output(products, stride, bias, out);
}

}  // namespace
}  // namespace fastlic::nn

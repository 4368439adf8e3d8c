// AVX2: int16 pairs are multiplied and added by vpmaddwd, which is exact here (vpmaddubsw would saturate).
#if defined(__x86_64__)

#include <immintrin.h>

#include <array>
#include <utility>

#include "fastlic/nn/kernel_bodies.hpp"
#include "fastlic/nn/kernels.hpp"

#define FASTLIC_AVX2 gnu::target("avx2,bmi2")

namespace fastlic::nn {
namespace {

constexpr std::size_t kLanes = 8;
constexpr std::size_t kHalf = kPanel / 2;  // columns of one block
// 2 vectors of sums for each of 5 rows, 2 of weights, one broadcast and one product: 14 of 16 registers.
constexpr std::size_t kMaxRows = 5;

[[FASTLIC_AVX2]] inline __m256i load(const void* at) { return _mm256_loadu_si256(static_cast<const __m256i*>(at)); }
[[FASTLIC_AVX2]] inline void store(void* at, __m256i value) { _mm256_storeu_si256(static_cast<__m256i*>(at), value); }

[[FASTLIC_AVX2]] inline __m256i load_weights(const std::int8_t* b) {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(b)));
}
[[FASTLIC_AVX2]] inline __m256i load_weights(const std::int16_t* b) { return load(b); }

template <typename Weight, std::size_t R>
[[FASTLIC_AVX2]] void multiply_rows(const GemmJob<Weight>& job, std::size_t first_row, std::size_t first_column) {
  const std::size_t columns = job.columns, stride = job.a_stride;
  __m256i sums[R][2];
#pragma GCC unroll 8
  for (std::size_t r = 0; r < R; ++r) {
    const std::int32_t* start = job.start[first_row + r] + first_column;
    sums[r][0] = load(start);
    sums[r][1] = load(start + kLanes);
  }
  const std::int16_t* a = job.a + first_row * stride;
  const std::size_t within = first_column % kPanel;  // a block is half a panel
  const Weight* b = job.b + (first_column - within) * job.depth + 2 * within;
  for (std::size_t k = 0; k < job.depth; k += 2, a += 2, b += 2 * kPanel) {
    const __m256i w0 = load_weights(b), w1 = load_weights(b + 2 * kLanes);
#pragma GCC unroll 8
    for (std::size_t r = 0; r < R; ++r) {
      std::int32_t pair;
      __builtin_memcpy(&pair, a + r * stride, sizeof pair);
      const __m256i x = _mm256_set1_epi32(pair);
      sums[r][0] = _mm256_add_epi32(sums[r][0], _mm256_madd_epi16(x, w0));
      sums[r][1] = _mm256_add_epi32(sums[r][1], _mm256_madd_epi16(x, w1));
    }
  }
  std::int32_t* out = job.out + first_row * columns + first_column;
#pragma GCC unroll 8
  for (std::size_t r = 0; r < R; ++r) {
    store(out + r * columns, sums[r][0]);
    store(out + r * columns + kLanes, sums[r][1]);
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
  const std::size_t blocks = (job.rows + kMaxRows - 1) / kMaxRows;
  for (std::size_t column = 0; column < job.columns; column += kHalf) {
    for (std::size_t i = 0; i < blocks; ++i) {
      const std::size_t first = job.rows * i / blocks, last = job.rows * (i + 1) / blocks;
      kMultiplyRows[last - first - 1](job, first, column);
    }
  }
}

// Rounded, shifted and clipped products of four 64-bit lanes. AVX2 has no arithmetic 64-bit shift: adding 2^63 makes
// the value unsigned, and 2^63 >> shift comes off again afterwards.
[[FASTLIC_AVX2]] inline __m256i finish(__m256i product, const Requantiser& r, std::size_t c) {
  const __m256i sign = _mm256_set1_epi64x(std::int64_t{1} << 62 << 1);
  const __m256i shift = load(&r.shift[c]);
  __m256i value = _mm256_add_epi64(product, load(&r.rounding[c]));
  value = _mm256_sub_epi64(_mm256_srlv_epi64(_mm256_xor_si256(value, sign), shift), _mm256_srlv_epi64(sign, shift));
  const __m256i top = _mm256_set1_epi64x(r.limit), bottom = _mm256_set1_epi64x(-std::int64_t{r.limit});
  value = _mm256_blendv_epi8(value, top, _mm256_cmpgt_epi64(value, top));
  return _mm256_blendv_epi8(value, bottom, _mm256_cmpgt_epi64(bottom, value));
}

[[FASTLIC_AVX2]] inline __m256i requantise_lanes(const std::int32_t* acc, const Requantiser& r, std::size_t c) {
  const __m256i values = load(acc);
  const __m256i multiplier =
      _mm256_castps_si256(_mm256_blendv_ps(_mm256_castsi256_ps(load(&r.multiplier[c])),
                                           _mm256_castsi256_ps(load(&r.negative[c])), _mm256_castsi256_ps(values)));
  // Lanes 0..3 and 4..7 widened to 64 bits, so that the per-channel shifts lie in order.
  const __m256i first = _mm256_mul_epi32(_mm256_cvtepu32_epi64(_mm256_castsi256_si128(values)),
                                         _mm256_cvtepu32_epi64(_mm256_castsi256_si128(multiplier)));
  const __m256i second = _mm256_mul_epi32(_mm256_cvtepu32_epi64(_mm256_extracti128_si256(values, 1)),
                                          _mm256_cvtepu32_epi64(_mm256_extracti128_si256(multiplier, 1)));
  const __m256i low = finish(first, r, c), high = finish(second, r, c + 4);
  // The low halves of all eight: even 32-bit lanes of both, then the 64-bit quarters in order.
  const __m256 mixed = _mm256_shuffle_ps(_mm256_castsi256_ps(low), _mm256_castsi256_ps(high), _MM_SHUFFLE(2, 0, 2, 0));
  return _mm256_permute4x64_epi64(_mm256_castps_si256(mixed), _MM_SHUFFLE(3, 1, 2, 0));
}

[[FASTLIC_AVX2]] void requantise16(const std::int32_t* acc, const Requantiser& requantiser, Channels channels,
                                   std::int16_t* out) {
  for (std::size_t c = channels.first; c < channels.last; c += 2 * kLanes, acc += 2 * kLanes, out += 2 * kLanes) {
    const __m256i low = requantise_lanes(acc, requantiser, c);
    const __m256i high = requantise_lanes(acc + kLanes, requantiser, c + kLanes);
    store(out, _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), _MM_SHUFFLE(3, 1, 2, 0)));
  }
}

[[FASTLIC_AVX2]] void requantise32(const std::int32_t* acc, const Requantiser& requantiser, Channels channels,
                                   std::int32_t* out) {
  for (std::size_t c = channels.first; c < channels.last; c += kLanes, acc += kLanes, out += kLanes) {
    store(out, requantise_lanes(acc, requantiser, c));
  }
}

[[FASTLIC_AVX2]] void choose(const std::int32_t* scales, std::size_t count, const Thresholds& thresholds,
                             std::uint8_t* indexes) {
  const int size = static_cast<int>(thresholds.values.size());
  const std::int32_t* values = thresholds.values.data();
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const __m256i scale = load(scales + i);
    __m256i below = _mm256_setzero_si256();
    for (int step = size / 2; step > 0; step /= 2) {
      const __m256i at = _mm256_add_epi32(below, _mm256_set1_epi32(step - 1));
      const __m256i exceeded = _mm256_cmpgt_epi32(scale, _mm256_i32gather_epi32(values, at, 4));
      below = _mm256_add_epi32(below, _mm256_and_si256(exceeded, _mm256_set1_epi32(step)));
    }
    alignas(32) std::int32_t chosen[kLanes];
    store(chosen, below);
    for (std::size_t lane = 0; lane < kLanes; ++lane) indexes[i + lane] = static_cast<std::uint8_t>(chosen[lane]);
  }
  for (; i < count; ++i) indexes[i] = bodies::choose_one(scales[i], values, thresholds.values.size());
}

[[FASTLIC_AVX2]] void quantise(const std::int32_t* latents, const std::int32_t* means, std::size_t count,
                               std::int32_t* symbols) {
  bodies::quantise(latents, means, count, symbols);
}

[[FASTLIC_AVX2]] void quantise_down(const std::int32_t* latents, const std::int32_t* means,
                                    const std::uint8_t* indexes, const std::int32_t* zones, std::size_t count,
                                    std::int32_t* symbols) {
  bodies::quantise_down(latents, means, indexes, zones, count, symbols);
}

[[FASTLIC_AVX2]] void reconstruct(const std::int32_t* symbols, const std::int32_t* means, std::size_t count,
                                  std::int32_t* latents) {
  bodies::reconstruct(symbols, means, count, latents);
}

[[FASTLIC_AVX2]] void reconstruct_offset(const std::int32_t* symbols, const std::int32_t* means, const std::uint8_t* indexes,
                        const std::int32_t* offsets, std::size_t count, std::int32_t* latents) {
  bodies::reconstruct_offset(symbols, means, indexes, offsets, count, latents);
}

[[FASTLIC_AVX2]] void winograd_input(const std::int16_t* const* tile, std::size_t channels, std::int16_t* out,
                                     std::size_t stride) {
  bodies::winograd_input(tile, channels, out, stride);
}

[[FASTLIC_AVX2]] void winograd_output(const std::int32_t* products, std::size_t stride, const std::int32_t* bias,
                                      std::int32_t* out) {
  bodies::winograd_output(products, stride, bias, out);
}

}  // namespace

const Kernels kAvx2 = {multiply<std::int8_t>,
                       multiply<std::int16_t>,
                       requantise16,
                       requantise32,
                       winograd_input,
                       winograd_output,
                       choose,
                       quantise,
                       quantise_down,
                       reconstruct,
                       reconstruct_offset};

}  // namespace fastlic::nn

#endif  // __x86_64__

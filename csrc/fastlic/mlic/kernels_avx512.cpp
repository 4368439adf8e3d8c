// The loops of bodies.hpp for AVX-512.
#if defined(__x86_64__)

#include <immintrin.h>

#include "fastlic/vectors.hpp"

#define FASTLIC_TARGET FASTLIC_AVX512_VECTORS
#include "fastlic/mlic/bodies.hpp"

namespace fastlic::mlic {
namespace {

struct Simd : bodies::OneByOne {
  [[FASTLIC_TARGET]] static inline void look_up(const std::uint16_t* table, const bodies::Ints& at, bodies::Ints& out) {
    const __m512i words = _mm512_i32gather_epi32(reinterpret_cast<const __m512i&>(at), table, 2);
    reinterpret_cast<__m512i&>(out) = _mm512_and_si512(words, _mm512_set1_epi32(0xFFFF));
  }
  [[FASTLIC_TARGET]] static inline void dot(bodies::Ints& sums, const std::int16_t* a, const std::int16_t* b) {
    std::int32_t pair;
    __builtin_memcpy(&pair, a, sizeof pair);
    const __m512i products = _mm512_madd_epi16(_mm512_set1_epi32(pair), _mm512_loadu_si512(b));
    reinterpret_cast<__m512i&>(sums) = _mm512_add_epi32(reinterpret_cast<const __m512i&>(sums), products);
  }
  [[FASTLIC_TARGET]] static inline void scale(const bodies::Ints& x, std::int64_t factor, std::int64_t negative,
                                              std::int64_t shift, bodies::Ints& out) {
    const __m512i values = reinterpret_cast<const __m512i&>(x);
    const __mmask16 below = _mm512_movepi32_mask(values);
    const __m512i rounding = _mm512_set1_epi64(std::int64_t{1} << (shift - 1));
    const __m128i count = _mm_cvtsi64_si128(shift);
    const __m512i positive = _mm512_set1_epi64(factor), other = _mm512_set1_epi64(negative);
    const __m512i low = _mm512_cvtepi32_epi64(_mm512_castsi512_si256(values));
    const __m512i high = _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(values, 1));
    const __m512i first = _mm512_mul_epi32(low, _mm512_mask_mov_epi64(positive, static_cast<__mmask8>(below), other));
    const __m512i second =
        _mm512_mul_epi32(high, _mm512_mask_mov_epi64(positive, static_cast<__mmask8>(below >> 8), other));
    reinterpret_cast<__m512i&>(out) = _mm512_inserti64x4(
        _mm512_castsi256_si512(_mm512_cvtsepi64_epi32(_mm512_sra_epi64(_mm512_add_epi64(first, rounding), count))),
        _mm512_cvtsepi64_epi32(_mm512_sra_epi64(_mm512_add_epi64(second, rounding), count)), 1);
  }
  [[FASTLIC_TARGET]] static inline std::int32_t highest(const bodies::Ints& x) {
    return _mm512_reduce_max_epi32(reinterpret_cast<const __m512i&>(x));
  }
  [[FASTLIC_TARGET]] static inline std::int32_t sum(const bodies::Ints& x) {
    return _mm512_reduce_add_epi32(reinterpret_cast<const __m512i&>(x));
  }
};

[[FASTLIC_TARGET]] void apply(const std::int16_t* p, const double* context, std::size_t dims, std::int64_t total, std::int64_t* out) {
  bodies::apply(p, context, dims, total, out);
}

[[FASTLIC_TARGET]] std::int32_t score(std::int32_t* products, std::size_t count, const Score& score) {
  return bodies::score_all<Simd>(products, count, score);
}

[[FASTLIC_TARGET]] std::int32_t soften(const std::int32_t* scores, std::size_t count, std::int32_t highest, const Tables& tables,
                    std::int16_t* weights) {
  return bodies::soften<Simd>(scores, count, highest, tables, weights);
}

[[FASTLIC_TARGET]] void window(const Window& w, const Tables& tables, std::int32_t* out) {
  bodies::window<Simd>(w, tables, out);
}

}  // namespace

const Kernels kAvx512 = {apply, score, soften, window};

}  // namespace fastlic::mlic

#endif  // __x86_64__

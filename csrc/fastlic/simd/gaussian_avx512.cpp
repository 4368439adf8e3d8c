// The Gaussian coder, 16 symbols at a time.
#if defined(__x86_64__)

#include <immintrin.h>

#include "fastlic/gaussian_rans.hpp"
#include "fastlic/simd/gaussian_kernels.hpp"
#include "fastlic/simd/gaussian_quantiles.hpp"

// To the end of the file, because templates are instantiated there. Nothing here calls inline library code that could
// leak AVX-512 instructions into other files.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,bmi2,popcnt"))), \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,bmi2,popcnt")
#endif

namespace fastlic::simd {
namespace {

struct Avx512 {
  using Int = __m512i;
  using Float = __m512;
  static constexpr unsigned kWidth = 16;

  static Int load(const std::int32_t* at) { return _mm512_loadu_si512(at); }
  static Float load(const float* at) { return _mm512_loadu_ps(at); }
  static void store(std::int32_t* at, Int v) { _mm512_storeu_si512(at, v); }
  static Int set(std::int32_t v) { return _mm512_set1_epi32(v); }
  static Float set(float v) { return _mm512_set1_ps(v); }
  static Int add(Int a, Int b) { return _mm512_add_epi32(a, b); }
  static Float add(Float a, Float b) { return _mm512_add_ps(a, b); }
  static Int sub(Int a, Int b) { return _mm512_sub_epi32(a, b); }
  static Float sub(Float a, Float b) { return _mm512_sub_ps(a, b); }
  static Int mul(Int a, Int b) { return _mm512_mullo_epi32(a, b); }
  static Float mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
  static Float div(Float a, Float b) { return _mm512_div_ps(a, b); }
  static Int and_(Int a, Int b) { return _mm512_and_si512(a, b); }
  static Float min(Float a, Float b) { return _mm512_min_ps(a, b); }
  static Float max(Float a, Float b) { return _mm512_max_ps(a, b); }
  static Int min(Int a, Int b) { return _mm512_min_epi32(a, b); }
  static Int max(Int a, Int b) { return _mm512_max_epi32(a, b); }
  static Int sll(Int v, Int by) { return _mm512_sllv_epi32(v, by); }
  static Int sra(Int v, Int by) { return _mm512_srav_epi32(v, by); }
  template <int By>
  static Int srl(Int v) {
    return _mm512_srli_epi32(v, By);
  }
  static Int bits(Float v) { return _mm512_castps_si512(v); }
  static Float from_bits(Int v) { return _mm512_castsi512_ps(v); }
  static Float to_float(Int v) { return _mm512_cvtepi32_ps(v); }
  static Int round(Float v) { return _mm512_cvtps_epi32(v); }
  static Int truncate(Float v) { return _mm512_cvttps_epi32(v); }
  static __mmask16 greater(Int a, Int b) { return _mm512_cmpgt_epi32_mask(a, b); }
  static __mmask16 equal(Int a, Int b) { return _mm512_cmpeq_epi32_mask(a, b); }
  static __mmask16 differ(Int a, Int b) { return _mm512_cmpneq_epi32_mask(a, b); }
  static __mmask16 and_not(__mmask16 a, __mmask16 b) { return static_cast<__mmask16>(a & ~b); }
  static bool any(__mmask16 a, __mmask16 b) { return (a | b) != 0; }
  static Int select(__mmask16 mask, Int yes, Int no) { return _mm512_mask_blend_epi32(mask, no, yes); }

  // Sixteen 16-bit loads; a gather of 32-bit words is no faster and would read past the table's end.
  template <typename Element>
  static __m256i load_each(const Element* table, Int at) {
    alignas(64) std::int32_t index[kWidth];
    _mm512_store_si512(index, at);
    __m128i half[2];
    for (int h = 0; h < 2; ++h) {
      const std::int32_t* i = index + 8 * h;
      half[h] = _mm_cvtsi32_si128(table[i[0]]);
      half[h] = _mm_insert_epi16(half[h], table[i[1]], 1);
      half[h] = _mm_insert_epi16(half[h], table[i[2]], 2);
      half[h] = _mm_insert_epi16(half[h], table[i[3]], 3);
      half[h] = _mm_insert_epi16(half[h], table[i[4]], 4);
      half[h] = _mm_insert_epi16(half[h], table[i[5]], 5);
      half[h] = _mm_insert_epi16(half[h], table[i[6]], 6);
      half[h] = _mm_insert_epi16(half[h], table[i[7]], 7);
    }
    return _mm256_inserti128_si256(_mm256_castsi128_si256(half[0]), half[1], 1);
  }

  // The cubic of each lane's segment: four permutations and three multiplications, about a third of sixteen loads.
  static Int coefficient(std::size_t j, Int segment) {
    const std::int32_t* c = kPhiCoefficients[j].data();
    return _mm512_permutex2var_epi32(_mm512_load_si512(c), segment, _mm512_load_si512(c + kWidth));
  }
  static Int upper_tail(Int at) {
    const Int segment = srl<kPhiSegmentBits>(at);
    const Int d = and_(at, set((1 << kPhiSegmentBits) - 1));
    Int value = coefficient(3, segment);
    for (std::size_t j = 3; j-- > 0;) {
      value = add(_mm512_srai_epi32(mul(value, d), kPhiSegmentBits), coefficient(j, segment));
    }
    constexpr unsigned kDrop = kPhiFractionBits - kPhiBits;
    return srl<kDrop>(add(value, set(1 << (kDrop - 1))));
  }
  static Int lookup_signed(const std::int16_t* table, Int at) { return _mm512_cvtepi16_epi32(load_each(table, at)); }

  static void store_mask(std::uint8_t* bits, std::size_t at, __mmask16 mask) {
    std::memcpy(bits + at / 8, &mask, sizeof mask);
  }
  static Int refill(Int reduced, const std::uint8_t*& next) {
    const __mmask16 low = greater(set(static_cast<std::int32_t>(kStateLow)), reduced);
    const Int words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(next)));
    next += 2 * static_cast<unsigned>(_mm_popcnt_u32(low));
    return _mm512_mask_or_epi32(reduced, low, _mm512_slli_epi32(reduced, kWordBits),
                                _mm512_maskz_expand_epi32(low, words));
  }
  // As in rans_avx512.cpp: words packed to the top of a vector whose lower lanes are overwritten later.
  static Int shrink(Int state, Int bound, std::uint8_t*& next) {
    const __mmask16 high = static_cast<__mmask16>(~greater(bound, state));
    const auto count = static_cast<unsigned>(_mm_popcnt_u32(high));
    const __m256i words = _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(high, state));
    const __m256i iota = _mm256_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m256i rotate = _mm256_add_epi16(iota, _mm256_set1_epi16(static_cast<short>(count)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(next - 2 * kWidth), _mm256_permutexvar_epi16(rotate, words));
    next -= 2 * count;
    return _mm512_mask_srli_epi32(state, high, state, kWordBits);
  }
};

#include "fastlic/simd/gaussian_body.hpp"

}  // namespace

const GaussianKernels kGaussianAvx512 = {&gaussian_encode_groups<Avx512>, &gaussian_decode_groups<Avx512>};

}  // namespace fastlic::simd

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif  // __x86_64__

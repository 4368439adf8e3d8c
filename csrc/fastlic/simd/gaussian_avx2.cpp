// The Gaussian coder, 8 symbols at a time.
#if defined(__x86_64__)

#include <immintrin.h>

#include "fastlic/gaussian_rans.hpp"
#include "fastlic/simd/gaussian_kernels.hpp"
#include "fastlic/simd/gaussian_quantiles.hpp"
#include "fastlic/simd/permutations_avx2.hpp"

// To the end of the file, as in gaussian_avx512.cpp.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,bmi2,popcnt"))), apply_to = function)
#else
#pragma GCC target("avx2,bmi2,popcnt")
#endif

namespace fastlic::simd {
namespace {

struct Avx2 {
  using Int = __m256i;
  using Float = __m256;
  static constexpr unsigned kWidth = 8;

  static Int load(const std::int32_t* at) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)); }
  static Float load(const float* at) { return _mm256_loadu_ps(at); }
  static void store(std::int32_t* at, Int v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), v); }
  static Int set(std::int32_t v) { return _mm256_set1_epi32(v); }
  static Float set(float v) { return _mm256_set1_ps(v); }
  static Int add(Int a, Int b) { return _mm256_add_epi32(a, b); }
  static Float add(Float a, Float b) { return _mm256_add_ps(a, b); }
  static Int sub(Int a, Int b) { return _mm256_sub_epi32(a, b); }
  static Float sub(Float a, Float b) { return _mm256_sub_ps(a, b); }
  static Int mul(Int a, Int b) { return _mm256_mullo_epi32(a, b); }
  static Float mul(Float a, Float b) { return _mm256_mul_ps(a, b); }
  static Float div(Float a, Float b) { return _mm256_div_ps(a, b); }
  static Int and_(Int a, Int b) { return _mm256_and_si256(a, b); }
  static Float min(Float a, Float b) { return _mm256_min_ps(a, b); }
  static Float max(Float a, Float b) { return _mm256_max_ps(a, b); }
  static Int min(Int a, Int b) { return _mm256_min_epi32(a, b); }
  static Int max(Int a, Int b) { return _mm256_max_epi32(a, b); }
  static Int sll(Int v, Int by) { return _mm256_sllv_epi32(v, by); }
  static Int sra(Int v, Int by) { return _mm256_srav_epi32(v, by); }
  template <int By>
  static Int srl(Int v) {
    return _mm256_srli_epi32(v, By);
  }
  static Int bits(Float v) { return _mm256_castps_si256(v); }
  static Float from_bits(Int v) { return _mm256_castsi256_ps(v); }
  static Float to_float(Int v) { return _mm256_cvtepi32_ps(v); }
  static Int round(Float v) { return _mm256_cvtps_epi32(v); }
  static Int truncate(Float v) { return _mm256_cvttps_epi32(v); }
  // Masks are vectors of all-ones and all-zeros lanes.
  static Int greater(Int a, Int b) { return _mm256_cmpgt_epi32(a, b); }
  static Int equal(Int a, Int b) { return _mm256_cmpeq_epi32(a, b); }
  static Int differ(Int a, Int b) { return _mm256_xor_si256(equal(a, b), set(-1)); }
  static Int and_not(Int a, Int b) { return _mm256_andnot_si256(b, a); }
  static bool any(Int a, Int b) { return _mm256_movemask_epi8(_mm256_or_si256(a, b)) != 0; }
  static Int select(Int mask, Int yes, Int no) { return _mm256_blendv_epi8(no, yes, mask); }
  static unsigned lane_bits(Int mask) { return static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(mask))); }

  template <typename Element>
  static __m128i load_each(const Element* table, Int at) {
    alignas(32) std::int32_t index[kWidth];
    _mm256_store_si256(reinterpret_cast<__m256i*>(index), at);
    __m128i result = _mm_cvtsi32_si128(table[index[0]]);
    result = _mm_insert_epi16(result, table[index[1]], 1);
    result = _mm_insert_epi16(result, table[index[2]], 2);
    result = _mm_insert_epi16(result, table[index[3]], 3);
    result = _mm_insert_epi16(result, table[index[4]], 4);
    result = _mm_insert_epi16(result, table[index[5]], 5);
    result = _mm_insert_epi16(result, table[index[6]], 6);
    return _mm_insert_epi16(result, table[index[7]], 7);
  }
  static Int upper_tail(Int at) { return _mm256_cvtepu16_epi32(load_each(kTailTable.data(), at)); }
  static Int lookup_signed(const std::int16_t* table, Int at) { return _mm256_cvtepi16_epi32(load_each(table, at)); }

  static void store_mask(std::uint8_t* bits, std::size_t at, Int mask) {
    bits[at / 8] = static_cast<std::uint8_t>(lane_bits(mask));
  }
  static Int permutation(const Avx2Permutations& table, unsigned mask) {
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(&table[mask]));
  }
  static Int refill(Int reduced, const std::uint8_t*& next) {
    const Int low = greater(set(static_cast<std::int32_t>(kStateLow)), reduced);
    const unsigned mask = lane_bits(low);
    const Int words = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(next)));
    const Int spread = _mm256_permutevar8x32_epi32(words, permutation(kAvx2Expand, mask));
    next += 2 * static_cast<unsigned>(_mm_popcnt_u32(mask));
    return select(low, _mm256_or_si256(_mm256_slli_epi32(reduced, kWordBits), spread), reduced);
  }
  static Int shrink(Int state, Int bound, std::uint8_t*& next) {
    const Int keep = greater(bound, state);
    const unsigned mask = ~lane_bits(keep) & 0xFFu;
    const Int top = _mm256_permutevar8x32_epi32(state, permutation(kAvx2CompressToTop, mask));
    const Int words = _mm256_and_si256(top, set(0xFFFF));
    const __m128i narrow = _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(next - 2 * kWidth), narrow);
    next -= 2 * static_cast<unsigned>(_mm_popcnt_u32(mask));
    return select(keep, state, _mm256_srli_epi32(state, kWordBits));
  }
};

#include "fastlic/simd/gaussian_body.hpp"

}  // namespace

const GaussianKernels kGaussianAvx2 = {&gaussian_encode_groups<Avx2>, &gaussian_decode_groups<Avx2>};

}  // namespace fastlic::simd

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif  // __x86_64__

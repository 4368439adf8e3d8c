// AVX-512: F, BW, DQ and VL.
#include <immintrin.h>

#undef FASTLIC_SET
#undef FASTLIC_TARGET
#define FASTLIC_SET avx512
// GCC halves the compiler's vectors unless told not to; Clang knows no such option here, and would then compile for no
// AVX-512 at all.
#if defined(__clang__)
#define FASTLIC_AVX512 "avx512f,avx512bw,avx512dq,avx512vl,bmi2,fma,popcnt"
#else
#define FASTLIC_AVX512 "avx512f,avx512bw,avx512dq,avx512vl,bmi2,fma,popcnt,prefer-vector-width=512"
#endif
#define FASTLIC_TARGET gnu::target(FASTLIC_AVX512)

namespace fastlic::simd::avx512 {

constexpr std::size_t kLanes = 16, kRegisters = 32;
#include "fastlic/simd/common.hpp"

constexpr bool kByteProducts = false;

template <typename Vector>
FASTLIC_INLINE __m512i raw(Vector x) {
  return reinterpret_cast<__m512i>(x);
}

template <typename Vector>
FASTLIC_INLINE __m256i low_half(Vector x) {
  return _mm512_castsi512_si256(raw(x));
}
template <typename Vector>
FASTLIC_INLINE __m256i high_half(Vector x) {
  return _mm512_extracti64x4_epi64(raw(x), 1);
}

FASTLIC_INLINE Ints load_wide(const std::int16_t* from) {
  return reinterpret_cast<Ints>(_mm512_cvtepi16_epi32(load_as<__m256i>(from)));
}
FASTLIC_INLINE void store_pair(Ints a, Ints b, std::int16_t* to) {
  store(_mm512_cvtepi32_epi16(raw(a)), to);
  store(_mm512_cvtepi32_epi16(raw(b)), to + kLanes);
}
FASTLIC_INLINE void store_bytes(Ints x, std::uint8_t* to) { store(_mm512_cvtepi32_epi8(raw(x)), to); }

using Pair = __m512i;
using Pairs = __m512i;
FASTLIC_INLINE Pair pair(const std::int16_t* a) {
  std::int32_t both;
  __builtin_memcpy(&both, a, sizeof both);
  return _mm512_set1_epi32(both);
}
FASTLIC_INLINE Pairs load_pairs(const std::int16_t* b) { return load_as<Pairs>(b); }
FASTLIC_INLINE Pairs load_pairs(const std::int8_t* b) { return _mm512_cvtepi8_epi16(load_as<__m256i>(b)); }
FASTLIC_INLINE __m512i add_products(__m512i sum, Pair a, Pairs b) {
  return _mm512_add_epi32(sum, _mm512_madd_epi16(a, b));
}
FASTLIC_INLINE Ints dot(Ints sum, Pair a, Pairs b) { return reinterpret_cast<Ints>(add_products(raw(sum), a, b)); }

// 2 vectors of sums for each of 14 rows, 2 of weights and one broadcast activation: 31 of 32 registers. Weights are
// read in one forward stream, which the hardware prefetches; software prefetches of any kind and distance changed
// nothing.
constexpr std::size_t kTileRows = 14, kTileVectors = 2;
using Sum = long long __attribute__((vector_size(4 * kLanes)));  // as intrinsics have it: GCC copies what it converts
struct Weights {
  Pairs at[kTileVectors];
};
template <typename Weight>
FASTLIC_INLINE Weights load_weights(const Weight* b) {
  return {{load_pairs(b), load_pairs(b + kWordLanes)}};
}
FASTLIC_INLINE void dot(Sum (&sums)[kTileVectors], Pair a, const Weights& b) {
  sums[0] = add_products(sums[0], a, b.at[0]);
  sums[1] = add_products(sums[1], a, b.at[1]);
}

FASTLIC_INLINE Ints requantise(Ints x, Ints factor, const Wide& rounding, const Wide& shift, std::int32_t limit) {
  const __m512i x0 = _mm512_cvtepi32_epi64(low_half(x)), x1 = _mm512_cvtepi32_epi64(high_half(x));
  const __m512i f0 = _mm512_cvtepi32_epi64(low_half(factor)), f1 = _mm512_cvtepi32_epi64(high_half(factor));
  const __m512i low = _mm512_srav_epi64(_mm512_add_epi64(_mm512_mul_epi32(x0, f0), raw(rounding.low)), raw(shift.low));
  const __m512i high =
      _mm512_srav_epi64(_mm512_add_epi64(_mm512_mul_epi32(x1, f1), raw(rounding.high)), raw(shift.high));
  // Saturation to int32 keeps everything beyond the limit beyond it.
  const __m512i narrow =
      _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtsepi64_epi32(low)), _mm512_cvtsepi64_epi32(high), 1);
  const __m512i top = _mm512_set1_epi32(limit), bottom = _mm512_set1_epi32(-limit);
  return reinterpret_cast<Ints>(_mm512_max_epi32(_mm512_min_epi32(narrow, top), bottom));
}

FASTLIC_INLINE Words multiply_rounded(Words a, Words b) {
  return reinterpret_cast<Words>(_mm512_mulhrs_epi16(raw(a), raw(b)));
}
FASTLIC_INLINE void multiply_add(Ints (&sums)[2], const std::int16_t* x, const std::int16_t* w) {
  sums[0] += load_wide(x) * load_wide(w);
  sums[1] += load_wide(x + kLanes) * load_wide(w + kLanes);
}
FASTLIC_INLINE Words shift_left(Words x, Words by) {
  return reinterpret_cast<Words>(_mm512_sllv_epi16(raw(x), raw(by)));
}
FASTLIC_INLINE Words shift_right(Words x, Words by) {
  return reinterpret_cast<Words>(_mm512_srlv_epi16(raw(x), raw(by)));
}

FASTLIC_INLINE std::int32_t highest(Ints x) { return _mm512_reduce_max_epi32(raw(x)); }
FASTLIC_INLINE bool any_equal(Ints a, Ints b) { return _mm512_cmpeq_epi32_mask(raw(a), raw(b)) != 0; }
FASTLIC_INLINE std::int32_t sum(Ints x) { return _mm512_reduce_add_epi32(raw(x)); }

FASTLIC_INLINE Floats subtract_product(Floats sum, Floats a, Floats b) { return _mm512_fnmadd_ps(a, b, sum); }
FASTLIC_INLINE float lowest(Floats x) { return _mm512_reduce_min_ps(x); }
FASTLIC_INLINE unsigned at_most(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }

FASTLIC_INLINE Ints shift_down(Ints x, Ints by) { return reinterpret_cast<Ints>(_mm512_srlv_epi32(raw(x), raw(by))); }

FASTLIC_INLINE Ints look_up(const std::uint16_t* table, Ints at) {
  return reinterpret_cast<Ints>(_mm512_i32gather_epi32(raw(at), table, 2)) & 0xFFFF;
}
FASTLIC_INLINE Ints look_up(const std::int32_t* table, Ints at) {
  return reinterpret_cast<Ints>(_mm512_i32gather_epi32(raw(at), table, 4));
}
// All lines in two registers.
struct WordTable {
  __m512i low, high;
  FASTLIC_INLINE explicit WordTable(const std::uint16_t* table)
      : low(load_as<__m512i>(table)), high(load_as<__m512i>(table + kWordLanes)) {}
  FASTLIC_INLINE Words operator()(Words at) const {
    return reinterpret_cast<Words>(_mm512_permutex2var_epi16(low, raw(at), high));
  }
};

// In four registers; a two-register permute looks up 32 of them.
constexpr bool kGathers = true;
struct Table {
  __m512i part[4];
  FASTLIC_INLINE explicit Table(const std::int32_t* table) {
    for (std::size_t i = 0; i < 4; ++i) part[i] = load_as<__m512i>(table + i * kLanes);
  }
  FASTLIC_INLINE Ints operator()(Ints at, Ints above) const {
    const Ints low = reinterpret_cast<Ints>(_mm512_permutex2var_epi32(part[0], raw(at), part[1]));
    return above ? reinterpret_cast<Ints>(_mm512_permutex2var_epi32(part[2], raw(at), part[3])) : low;
  }
};

}  // namespace fastlic::simd::avx512

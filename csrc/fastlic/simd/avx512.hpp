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

constexpr bool kByteProducts = false, kPermutes = true, kHighProducts = true, kPairedSums = true;

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
FASTLIC_INLINE void store_single(Ints x, std::int16_t* to) { store(_mm512_cvtepi32_epi16(raw(x)), to); }
FASTLIC_INLINE Ints load_bytes(const std::uint8_t* from) {
  return reinterpret_cast<Ints>(_mm512_cvtepu8_epi32(load_as<__m128i>(from)));
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
constexpr bool kWideRows = false;
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

// For a quarter of a panel.
FASTLIC_INLINE Narrow narrow_dot(Narrow sum, const std::int16_t* a, const std::int16_t* b) {
  return reinterpret_cast<Narrow>(avx2::add_products(avx2::raw(sum), avx2::pair(a), avx2::load_pairs(b)));
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

FASTLIC_INLINE Ints multiply_high(Ints a, Ints b) {
  const __m512i even = _mm512_mul_epi32(raw(a), raw(b));
  const __m512i odd = _mm512_mul_epi32(_mm512_srli_epi64(raw(a), 32), _mm512_srli_epi64(raw(b), 32));
  return reinterpret_cast<Ints>(_mm512_mask_blend_epi32(0xAAAA, _mm512_srli_epi64(even, 32), odd));
}

FASTLIC_INLINE Words magnitude(Words x) { return reinterpret_cast<Words>(_mm512_abs_epi16(raw(x))); }
FASTLIC_INLINE Words multiply_rounded(Words a, Words b) {
  return reinterpret_cast<Words>(_mm512_mulhrs_epi16(raw(a), raw(b)));
}
FASTLIC_INLINE void multiply_add(Ints (&sums)[2], const std::int16_t* x, const std::int16_t* w) {
  sums[0] += load_wide(x) * load_wide(w);
  sums[1] += load_wide(x + kLanes) * load_wide(w + kLanes);
}
// Of every other four channels.
FASTLIC_INLINE void multiply_add_both(Ints (&sums)[2], const std::int16_t* x, const std::int16_t* w,
                                      const std::int16_t* y, const std::int16_t* u) {
  const __m512i a = load_as<__m512i>(x), b = load_as<__m512i>(y), p = load_as<__m512i>(w), q = load_as<__m512i>(u);
  sums[0] += reinterpret_cast<Ints>(_mm512_madd_epi16(_mm512_unpacklo_epi16(a, b), _mm512_unpacklo_epi16(p, q)));
  sums[1] += reinterpret_cast<Ints>(_mm512_madd_epi16(_mm512_unpackhi_epi16(a, b), _mm512_unpackhi_epi16(p, q)));
}
FASTLIC_INLINE void put_in_order(Ints (&sums)[2]) {
  const __m512i a = raw(sums[0]), b = raw(sums[1]);
  const __m512i first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11),
                second = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
  sums[0] = reinterpret_cast<Ints>(_mm512_permutex2var_epi64(a, first, b));
  sums[1] = reinterpret_cast<Ints>(_mm512_permutex2var_epi64(a, second, b));
}
FASTLIC_INLINE Words shift_left(Words x, Words by) {
  return reinterpret_cast<Words>(_mm512_sllv_epi16(raw(x), raw(by)));
}
FASTLIC_INLINE Words shift_right(Words x, Words by) {
  return reinterpret_cast<Words>(_mm512_srlv_epi16(raw(x), raw(by)));
}

FASTLIC_INLINE std::int32_t highest(Ints x) { return _mm512_reduce_max_epi32(raw(x)); }
FASTLIC_INLINE std::int32_t sum(Ints x) { return _mm512_reduce_add_epi32(raw(x)); }

FASTLIC_INLINE Floats subtract_product(Floats sum, Floats a, Floats b) { return _mm512_fnmadd_ps(a, b, sum); }
FASTLIC_INLINE Floats add_product(Floats sum, Floats a, Floats b) { return _mm512_fmadd_ps(a, b, sum); }
FASTLIC_INLINE Floats square_root(Floats x) { return _mm512_sqrt_ps(x); }
// One instruction; GCC makes two of common.hpp's.
FASTLIC_INLINE Floats least(Floats a, Floats b) { return _mm512_min_ps(a, b); }
FASTLIC_INLINE Floats most(Floats a, Floats b) { return _mm512_max_ps(a, b); }
FASTLIC_INLINE float lowest(Floats x) { return _mm512_reduce_min_ps(x); }
FASTLIC_INLINE unsigned equal_bits(Ints a, Ints b) { return _mm512_cmpeq_epi32_mask(raw(a), raw(b)); }
template <typename Mask>
FASTLIC_INLINE std::uint64_t byte_bits(Mask mask) {
  return _mm512_movepi8_mask(raw(mask));
}
template <typename Mask>
FASTLIC_INLINE std::uint64_t word_bits(Mask mask) {
  return _mm512_movepi16_mask(raw(mask));
}
FASTLIC_INLINE unsigned at_most(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }

FASTLIC_INLINE Ints shift_down(Ints x, Ints by) { return reinterpret_cast<Ints>(_mm512_srlv_epi32(raw(x), raw(by))); }

FASTLIC_INLINE Ints look_up(const std::uint16_t* table, Ints at) {
  return reinterpret_cast<Ints>(_mm512_i32gather_epi32(raw(at), table, 2)) & 0xFFFF;
}
FASTLIC_INLINE Ints look_up(const std::int32_t* table, Ints at) {
  return reinterpret_cast<Ints>(_mm512_i32gather_epi32(raw(at), table, 4));
}
template <typename Element>
FASTLIC_INLINE Ints load_each(const Element* table, Ints at) {
  alignas(64) std::uint32_t i[kLanes];
  store(raw(at), i);
  if constexpr (std::is_same_v<Element, std::int16_t>) {
    const __m256i words = _mm256_setr_m128i(avx2::load_words(table, i), avx2::load_words(table, i + 8));
    return reinterpret_cast<Ints>(_mm512_cvtepi16_epi32(words));
  } else {
    const __m256i low = _mm256_setr_m128i(avx2::load_four(table, i), avx2::load_four(table, i + 4));
    const __m256i high = _mm256_setr_m128i(avx2::load_four(table, i + 8), avx2::load_four(table, i + 12));
    return reinterpret_cast<Ints>(_mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1));
  }
}
// All lines in two registers.
struct WordTable {
  __m512i low, high;
  FASTLIC_INLINE WordTable(const std::uint16_t* words, const std::uint8_t*)
      : low(load_as<__m512i>(words)), high(load_as<__m512i>(words + kWordLanes)) {}
  FASTLIC_INLINE Words operator()(Words at) const {
    return reinterpret_cast<Words>(_mm512_permutex2var_epi16(low, raw(at), high));
  }
};

// In four registers; a two-register permute looks up 32 of them.
FASTLIC_INLINE Ints look_up_32(const std::array<std::int32_t, 32>& table, Ints at) {
  const __m512i low = load_as<__m512i>(table.data()), high = load_as<__m512i>(table.data() + kLanes);
  return reinterpret_cast<Ints>(_mm512_permutex2var_epi32(low, raw(at), high));
}

FASTLIC_INLINE Ints nearest(Floats x) { return reinterpret_cast<Ints>(_mm512_cvtps_epi32(x)); }
constexpr bool kQuotientNeverAbove = true;  // both roundings go down
FASTLIC_INLINE Ints quotient(Ints a, Ints b) {
  constexpr int kDown = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC;
  const __m512 ratio = _mm512_div_round_ps(_mm512_cvt_roundepi32_ps(raw(a), kDown), _mm512_cvtepi32_ps(raw(b)), kDown);
  return reinterpret_cast<Ints>(_mm512_cvttps_epi32(ratio));
}
FASTLIC_INLINE Ints take_words(Ints x, std::int32_t low, const std::uint8_t*& next) {
  const __mmask16 take = _mm512_cmplt_epi32_mask(raw(x), _mm512_set1_epi32(low));
  const __m512i words = _mm512_cvtepu16_epi32(load_as<__m256i>(next));
  next += 2 * static_cast<unsigned>(_mm_popcnt_u32(take));
  return reinterpret_cast<Ints>(
      _mm512_mask_or_epi32(raw(x), take, _mm512_slli_epi32(raw(x), 16), _mm512_maskz_expand_epi32(take, words)));
}
// Words are packed to the top of a vector and stored to end at `next`; the lanes below hold rubbish that later words
// overwrite. (A masked or compressing store to memory is microcoded on Zen 4.)
FASTLIC_INLINE Ints give_words(Ints x, Ints bound, std::uint8_t*& next) {
  const __mmask16 give = _mm512_cmpge_epi32_mask(raw(x), raw(bound));
  const auto count = static_cast<unsigned>(_mm_popcnt_u32(give));
  const __m256i words = _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(give, raw(x)));
  const __m256i iota = _mm256_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m256i rotate = _mm256_add_epi16(iota, _mm256_set1_epi16(static_cast<short>(count)));
  store(_mm256_permutexvar_epi16(rotate, words), next - 2 * kLanes);
  next -= 2 * count;
  return reinterpret_cast<Ints>(_mm512_mask_srli_epi32(raw(x), give, raw(x), 16));
}

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

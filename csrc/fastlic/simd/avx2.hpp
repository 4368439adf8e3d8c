// AVX2, with BMI2 and FMA.
#include <immintrin.h>

#undef FASTLIC_SET
#undef FASTLIC_TARGET
#define FASTLIC_SET avx2
#define FASTLIC_TARGET gnu::target("avx2,bmi2,fma,popcnt")

namespace fastlic::simd::avx2 {

constexpr std::size_t kLanes = 8, kRegisters = 16;
#include "fastlic/simd/common.hpp"

constexpr bool kByteProducts = false, kPermutes = false, kHighProducts = true, kPairedSums = true;

template <typename Vector>
FASTLIC_INLINE __m256i raw(Vector x) {
  return reinterpret_cast<__m256i>(x);
}
template <typename Vector>
FASTLIC_INLINE __m128i low_half(Vector x) {
  return _mm256_castsi256_si128(raw(x));
}
template <typename Vector>
FASTLIC_INLINE __m128i high_half(Vector x) {
  return _mm256_extracti128_si256(raw(x), 1);
}

FASTLIC_INLINE Ints load_wide(const std::int16_t* from) {
  return reinterpret_cast<Ints>(_mm256_cvtepi16_epi32(load_as<__m128i>(from)));
}
FASTLIC_INLINE void store_pair(Ints a, Ints b, std::int16_t* to) {
  store(_mm256_permute4x64_epi64(_mm256_packs_epi32(raw(a), raw(b)), _MM_SHUFFLE(3, 1, 2, 0)), to);
}
FASTLIC_INLINE void store_single(Ints x, std::int16_t* to) { store(_mm_packs_epi32(low_half(x), high_half(x)), to); }
FASTLIC_INLINE Ints load_bytes(const std::uint8_t* from) {
  return reinterpret_cast<Ints>(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
}
FASTLIC_INLINE void store_bytes(Ints x, std::uint8_t* to) {
  const __m128i words = _mm_packs_epi32(low_half(x), high_half(x));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_packus_epi16(words, words));
}

using Pair = __m256i;
using Pairs = __m256i;
FASTLIC_INLINE Pair pair(const std::int16_t* a) {
  std::int32_t both;
  __builtin_memcpy(&both, a, sizeof both);
  return _mm256_set1_epi32(both);
}
FASTLIC_INLINE Pairs load_pairs(const std::int16_t* b) { return load_as<Pairs>(b); }
FASTLIC_INLINE Pairs load_pairs(const std::int8_t* b) { return _mm256_cvtepi8_epi16(load_as<__m128i>(b)); }
// vpmaddwd, which is exact here; vpmaddubsw would saturate.
FASTLIC_INLINE __m256i add_products(__m256i sum, Pair a, Pairs b) {
  return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
}
FASTLIC_INLINE Ints dot(Ints sum, Pair a, Pairs b) { return reinterpret_cast<Ints>(add_products(raw(sum), a, b)); }

// 2 vectors of sums for each of 6 rows, 2 of weights, one broadcast and one product: all 16 registers.
constexpr std::size_t kTileRows = 6, kTileVectors = 2;
constexpr bool kWideRows = true;                                 // a row alone is multiplied by whole panels
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

// Four 64-bit lanes. AVX2 has no arithmetic 64-bit shift: adding 2^63 makes the value unsigned, and 2^63 >> shift comes
// off again afterwards.
FASTLIC_INLINE __m256i finish(__m256i product, Longs rounding, Longs shift, std::int32_t limit) {
  const __m256i sign = _mm256_set1_epi64x(std::int64_t{1} << 62 << 1);
  __m256i value = _mm256_xor_si256(_mm256_add_epi64(product, raw(rounding)), sign);
  value = _mm256_sub_epi64(_mm256_srlv_epi64(value, raw(shift)), _mm256_srlv_epi64(sign, raw(shift)));
  const __m256i top = _mm256_set1_epi64x(limit), bottom = _mm256_set1_epi64x(-std::int64_t{limit});
  value = _mm256_blendv_epi8(value, top, _mm256_cmpgt_epi64(value, top));
  return _mm256_blendv_epi8(value, bottom, _mm256_cmpgt_epi64(bottom, value));
}
FASTLIC_INLINE Ints requantise(Ints x, Ints factor, const Wide& rounding, const Wide& shift, std::int32_t limit) {
  const __m256i first = _mm256_mul_epi32(_mm256_cvtepu32_epi64(low_half(x)), _mm256_cvtepu32_epi64(low_half(factor)));
  const __m256i second =
      _mm256_mul_epi32(_mm256_cvtepu32_epi64(high_half(x)), _mm256_cvtepu32_epi64(high_half(factor)));
  const __m256i low = finish(first, rounding.low, shift.low, limit);
  const __m256i high = finish(second, rounding.high, shift.high, limit);
  // The low halves of all eight: even 32-bit lanes of both, then the 64-bit quarters in order.
  const __m256 mixed = _mm256_shuffle_ps(_mm256_castsi256_ps(low), _mm256_castsi256_ps(high), _MM_SHUFFLE(2, 0, 2, 0));
  return reinterpret_cast<Ints>(_mm256_permute4x64_epi64(_mm256_castps_si256(mixed), _MM_SHUFFLE(3, 1, 2, 0)));
}

FASTLIC_INLINE Ints multiply_high(Ints a, Ints b) {
  const __m256i even = _mm256_mul_epi32(raw(a), raw(b));
  const __m256i odd = _mm256_mul_epi32(_mm256_srli_epi64(raw(a), 32), _mm256_srli_epi64(raw(b), 32));
  return reinterpret_cast<Ints>(_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA));
}

FASTLIC_INLINE Words magnitude(Words x) { return reinterpret_cast<Words>(_mm256_abs_epi16(raw(x))); }
FASTLIC_INLINE Words multiply_rounded(Words a, Words b) {
  return reinterpret_cast<Words>(_mm256_mulhrs_epi16(raw(a), raw(b)));
}
// sums += x * w, kWordLanes of them.
FASTLIC_INLINE void multiply_add(Ints (&sums)[2], const std::int16_t* x, const std::int16_t* w) {
  // Quarters in the order in which unpacking puts them back.
  const __m256i a = _mm256_permute4x64_epi64(load_as<__m256i>(x), _MM_SHUFFLE(3, 1, 2, 0));
  const __m256i b = _mm256_permute4x64_epi64(load_as<__m256i>(w), _MM_SHUFFLE(3, 1, 2, 0));
  const __m256i low = _mm256_mullo_epi16(a, b), high = _mm256_mulhi_epi16(a, b);
  sums[0] += reinterpret_cast<Ints>(_mm256_unpacklo_epi16(low, high));
  sums[1] += reinterpret_cast<Ints>(_mm256_unpackhi_epi16(low, high));
}
// Of the first and third four channels, and of the others.
FASTLIC_INLINE void multiply_add_both(Ints (&sums)[2], const std::int16_t* x, const std::int16_t* w,
                                      const std::int16_t* y, const std::int16_t* u) {
  const __m256i a = load_as<__m256i>(x), b = load_as<__m256i>(y), p = load_as<__m256i>(w), q = load_as<__m256i>(u);
  sums[0] += reinterpret_cast<Ints>(_mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), _mm256_unpacklo_epi16(p, q)));
  sums[1] += reinterpret_cast<Ints>(_mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), _mm256_unpackhi_epi16(p, q)));
}
FASTLIC_INLINE void put_in_order(Ints (&sums)[2]) {
  const __m256i a = raw(sums[0]), b = raw(sums[1]);
  sums[0] = reinterpret_cast<Ints>(_mm256_permute2x128_si256(a, b, 0x20));
  sums[1] = reinterpret_cast<Ints>(_mm256_permute2x128_si256(a, b, 0x31));
}
// Words are shifted as halves of 32 bits.
FASTLIC_INLINE Words shift_left(Words x, Words by) {
  const __m256i low = _mm256_set1_epi32(0xFFFF);
  const __m256i even = _mm256_sllv_epi32(raw(x), _mm256_and_si256(raw(by), low));
  const __m256i odd = _mm256_sllv_epi32(_mm256_andnot_si256(low, raw(x)), _mm256_srli_epi32(raw(by), 16));
  return reinterpret_cast<Words>(_mm256_blend_epi16(even, odd, 0xAA));
}
FASTLIC_INLINE Words shift_right(Words x, Words by) {
  const __m256i low = _mm256_set1_epi32(0xFFFF);
  const __m256i even = _mm256_srlv_epi32(_mm256_and_si256(raw(x), low), _mm256_and_si256(raw(by), low));
  const __m256i odd = _mm256_srlv_epi32(raw(x), _mm256_srli_epi32(raw(by), 16));
  return reinterpret_cast<Words>(_mm256_blend_epi16(even, odd, 0xAA));
}

FASTLIC_INLINE std::int32_t highest(Ints x) {
  __m128i m = _mm_max_epi32(low_half(x), high_half(x));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, _MM_SHUFFLE(1, 0, 3, 2)));
  return _mm_cvtsi128_si32(_mm_max_epi32(m, _mm_shuffle_epi32(m, _MM_SHUFFLE(2, 3, 0, 1))));
}
FASTLIC_INLINE std::int32_t sum(Ints x) {
  __m128i s = _mm_add_epi32(low_half(x), high_half(x));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, _MM_SHUFFLE(1, 0, 3, 2)));
  return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, _MM_SHUFFLE(2, 3, 0, 1))));
}

FASTLIC_INLINE Floats subtract_product(Floats sum, Floats a, Floats b) { return _mm256_fnmadd_ps(a, b, sum); }
FASTLIC_INLINE Floats add_product(Floats sum, Floats a, Floats b) { return _mm256_fmadd_ps(a, b, sum); }
FASTLIC_INLINE Floats square_root(Floats x) { return _mm256_sqrt_ps(x); }
FASTLIC_INLINE float lowest(Floats x) {
  __m128 m = _mm_min_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  m = _mm_min_ps(m, _mm_movehl_ps(m, m));
  return _mm_cvtss_f32(_mm_min_ss(m, _mm_movehdup_ps(m)));
}
FASTLIC_INLINE unsigned mask_bits(Ints mask) {
  return static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(raw(mask))));
}
FASTLIC_INLINE unsigned equal_bits(Ints a, Ints b) { return mask_bits(a == b); }
template <typename Mask>
FASTLIC_INLINE std::uint64_t byte_bits(Mask mask) {
  return static_cast<std::uint32_t>(_mm256_movemask_epi8(raw(mask)));
}
template <typename Mask>
FASTLIC_INLINE std::uint64_t word_bits(Mask mask) {
  return static_cast<std::uint32_t>(_mm_movemask_epi8(_mm_packs_epi16(low_half(mask), high_half(mask))));
}
FASTLIC_INLINE unsigned at_most(Floats a, Floats b) { return mask_bits(a <= b); }

FASTLIC_INLINE Ints shift_down(Ints x, Ints by) { return reinterpret_cast<Ints>(_mm256_srlv_epi32(raw(x), raw(by))); }

FASTLIC_INLINE Ints look_up(const std::uint16_t* table, Ints at) {
  return reinterpret_cast<Ints>(_mm256_i32gather_epi32(reinterpret_cast<const int*>(table), raw(at), 2)) & 0xFFFF;
}
FASTLIC_INLINE Ints look_up(const std::int32_t* table, Ints at) {
  return reinterpret_cast<Ints>(_mm256_i32gather_epi32(table, raw(at), 4));
}

// Plain loads: faster than a gather on every processor with the gather mitigation, and on AMD.
template <typename Element, typename Index>
FASTLIC_INLINE __m128i load_words(const Element* table, const Index* at) {
  __m128i words = _mm_cvtsi32_si128(table[at[0]]);
  words = _mm_insert_epi16(words, table[at[1]], 1);
  words = _mm_insert_epi16(words, table[at[2]], 2);
  words = _mm_insert_epi16(words, table[at[3]], 3);
  words = _mm_insert_epi16(words, table[at[4]], 4);
  words = _mm_insert_epi16(words, table[at[5]], 5);
  words = _mm_insert_epi16(words, table[at[6]], 6);
  return _mm_insert_epi16(words, table[at[7]], 7);
}
template <typename Element>
FASTLIC_INLINE __m128i load_four(const Element* table, const std::uint32_t* at) {
  __m128i four = _mm_cvtsi32_si128(static_cast<int>(table[at[0]]));
  four = _mm_insert_epi32(four, static_cast<int>(table[at[1]]), 1);
  four = _mm_insert_epi32(four, static_cast<int>(table[at[2]]), 2);
  return _mm_insert_epi32(four, static_cast<int>(table[at[3]]), 3);
}
template <typename Element>
FASTLIC_INLINE Ints load_each(const Element* table, Ints at) {
  alignas(32) std::uint32_t index[kLanes];
  store(raw(at), index);  // raw: GCC would take vectors of Ints apart in registers
  if constexpr (std::is_same_v<Element, std::uint16_t>) {
    return reinterpret_cast<Ints>(_mm256_cvtepu16_epi32(load_words(table, index)));
  } else if constexpr (sizeof(Element) == 2) {
    return reinterpret_cast<Ints>(_mm256_cvtepi16_epi32(load_words(table, index)));
  } else {
    return reinterpret_cast<Ints>(_mm256_setr_m128i(load_four(table, index), load_four(table, index + 4)));
  }
}
// Byte by byte, low ones in one half and high ones in the other: of each sixteenth, bytes that are not of it are zero.
struct WordTable {
  const std::uint16_t* words;
  const std::uint8_t* bytes;
  FASTLIC_INLINE Words operator()(Words at) const {
    const __m256i index = _mm256_broadcastsi128_si256(_mm_packus_epi16(low_half(at), high_half(at)));
    const auto of = [this, index] [[FASTLIC_TARGET, gnu::always_inline]] (char sixteenth) {
      const __m256i beyond = _mm256_set1_epi8(112);  // 16 and more become 128 and more, which select nothing
      const __m256i within = _mm256_sub_epi8(index, _mm256_set1_epi8(static_cast<char>(16 * sixteenth)));
      return _mm256_shuffle_epi8(load_as<__m256i>(bytes + 32 * sixteenth), _mm256_adds_epu8(within, beyond));
    };
    const __m256i found = _mm256_or_si256(_mm256_or_si256(of(0), of(1)), _mm256_or_si256(of(2), of(3)));
    const __m128i low = _mm256_castsi256_si128(found), high = _mm256_extracti128_si256(found, 1);
    return reinterpret_cast<Words>(_mm256_setr_m128i(_mm_unpacklo_epi8(low, high), _mm_unpackhi_epi8(low, high)));
  }
};

FASTLIC_INLINE Ints nearest(Floats x) { return reinterpret_cast<Ints>(_mm256_cvtps_epi32(x)); }
constexpr bool kQuotientNeverAbove = false;
FASTLIC_INLINE Ints quotient(Ints a, Ints b) { return truncate(to_floats(a) / to_floats(b)); }

// AVX2 has neither expand nor compress; permutations indexed by the mask stand in for both. Lane l of the first takes
// the word whose number is that of mask bits below l; the second has the lanes of the mask, in order, at the top end.
struct Permutations {
  alignas(64) std::uint32_t expand[256][kLanes] = {}, to_top[256][kLanes] = {};
  constexpr Permutations() {
    for (unsigned mask = 0; mask < 256; ++mask) {
      unsigned rank = 0, top = kLanes - static_cast<unsigned>(std::popcount(mask));
      for (unsigned lane = 0; lane < kLanes; ++lane) {
        expand[mask][lane] = rank;
        rank += mask >> lane & 1u;
        if ((mask >> lane & 1u) != 0) to_top[mask][top++] = lane;
      }
    }
  }
};
inline constexpr Permutations kPermutations;
FASTLIC_INLINE Ints take_words(Ints x, std::int32_t low, const std::uint8_t*& next) {
  const Ints take = x < low;
  const unsigned mask = mask_bits(take);
  const __m256i words = _mm256_cvtepu16_epi32(load_as<__m128i>(next));
  const __m256i spread = _mm256_permutevar8x32_epi32(words, load_as<__m256i>(kPermutations.expand[mask]));
  next += 2 * static_cast<unsigned>(_mm_popcnt_u32(mask));
  return take ? x << 16 | reinterpret_cast<Ints>(spread) : x;
}
FASTLIC_INLINE Ints give_words(Ints x, Ints bound, std::uint8_t*& next) {
  const Ints keep = x < bound;
  const unsigned mask = ~mask_bits(keep) & 0xFFu;
  const __m256i top = _mm256_permutevar8x32_epi32(raw(x), load_as<__m256i>(kPermutations.to_top[mask]));
  const __m256i words = _mm256_and_si256(top, _mm256_set1_epi32(0xFFFF));
  store(_mm_packus_epi32(low_half(words), high_half(words)), next - 2 * kLanes);
  next -= 2 * static_cast<unsigned>(_mm_popcnt_u32(mask));
  return keep ? x : x >> 16;
}

constexpr bool kGathers = true;
struct Table {
  const std::int32_t* table;
  FASTLIC_INLINE Ints operator()(Ints at, Ints) const { return load_each(table, at); }
};

}  // namespace fastlic::simd::avx2

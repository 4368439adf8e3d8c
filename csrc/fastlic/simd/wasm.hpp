// WebAssembly's vectors of 128 bits (simd128).
#include <wasm_simd128.h>

#undef FASTLIC_SET
#undef FASTLIC_TARGET
#define FASTLIC_SET wasm
#define FASTLIC_TARGET

namespace fastlic::simd::wasm {

constexpr std::size_t kLanes = 4, kRegisters = 16;
#include "fastlic/simd/common.hpp"

constexpr bool kByteProducts = false, kPermutes = false, kHighProducts = false, kPairedSums = false;

template <typename Vector>
FASTLIC_INLINE v128_t raw(Vector x) {
  return reinterpret_cast<v128_t>(x);
}
template <typename Vector>
FASTLIC_INLINE Vector as(v128_t x) {
  return reinterpret_cast<Vector>(x);
}

FASTLIC_INLINE Ints load_wide(const std::int16_t* from) { return as<Ints>(wasm_i32x4_load16x4(from)); }
FASTLIC_INLINE void store_pair(Ints a, Ints b, std::int16_t* to) {
  wasm_v128_store(to, wasm_i16x8_narrow_i32x4(raw(a), raw(b)));
}
FASTLIC_INLINE void store_single(Ints x, std::int16_t* to) {
  wasm_v128_store64_lane(to, wasm_i16x8_narrow_i32x4(raw(x), raw(x)), 0);
}
FASTLIC_INLINE Ints load_bytes(const std::uint8_t* from) {
  return as<Ints>(wasm_u32x4_extend_low_u16x8(wasm_u16x8_extend_low_u8x16(wasm_v128_load32_zero(from))));
}
FASTLIC_INLINE void store_bytes(Ints x, std::uint8_t* to) {
  const v128_t words = wasm_i16x8_narrow_i32x4(raw(x), raw(x));
  wasm_v128_store32_lane(to, wasm_u8x16_narrow_i16x8(words, words), 0);
}

using Pair = v128_t;
using Pairs = v128_t;
FASTLIC_INLINE Pair pair(const std::int16_t* a) { return wasm_v128_load32_splat(a); }
FASTLIC_INLINE Pairs load_pairs(const std::int16_t* b) { return wasm_v128_load(b); }
FASTLIC_INLINE Pairs load_pairs(const std::int8_t* b) { return wasm_i16x8_load8x8(b); }
FASTLIC_INLINE Ints dot(Ints sum, Pair a, Pairs b) { return sum + as<Ints>(wasm_i32x4_dot_i16x8(a, b)); }

// 2 vectors of sums for each of 4 rows, 2 of weights, one broadcast and one product: 12 registers. V8 keeps some of
// x86's 16 to itself: with a fifth row it takes a third longer for each product.
constexpr std::size_t kTileRows = 4, kTileVectors = 2;
constexpr bool kWideRows = true;  // a row alone is multiplied by whole panels
using Sum = Ints;
struct Weights {
  Pairs at[kTileVectors];
};
template <typename Weight>
FASTLIC_INLINE Weights load_weights(const Weight* b) {
  return {{load_pairs(b), load_pairs(b + kWordLanes)}};
}
FASTLIC_INLINE void dot(Sum (&sums)[kTileVectors], Pair a, const Weights& b) {
  sums[0] = dot(sums[0], a, b.at[0]);
  sums[1] = dot(sums[1], a, b.at[1]);
}

// Shifts of 64 bits lane by lane do not exist. With value = high * 2^32 + low, value >> shift is the sum of both parts'
// floors, floor(high * 2^(32 - shift)) + floor(low * 2^-shift): up to 32, the first is whole without its floor; beyond,
// the second is zero. Doubles hold each exactly, and the sum wherever it is not clipped.
FASTLIC_INLINE v128_t finish(v128_t high, v128_t low, Longs shift, std::int32_t limit) {
  const v128_t scale = wasm_i64x2_shl(wasm_i64x2_sub(wasm_i64x2_const_splat(1023), raw(shift)), 52);  // 2^-shift
  const v128_t high_scale = wasm_f64x2_mul(scale, wasm_f64x2_const_splat(0x1p32));
  const v128_t value = wasm_f64x2_add(wasm_f64x2_floor(wasm_f64x2_mul(wasm_f64x2_convert_low_i32x4(high), high_scale)),
                                      wasm_f64x2_floor(wasm_f64x2_mul(wasm_f64x2_convert_low_u32x4(low), scale)));
  const v128_t most = wasm_f64x2_splat(limit);
  const v128_t clipped = wasm_f64x2_pmax(wasm_f64x2_pmin(value, most), wasm_f64x2_neg(most));
  return wasm_i32x4_trunc_sat_f64x2_zero(clipped);
}
FASTLIC_INLINE Ints requantise_any(Ints x, Ints factor, const Wide& rounding, const Wide& shift, std::int32_t limit) {
  const v128_t first = wasm_i64x2_add(wasm_i64x2_extmul_low_i32x4(raw(x), raw(factor)), raw(rounding.low));
  const v128_t second = wasm_i64x2_add(wasm_i64x2_extmul_high_i32x4(raw(x), raw(factor)), raw(rounding.high));
  const v128_t low = finish(wasm_i32x4_shuffle(first, first, 1, 3, 1, 3), wasm_i32x4_shuffle(first, first, 0, 2, 0, 2),
                            shift.low, limit);
  const v128_t high = finish(wasm_i32x4_shuffle(second, second, 1, 3, 1, 3),
                             wasm_i32x4_shuffle(second, second, 0, 2, 0, 2), shift.high, limit);
  return as<Ints>(wasm_i64x2_shuffle(low, high, 0, 2));
}

// Doubles hold products below 2^52, and these plus 1/2, exactly. In units of the result that half is less than what two
// products differ by: no tie is left, so that rounding to the nearest even, as the addition of 1.5 * 2^52 does, rounds
// halves up. The result is then in the low bits.
FASTLIC_INLINE v128_t scaled(v128_t product, Longs shift, v128_t most) {
  const v128_t scale = wasm_i64x2_shl(wasm_i64x2_sub(wasm_i64x2_const_splat(1023), raw(shift)), 52);  // 2^-shift
  const v128_t value = wasm_f64x2_mul(wasm_f64x2_add(product, wasm_f64x2_const_splat(0.5)), scale);
  const v128_t clipped = wasm_f64x2_pmax(wasm_f64x2_pmin(value, most), wasm_f64x2_neg(most));
  return wasm_f64x2_add(clipped, wasm_f64x2_const_splat(0x1.8p52));
}
FASTLIC_INLINE v128_t doubles(Ints x) { return wasm_f64x2_convert_low_i32x4(raw(x)); }
FASTLIC_INLINE v128_t high_doubles(Ints x) {
  return wasm_f64x2_convert_low_i32x4(wasm_i32x4_shuffle(raw(x), raw(x), 2, 3, 2, 3));
}
// `rounding` is half a unit of the result.
FASTLIC_INLINE Ints requantise(Ints x, Ints factor, const Wide& rounding, const Wide& shift, std::int32_t limit) {
  const v128_t low = wasm_f64x2_mul(doubles(x), doubles(factor));
  const v128_t high = wasm_f64x2_mul(high_doubles(x), high_doubles(factor));
  const v128_t largest = wasm_f64x2_pmax(wasm_f64x2_abs(low), wasm_f64x2_abs(high));
  if (wasm_v128_any_true(wasm_f64x2_ge(largest, wasm_f64x2_const_splat(0x1p52)))) [[unlikely]] {
    return requantise_any(x, factor, rounding, shift, limit);
  }
  const v128_t most = wasm_f64x2_splat(limit);
  return as<Ints>(wasm_i32x4_shuffle(scaled(low, shift.low, most), scaled(high, shift.high, most), 0, 2, 4, 6));
}

FASTLIC_INLINE Words magnitude(Words x) { return as<Words>(wasm_i16x8_abs(raw(x))); }
FASTLIC_INLINE Words multiply_rounded(Words a, Words b) { return as<Words>(wasm_i16x8_q15mulr_sat(raw(a), raw(b))); }
FASTLIC_INLINE void multiply_add(Ints (&sums)[2], const std::int16_t* x, const std::int16_t* w) {
  const v128_t a = wasm_v128_load(x), b = wasm_v128_load(w);
  sums[0] += as<Ints>(wasm_i32x4_extmul_low_i16x8(a, b));
  sums[1] += as<Ints>(wasm_i32x4_extmul_high_i16x8(a, b));
}
// 2^by is looked up byte by byte, 0 to 15; there are no shifts lane by lane.
FASTLIC_INLINE Words shift_left(Words x, Words by) {
  const v128_t low = wasm_u8x16_const(1, 2, 4, 8, 16, 32, 64, 128, 0, 0, 0, 0, 0, 0, 0, 0);
  const v128_t high = wasm_u8x16_const(0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128);
  const v128_t at_low = raw(by | static_cast<std::int16_t>(-256)), at_high = raw((by << 8) | std::int16_t{255});
  return x * as<Words>(wasm_v128_or(wasm_i8x16_swizzle(low, at_low), wasm_i8x16_swizzle(high, at_high)));
}
FASTLIC_INLINE Words shift_right(Words x, Words by) {
  if (!wasm_v128_any_true(raw(by))) return x;  // nearly always
  return x >> by;
}

// Byte by byte: selections give zero for numbers of 16 and more.
struct WordTable {
  const std::uint16_t* words;
  const std::uint8_t* bytes;
  FASTLIC_INLINE Words operator()(Words at) const {
    const v128_t index = wasm_u8x16_narrow_i16x8(raw(at), raw(at));
    v128_t low = wasm_i8x16_const_splat(0), high = low;
    for (int sixteenth = 0; sixteenth < 4; ++sixteenth) {
      const v128_t within = wasm_i8x16_sub(index, wasm_i8x16_splat(static_cast<std::int8_t>(16 * sixteenth)));
      low |= wasm_i8x16_swizzle(wasm_v128_load(bytes + 32 * sixteenth), within);
      high |= wasm_i8x16_swizzle(wasm_v128_load(bytes + 32 * sixteenth + 16), within);
    }
    return as<Words>(wasm_i8x16_shuffle(low, high, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23));
  }
};

FASTLIC_INLINE std::int32_t highest(Ints x) {
  const Ints two = most(x, as<Ints>(wasm_i32x4_shuffle(raw(x), raw(x), 2, 3, 0, 1)));
  return two[0] > two[1] ? two[0] : two[1];
}
FASTLIC_INLINE std::int32_t sum(Ints x) { return x[0] + x[1] + x[2] + x[3]; }

// No instruction rounds both at once.
FASTLIC_INLINE Floats subtract_product(Floats sum, Floats a, Floats b) { return sum - a * b; }
FASTLIC_INLINE Floats add_product(Floats sum, Floats a, Floats b) { return sum + a * b; }
FASTLIC_INLINE Floats square_root(Floats x) { return as<Floats>(wasm_f32x4_sqrt(raw(x))); }
FASTLIC_INLINE float lowest(Floats x) {
  const Floats two = least(x, as<Floats>(wasm_i32x4_shuffle(raw(x), raw(x), 2, 3, 0, 1)));
  return two[0] < two[1] ? two[0] : two[1];
}
FASTLIC_INLINE unsigned mask_bits(Ints mask) { return wasm_i32x4_bitmask(raw(mask)); }
FASTLIC_INLINE unsigned equal_bits(Ints a, Ints b) { return mask_bits(a == b); }
template <typename Mask>
FASTLIC_INLINE std::uint64_t byte_bits(Mask mask) {
  return wasm_i8x16_bitmask(raw(mask));
}
template <typename Mask>
FASTLIC_INLINE std::uint64_t word_bits(Mask mask) {
  return wasm_i16x8_bitmask(raw(mask));
}
FASTLIC_INLINE unsigned at_most(Floats a, Floats b) { return mask_bits(a <= b); }

FASTLIC_INLINE Ints shift_down(Ints x, Ints by) { return x >> (by < 31 ? by : all<Ints>(31)); }

template <typename T>
FASTLIC_INLINE Ints look_up(const T* table, Ints at) {
  const auto of = [table](std::int32_t i) { return static_cast<std::int32_t>(table[i]); };
  return Ints{of(at[0]), of(at[1]), of(at[2]), of(at[3])};
}
template <typename T>
FASTLIC_INLINE Ints load_each(const T* table, Ints at) {
  return look_up(table, at);
}

FASTLIC_INLINE Ints nearest(Floats x) { return as<Ints>(wasm_i32x4_trunc_sat_f32x4(wasm_f32x4_nearest(raw(x)))); }
constexpr bool kQuotientNeverAbove = false;
FASTLIC_INLINE Ints quotient(Ints a, Ints b) { return truncate(to_floats(a) / to_floats(b)); }
// By the mask: which bytes each lane takes of the words that follow, or none; the low bytes of its lanes at the top.
struct Permutations {
  std::uint8_t expand[16][16] = {}, to_top[16][16] = {};
  constexpr Permutations() {
    for (unsigned mask = 0; mask < 16; ++mask) {
      unsigned rank = 0, top = kLanes - static_cast<unsigned>(std::popcount(mask));
      for (unsigned lane = 0; lane < kLanes; ++lane) {
        for (unsigned byte = 0; byte < 4; ++byte) expand[mask][4 * lane + byte] = 255;
        if ((mask >> lane & 1u) == 0) continue;
        for (unsigned byte = 0; byte < 2; ++byte) {
          expand[mask][4 * lane + byte] = static_cast<std::uint8_t>(2 * rank + byte);
          to_top[mask][2 * top + byte] = static_cast<std::uint8_t>(4 * lane + byte);
        }
        ++rank;
        ++top;
      }
    }
  }
};
inline constexpr Permutations kPermutations;
FASTLIC_INLINE Ints take_words(Ints x, std::int32_t low, const std::uint8_t*& next) {
  const Ints take = x < low;
  const unsigned mask = mask_bits(take);
  const Ints spread =
      as<Ints>(wasm_i8x16_swizzle(wasm_v128_load64_zero(next), wasm_v128_load(kPermutations.expand[mask])));
  next += 2 * std::popcount(mask);
  return take ? x << 16 | spread : x;
}
FASTLIC_INLINE Ints give_words(Ints x, Ints bound, std::uint8_t*& next) {
  const Ints give = x >= bound;
  const unsigned mask = mask_bits(give);
  wasm_v128_store64_lane(next - 8, wasm_i8x16_swizzle(raw(x), wasm_v128_load(kPermutations.to_top[mask])), 0);
  next -= 2 * std::popcount(mask);
  return give ? x >> 16 : x;
}

constexpr bool kGathers = false;
struct Table {
  const std::int32_t* table;
  FASTLIC_INLINE Ints operator()(Ints at, Ints) const { return look_up(table, at); }
};

}  // namespace fastlic::simd::wasm

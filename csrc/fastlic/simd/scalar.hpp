// For any processor, without any intrinsic: what has no operator goes lane by lane.
#include "fastlic/simd/one.hpp"

#undef FASTLIC_SET
#undef FASTLIC_TARGET
#define FASTLIC_SET scalar
#define FASTLIC_TARGET

namespace fastlic::simd::scalar {

constexpr std::size_t kLanes = 4, kRegisters = 16;
#include "fastlic/simd/common.hpp"

constexpr bool kByteProducts = false, kPermutes = false, kHighProducts = false, kPairedSums = false;

FASTLIC_INLINE Ints widen_low(Words x) {
  return reinterpret_cast<Ints>(__builtin_shufflevector(x, x, 0, 0, 1, 1, 2, 2, 3, 3)) >> 16;
}
FASTLIC_INLINE Ints widen_high(Words x) {
  return reinterpret_cast<Ints>(__builtin_shufflevector(x, x, 4, 4, 5, 5, 6, 6, 7, 7)) >> 16;
}
FASTLIC_INLINE Ints load_wide(const std::int16_t* from) { return Ints{from[0], from[1], from[2], from[3]}; }
// Stores of the low bits, for numbers that fit.
FASTLIC_INLINE void store_pair(Ints a, Ints b, std::int16_t* to) {
  for (std::size_t k = 0; k < kLanes; ++k) {
    to[k] = static_cast<std::int16_t>(a[k]);
    to[kLanes + k] = static_cast<std::int16_t>(b[k]);
  }
}
FASTLIC_INLINE void store_single(Ints x, std::int16_t* to) {
  for (std::size_t k = 0; k < kLanes; ++k) to[k] = static_cast<std::int16_t>(x[k]);
}
FASTLIC_INLINE Ints load_bytes(const std::uint8_t* from) { return Ints{from[0], from[1], from[2], from[3]}; }
FASTLIC_INLINE void store_bytes(Ints x, std::uint8_t* to) {
  for (std::size_t k = 0; k < kLanes; ++k) to[k] = static_cast<std::uint8_t>(x[k]);
}

// Pairs of int16: dot adds a[0] * b[2l] + a[1] * b[2l + 1] to lane l.
using Pair = const std::int16_t*;
using Pairs = Words;
FASTLIC_INLINE Pair pair(const std::int16_t* a) { return a; }
FASTLIC_INLINE Pairs load_pairs(const std::int16_t* b) { return load(b); }
FASTLIC_INLINE Ints dot(Ints sum, Pair a, Pairs b) {
  Uints out = reinterpret_cast<Uints>(sum);  // sums wrap
  for (std::size_t k = 0; k < kLanes; ++k) out[k] += static_cast<std::uint32_t>(a[0] * b[2 * k] + a[1] * b[2 * k + 1]);
  return reinterpret_cast<Ints>(out);
}

// Matrix products: one row against 32 columns.
constexpr std::size_t kTileRows = 1, kTileVectors = 8;
constexpr bool kWideRows = false;
using Sum = Ints;
template <typename Weight>
FASTLIC_INLINE const Weight* load_weights(const Weight* b) {
  return b;
}
template <typename Weight>
FASTLIC_INLINE void dot(Sum (&sums)[kTileVectors], Pair a, const Weight* b) {
  const std::int32_t x0 = a[0], x1 = a[1];
  std::uint32_t out[kTileVectors * kLanes];
  __builtin_memcpy(out, sums, sizeof out);
  for (std::size_t c = 0; c < kTileVectors * kLanes; ++c) {
    out[c] += static_cast<std::uint32_t>(x0 * b[2 * c] + x1 * b[2 * c + 1]);
  }
  __builtin_memcpy(sums, out, sizeof out);
}

// (x * factor + rounding) >> shift in 64 bits, clipped to +-limit.
FASTLIC_INLINE Ints requantise(Ints x, Ints factor, const Wide& rounding, const Wide& shift, std::int32_t limit) {
  Ints out;
  for (std::size_t k = 0; k < kLanes; ++k) {
    const auto of = [k](const Wide& w) { return k < kLongLanes ? w.low[k] : w.high[k - kLongLanes]; };
    const std::int64_t value = (std::int64_t{x[k]} * factor[k] + of(rounding)) >> of(shift);
    out[k] = static_cast<std::int32_t>(value < -limit ? -limit : value > limit ? limit : value);
  }
  return out;
}

FASTLIC_INLINE Words magnitude(Words x) { return x < 0 ? -x : x; }
// (a * b + 2^14) >> 15
FASTLIC_INLINE Words multiply_rounded(Words a, Words b) {
  for (std::size_t k = 0; k < kWordLanes; ++k) a[k] = static_cast<std::int16_t>((a[k] * b[k] + (1 << 14)) >> 15);
  return a;
}
FASTLIC_INLINE void multiply_add(Ints (&sums)[2], const std::int16_t* x, const std::int16_t* w) {
  const Words a = load(x), b = load(w);
  sums[0] += widen_low(a) * widen_low(b);
  sums[1] += widen_high(a) * widen_high(b);
}
FASTLIC_INLINE Words shift_left(Words x, Words by) { return x << by; }
FASTLIC_INLINE Words shift_right(Words x, Words by) { return x >> by; }

// 64 words; `bytes` has the bytes of the same, 16 low ones before 16 high ones.
struct WordTable {
  const std::uint16_t* words;
  const std::uint8_t* bytes;
  FASTLIC_INLINE Words operator()(Words at) const {
    for (std::size_t k = 0; k < kWordLanes; ++k) at[k] = static_cast<std::int16_t>(words[at[k]]);
    return at;
  }
};

// Over all lanes.
FASTLIC_INLINE std::int32_t highest(Ints x) {
  const std::int32_t a = x[0] > x[1] ? x[0] : x[1], b = x[2] > x[3] ? x[2] : x[3];
  return a > b ? a : b;
}
FASTLIC_INLINE std::int32_t sum(Ints x) { return x[0] + x[1] + x[2] + x[3]; }

// sum - a * b; rounded once where there is an instruction for it.
FASTLIC_INLINE Floats subtract_product(Floats sum, Floats a, Floats b) { return sum - a * b; }
FASTLIC_INLINE Floats add_product(Floats sum, Floats a, Floats b) { return sum + a * b; }
FASTLIC_INLINE Floats square_root(Floats x) {
  for (std::size_t k = 0; k < kLanes; ++k) x[k] = __builtin_sqrtf(x[k]);
  return x;
}
FASTLIC_INLINE float lowest(Floats x) {
  const float a = x[0] < x[1] ? x[0] : x[1], b = x[2] < x[3] ? x[2] : x[3];
  return a < b ? a : b;
}
// A bit for each lane.
FASTLIC_INLINE unsigned mask_bits(Ints mask) {
  const Longs two = reinterpret_cast<Longs>(mask & Ints{1, 2, 4, 8});
  const std::int64_t both = two[0] | two[1];
  return static_cast<unsigned>(both | both >> 32) & 15;
}
FASTLIC_INLINE unsigned equal_bits(Ints a, Ints b) { return mask_bits(a == b); }
template <typename Mask>
FASTLIC_INLINE std::uint64_t byte_bits(Mask mask) {
  std::uint64_t bits = 0;
  for (std::size_t k = 0; k < sizeof mask / sizeof mask[0]; ++k) bits |= std::uint64_t{mask[k] != 0} << k;
  return bits;
}
FASTLIC_INLINE std::uint64_t word_bits(Words mask) { return byte_bits(mask); }
FASTLIC_INLINE unsigned at_most(Floats a, Floats b) { return mask_bits(a <= b); }

// Of numbers >= 0; shifts beyond 31 leave nothing.
FASTLIC_INLINE Ints shift_down(Ints x, Ints by) { return x >> (by < 31 ? by : all<Ints>(31)); }

template <typename T>
FASTLIC_INLINE Ints look_up(const T* table, Ints at) {
  std::int32_t each[kLanes];
  store(at, each);
  for (std::int32_t& i : each) i = table[i];
  return load(each);
}
template <typename T>
FASTLIC_INLINE Ints load_each(const T* table, Ints at) {
  return look_up(table, at);
}

FASTLIC_INLINE Ints nearest(Floats x) {
  return Ints{static_cast<int>(__builtin_lrintf(x[0])), static_cast<int>(__builtin_lrintf(x[1])),
              static_cast<int>(__builtin_lrintf(x[2])), static_cast<int>(__builtin_lrintf(x[3]))};
}
// Of whole numbers, nearly.
constexpr bool kQuotientNeverAbove = false;
FASTLIC_INLINE Ints quotient(Ints a, Ints b) { return truncate(to_floats(a) / to_floats(b)); }
// Lanes below `low` take in 16 bits: the words at `next`, one after the other.
FASTLIC_INLINE Ints take_words(Ints x, std::int32_t low, const std::uint8_t*& next) {
  for (std::size_t k = 0; k < kLanes; ++k) x[k] = one::take_words(x[k], low, next);
  return x;
}
// Lanes not below `bound` give off their low 16 bits: words that end at `next`, the first lane's come first.
FASTLIC_INLINE Ints give_words(Ints x, Ints bound, std::uint8_t*& next) {
  for (std::size_t k = kLanes; k-- > 0;) x[k] = one::give_words(x[k], bound[k], next);
  return x;
}

constexpr bool kGathers = false;
// 64 numbers; `above` has the lanes that look up one of the upper 32.
struct Table {
  const std::int32_t* table;
  FASTLIC_INLINE Ints operator()(Ints at, Ints) const { return look_up(table, at); }
};

}  // namespace fastlic::simd::scalar

// One lane at a time, for what the lanes of a stream or its odd ends leave over: numbers in place of vectors, with the
// names that coders use.
#pragma once

#include <cmath>

#include "fastlic/bit_cast.hpp"

#undef FASTLIC_SET
#undef FASTLIC_TARGET
#define FASTLIC_SET one
#define FASTLIC_TARGET
#define FASTLIC_INLINE [[FASTLIC_TARGET, gnu::always_inline]] inline

namespace fastlic::simd::one {

constexpr std::size_t kLanes = 1;
constexpr bool kPermutes = false;
using Ints = std::int32_t;
using Uints = std::uint32_t;
using Floats = float;

template <typename T>
FASTLIC_INLINE T load(const T* from) {
  return *from;
}
template <typename T, typename To>
FASTLIC_INLINE void store(T x, To* to) {
  *to = static_cast<To>(x);
}
template <typename T>
FASTLIC_INLINE T all(T value) {
  return value;
}
template <typename T>
FASTLIC_INLINE T least(T a, T b) {
  return a < b ? a : b;
}
template <typename T>
FASTLIC_INLINE T most(T a, T b) {
  return a > b ? a : b;
}
FASTLIC_INLINE unsigned equal_bits(Ints a, Ints b) { return a == b; }
FASTLIC_INLINE Ints bits(Floats x) { return bit_cast<Ints>(x); }
FASTLIC_INLINE Floats from_bits(Ints x) { return bit_cast<Floats>(x); }
FASTLIC_INLINE Floats to_floats(Ints x) { return static_cast<Floats>(x); }
FASTLIC_INLINE Ints truncate(Floats x) { return static_cast<Ints>(x); }
FASTLIC_INLINE Ints nearest(Floats x) { return static_cast<Ints>(std::lrintf(x)); }
template <typename T>
FASTLIC_INLINE Ints load_each(const T* table, Ints at) {
  return table[at];
}
template <typename Table>
Ints look_up_32(const Table& table, Ints at);

FASTLIC_INLINE Ints take_words(Ints x, std::int32_t low, const std::uint8_t*& next) {
  std::uint16_t word;
  __builtin_memcpy(&word, next, sizeof word);
  const auto refilled = static_cast<Ints>(static_cast<Uints>(x) << 16 | word);
  const bool take = x < low;
  next += take ? 2 : 0;
  return take ? refilled : x;
}
FASTLIC_INLINE Ints give_words(Ints x, Ints bound, std::uint8_t*& next) {
  const auto word = static_cast<std::uint16_t>(x);
  __builtin_memcpy(next - 2, &word, sizeof word);
  const bool give = x >= bound;
  next -= give ? 2 : 0;
  return give ? x >> 16 : x;
}

}  // namespace fastlic::simd::one

// NEON, AArch64's baseline.
#include <arm_neon.h>

#undef FASTLIC_SET
#undef FASTLIC_TARGET
#define FASTLIC_SET neon
#define FASTLIC_TARGET

namespace fastlic::simd::neon {

constexpr std::size_t kLanes = 4, kRegisters = 32;
#include "fastlic/simd/common.hpp"

constexpr bool kByteProducts = false, kPermutes = false, kHighProducts = true, kPairedSums = false;

FASTLIC_INLINE Ints load_wide(const std::int16_t* from) { return vmovl_s16(vld1_s16(from)); }
FASTLIC_INLINE void store_pair(Ints a, Ints b, std::int16_t* to) {
  vst1q_s16(to, vcombine_s16(vmovn_s32(a), vmovn_s32(b)));
}
FASTLIC_INLINE void store_single(Ints x, std::int16_t* to) { vst1_s16(to, vmovn_s32(x)); }
FASTLIC_INLINE Ints load_bytes(const std::uint8_t* from) {
  std::uint32_t bytes;
  __builtin_memcpy(&bytes, from, sizeof bytes);
  return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(bytes))))));
}
FASTLIC_INLINE void store_bytes(Ints x, std::uint8_t* to) {
  const int16x4_t words = vmovn_s32(x);
  const std::uint32_t bytes = vget_lane_u32(vreinterpret_u32_s8(vmovn_s16(vcombine_s16(words, words))), 0);
  __builtin_memcpy(to, &bytes, sizeof bytes);
}

// Products by lane into int32 sums (smlal). The byte dot products of later cores do not fit: activations have more than
// eight bits.
using Pair = int16x4_t;
using Pairs = int16x4x2_t;
FASTLIC_INLINE Pair pair(const std::int16_t* a) {
  std::int32_t both;
  __builtin_memcpy(&both, a, sizeof both);
  return vreinterpret_s16_s32(vdup_n_s32(both));
}
FASTLIC_INLINE Pairs load_pairs(const std::int16_t* b) { return vld2_s16(b); }
FASTLIC_INLINE Ints dot(Ints sum, Pair a, Pairs b) {
  return vmlal_lane_s16(vmlal_lane_s16(sum, b.val[0], a, 0), b.val[1], a, 1);
}

// 4 vectors of sums for each of 6 rows, 4 of weights, one of activations: 29 of 32 registers.
constexpr std::size_t kTileRows = 6, kTileVectors = 4;
constexpr bool kWideRows = false;
using Sum = Ints;
// Both rows of a pair of depth, 16 columns each: .val[0] and .val[1] are row 2k, .val[2] and .val[3] are row 2k + 1.
using Weights = int16x8x4_t;
FASTLIC_INLINE Weights load_weights(const std::int8_t* b) {
  const int8x16x2_t rows = vld2q_s8(b);
  return {vmovl_s8(vget_low_s8(rows.val[0])), vmovl_high_s8(rows.val[0]), vmovl_s8(vget_low_s8(rows.val[1])),
          vmovl_high_s8(rows.val[1])};
}
FASTLIC_INLINE Weights load_weights(const std::int16_t* b) {
  const int16x8x2_t left = vld2q_s16(b), right = vld2q_s16(b + 16);
  return {left.val[0], right.val[0], left.val[1], right.val[1]};
}
FASTLIC_INLINE void dot(Sum (&sums)[kTileVectors], Pair a, const Weights& w) {
  sums[0] = vmlal_lane_s16(sums[0], vget_low_s16(w.val[0]), a, 0);
  sums[1] = vmlal_high_lane_s16(sums[1], w.val[0], a, 0);
  sums[2] = vmlal_lane_s16(sums[2], vget_low_s16(w.val[1]), a, 0);
  sums[3] = vmlal_high_lane_s16(sums[3], w.val[1], a, 0);
  sums[0] = vmlal_lane_s16(sums[0], vget_low_s16(w.val[2]), a, 1);
  sums[1] = vmlal_high_lane_s16(sums[1], w.val[2], a, 1);
  sums[2] = vmlal_lane_s16(sums[2], vget_low_s16(w.val[3]), a, 1);
  sums[3] = vmlal_high_lane_s16(sums[3], w.val[3], a, 1);
}

FASTLIC_INLINE int32x2_t finish(int64x2_t product, Longs rounding, Longs shift, std::int32_t limit) {
  const Longs value = vshlq_s64(vaddq_s64(product, rounding), vnegq_s64(shift));
  return vmovn_s64(most(least(value, all<Longs>(limit)), all<Longs>(-std::int64_t{limit})));
}
FASTLIC_INLINE Ints requantise(Ints x, Ints factor, const Wide& rounding, const Wide& shift, std::int32_t limit) {
  return vcombine_s32(finish(vmull_s32(vget_low_s32(x), vget_low_s32(factor)), rounding.low, shift.low, limit),
                      finish(vmull_high_s32(x, factor), rounding.high, shift.high, limit));
}

FASTLIC_INLINE Ints multiply_high(Ints a, Ints b) {
  return vuzp2q_s32(vreinterpretq_s32_s64(vmull_s32(vget_low_s32(a), vget_low_s32(b))),
                    vreinterpretq_s32_s64(vmull_high_s32(a, b)));
}

FASTLIC_INLINE Words magnitude(Words x) { return vabsq_s16(x); }
FASTLIC_INLINE Words multiply_rounded(Words a, Words b) { return vqrdmulhq_s16(a, b); }
FASTLIC_INLINE void multiply_add(Ints (&sums)[2], const std::int16_t* x, const std::int16_t* w) {
  sums[0] = vmlal_s16(sums[0], vget_low_s16(load(x)), vget_low_s16(load(w)));
  sums[1] = vmlal_high_s16(sums[1], load(x), load(w));
}
FASTLIC_INLINE Words shift_left(Words x, Words by) { return vshlq_s16(x, by); }
FASTLIC_INLINE Words shift_right(Words x, Words by) { return vshlq_s16(x, -by); }

// Low and high bytes in four registers each.
struct WordTable {
  uint8x16x4_t low, high;
  FASTLIC_INLINE WordTable(const std::uint16_t*, const std::uint8_t* bytes) {
    for (int i = 0; i < 4; ++i) {
      low.val[i] = vld1q_u8(bytes + 32 * i);
      high.val[i] = vld1q_u8(bytes + 32 * i + 16);
    }
  }
  FASTLIC_INLINE Words operator()(Words at) const {
    const uint8x8_t index = vmovn_u16(vreinterpretq_u16_s16(at));
    const uint8x16_t bytes = vcombine_u8(vqtbl4_u8(low, index), vqtbl4_u8(high, index));
    return vreinterpretq_s16_u8(vzip1q_u8(bytes, vextq_u8(bytes, bytes, 8)));
  }
};

FASTLIC_INLINE std::int32_t highest(Ints x) { return vmaxvq_s32(x); }
FASTLIC_INLINE std::int32_t sum(Ints x) { return vaddvq_s32(x); }

FASTLIC_INLINE Floats subtract_product(Floats sum, Floats a, Floats b) { return vfmsq_f32(sum, a, b); }
FASTLIC_INLINE Floats add_product(Floats sum, Floats a, Floats b) { return vfmaq_f32(sum, a, b); }
FASTLIC_INLINE Floats square_root(Floats x) { return vsqrtq_f32(x); }
FASTLIC_INLINE float lowest(Floats x) { return vminvq_f32(x); }
FASTLIC_INLINE unsigned mask_bits(Ints mask) {
  const Uints bits = {1, 2, 4, 8};
  return vaddvq_u32(vandq_u32(vreinterpretq_u32_s32(mask), bits));
}
FASTLIC_INLINE unsigned equal_bits(Ints a, Ints b) { return mask_bits(a == b); }
template <typename Mask>
FASTLIC_INLINE std::uint64_t byte_bits(Mask mask) {
  const uint8x16_t bits = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
  const uint8x16_t some = vandq_u8(reinterpret_cast<uint8x16_t>(mask), bits);
  return vaddv_u8(vget_low_u8(some)) | static_cast<unsigned>(vaddv_u8(vget_high_u8(some))) << 8;
}
template <typename Mask>
FASTLIC_INLINE std::uint64_t word_bits(Mask mask) {
  const uint16x8_t bits = {1, 2, 4, 8, 16, 32, 64, 128};
  return vaddvq_u16(vandq_u16(reinterpret_cast<uint16x8_t>(mask), bits));
}
FASTLIC_INLINE unsigned at_most(Floats a, Floats b) { return mask_bits(a <= b); }

FASTLIC_INLINE Ints shift_down(Ints x, Ints by) { return vshlq_s32(x, -least(by, all<Ints>(31))); }

template <typename T>
FASTLIC_INLINE Ints look_up(const T* table, Ints at) {
  for (std::size_t k = 0; k < kLanes; ++k) at[k] = table[at[k]];
  return at;
}
template <typename T>
FASTLIC_INLINE Ints load_each(const T* table, Ints at) {
  return look_up(table, at);
}

FASTLIC_INLINE Ints nearest(Floats x) { return vcvtnq_s32_f32(x); }
constexpr bool kQuotientNeverAbove = false;
FASTLIC_INLINE Ints quotient(Ints a, Ints b) { return truncate(to_floats(a) / to_floats(b)); }
// By the mask: which bytes each lane takes of the words that follow, or none; the low bytes of its lanes at the top.
struct Permutations {
  std::uint8_t expand[16][16] = {}, to_top[16][8] = {};
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
  const Ints spread = vreinterpretq_s32_u8(vqtbl1q_u8(vld1q_u8(next), vld1q_u8(kPermutations.expand[mask])));
  next += 2 * std::popcount(mask);
  return take ? x << 16 | spread : x;
}
FASTLIC_INLINE Ints give_words(Ints x, Ints bound, std::uint8_t*& next) {
  const Ints give = x >= bound;
  const unsigned mask = mask_bits(give);
  vst1_u8(next - 8, vqtbl1_u8(vreinterpretq_u8_s32(x), vld1_u8(kPermutations.to_top[mask])));
  next -= 2 * std::popcount(mask);
  return give ? x >> 16 : x;
}

constexpr bool kGathers = false;
struct Table {
  const std::int32_t* table;
  FASTLIC_INLINE Ints operator()(Ints at, Ints) const { return look_up(table, at); }
};

}  // namespace fastlic::simd::neon

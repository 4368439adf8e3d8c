// AArch64: int16 products by lane into int32 sums (smlal), which wrap as all other paths do. The byte dot products of
// later cores do not fit: activations have more than eight bits (packed.hpp).
#if defined(__aarch64__)

#include <arm_neon.h>

#include <array>
#include <cstring>
#include <utility>

#include "fastlic/nn/kernels.hpp"

namespace fastlic::nn {
namespace {

constexpr std::size_t kLanes = 4;
constexpr std::size_t kHalf = kPanel / 2;  // columns of one block
constexpr std::size_t kVectors = kHalf / kLanes;
// 4 vectors of sums for each of 6 rows, 4 of weights, one of activations: 29 of 32 registers.
constexpr std::size_t kMaxRows = 6;

// Both rows of a pair of depth, 16 columns each: .val[0] and .val[1] are row 2k, .val[2] and .val[3] are row 2k + 1.
inline int16x8x4_t load_weights(const std::int8_t* b) {
  const int8x16x2_t rows = vld2q_s8(b);
  return {vmovl_s8(vget_low_s8(rows.val[0])), vmovl_high_s8(rows.val[0]), vmovl_s8(vget_low_s8(rows.val[1])),
          vmovl_high_s8(rows.val[1])};
}
inline int16x8x4_t load_weights(const std::int16_t* b) {
  const int16x8x2_t left = vld2q_s16(b), right = vld2q_s16(b + kHalf);
  return {left.val[0], right.val[0], left.val[1], right.val[1]};
}

template <typename Weight, std::size_t R>
void multiply_rows(const GemmJob<Weight>& job, std::size_t first_row, std::size_t first_column) {
  const std::size_t columns = job.columns, stride = job.a_stride;
  int32x4_t sums[R][kVectors];
#pragma GCC unroll 8
  for (std::size_t r = 0; r < R; ++r) {
    const std::int32_t* start = job.start[first_row + r] + first_column;
    for (std::size_t v = 0; v < kVectors; ++v) sums[r][v] = vld1q_s32(start + v * kLanes);
  }
  const std::int16_t* a = job.a + first_row * stride;
  const std::size_t within = first_column % kPanel;  // a block is half a panel
  const Weight* b = job.b + (first_column - within) * job.depth + 2 * within;
  for (std::size_t k = 0; k < job.depth; k += 2, a += 2, b += 2 * kPanel) {
    const int16x8x4_t w = load_weights(b);
#pragma GCC unroll 8
    for (std::size_t r = 0; r < R; ++r) {
      std::int32_t pair;
      std::memcpy(&pair, a + r * stride, sizeof pair);
      const int16x4_t x = vreinterpret_s16_s32(vdup_n_s32(pair));
      sums[r][0] = vmlal_lane_s16(sums[r][0], vget_low_s16(w.val[0]), x, 0);
      sums[r][1] = vmlal_high_lane_s16(sums[r][1], w.val[0], x, 0);
      sums[r][2] = vmlal_lane_s16(sums[r][2], vget_low_s16(w.val[1]), x, 0);
      sums[r][3] = vmlal_high_lane_s16(sums[r][3], w.val[1], x, 0);
      sums[r][0] = vmlal_lane_s16(sums[r][0], vget_low_s16(w.val[2]), x, 1);
      sums[r][1] = vmlal_high_lane_s16(sums[r][1], w.val[2], x, 1);
      sums[r][2] = vmlal_lane_s16(sums[r][2], vget_low_s16(w.val[3]), x, 1);
      sums[r][3] = vmlal_high_lane_s16(sums[r][3], w.val[3], x, 1);
    }
  }
  std::int32_t* out = job.out + first_row * columns + first_column;
#pragma GCC unroll 8
  for (std::size_t r = 0; r < R; ++r) {
    for (std::size_t v = 0; v < kVectors; ++v) vst1q_s32(out + r * columns + v * kLanes, sums[r][v]);
  }
}

template <typename Weight, std::size_t... R>
constexpr auto rows_table(std::index_sequence<R...>) {
  using MultiplyRows = void (*)(const GemmJob<Weight>&, std::size_t, std::size_t);
  return std::array<MultiplyRows, sizeof...(R)>{multiply_rows<Weight, R + 1>...};
}

template <typename Weight>
void multiply(const GemmJob<Weight>& job) {
  static constexpr auto kMultiplyRows = rows_table<Weight>(std::make_index_sequence<kMaxRows>());
  const std::size_t blocks = (job.rows + kMaxRows - 1) / kMaxRows;
  for (std::size_t column = 0; column < job.columns; column += kHalf) {
    for (std::size_t i = 0; i < blocks; ++i) {
      const std::size_t first = job.rows * i / blocks, last = job.rows * (i + 1) / blocks;
      kMultiplyRows[last - first - 1](job, first, column);
    }
  }
}

// Rounded, shifted and clipped products of channels c and c + 1.
inline int64x2_t finish(int64x2_t product, const Requantiser& r, std::size_t c) {
  const int64x2_t value =
      vshlq_s64(vaddq_s64(product, vld1q_s64(&r.rounding[c])), vnegq_s64(vld1q_s64(&r.shift[c])));
  const int64x2_t top = vdupq_n_s64(r.limit), bottom = vdupq_n_s64(-std::int64_t{r.limit});
  const int64x2_t below_top = vbslq_s64(vcgtq_s64(value, top), top, value);
  return vbslq_s64(vcgtq_s64(bottom, below_top), bottom, below_top);
}

inline int32x4_t requantise_lanes(const std::int32_t* acc, const Requantiser& r, std::size_t c) {
  const int32x4_t values = vld1q_s32(acc);
  const int32x4_t multiplier =
      vbslq_s32(vcltzq_s32(values), vld1q_s32(&r.negative[c]), vld1q_s32(&r.multiplier[c]));
  const int64x2_t low = finish(vmull_s32(vget_low_s32(values), vget_low_s32(multiplier)), r, c);
  const int64x2_t high = finish(vmull_high_s32(values, multiplier), r, c + 2);
  return vcombine_s32(vmovn_s64(low), vmovn_s64(high));
}

void requantise16(const std::int32_t* acc, const Requantiser& requantiser, Channels channels, std::int16_t* out) {
  for (std::size_t c = channels.first; c < channels.last; c += 2 * kLanes, acc += 2 * kLanes, out += 2 * kLanes) {
    const int32x4_t low = requantise_lanes(acc, requantiser, c);
    const int32x4_t high = requantise_lanes(acc + kLanes, requantiser, c + kLanes);
    vst1q_s16(out, vcombine_s16(vmovn_s32(low), vmovn_s32(high)));
  }
}

void requantise32(const std::int32_t* acc, const Requantiser& requantiser, Channels channels, std::int32_t* out) {
  for (std::size_t c = channels.first; c < channels.last; c += kLanes, acc += kLanes, out += kLanes) {
    vst1q_s32(out, requantise_lanes(acc, requantiser, c));
  }
}

}  // namespace

// Plain loops for the rest: NEON is part of every AArch64 target, so compilers vectorise them as they stand.
const Kernels kNeon = {multiply<std::int8_t>,
                       multiply<std::int16_t>,
                       requantise16,
                       requantise32,
                       plain::winograd_input,
                       plain::winograd_output,
                       plain::choose,
                       plain::quantise,
                       plain::quantise_down,
                       plain::reconstruct,
                       plain::reconstruct_offset};

}  // namespace fastlic::nn

#endif  // __aarch64__

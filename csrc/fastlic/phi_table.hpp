// The upper tail of the standard normal distribution as integers, computed by integers.
//
//     Q(a) = 1 - Phi(a / 512) in units of 2^-16,   0 <= a <= 5.5 * 512
//
// is a cubic in each quarter sigma, evaluated in 24-bit fixed point. Vector code holds the coefficients in registers;
// code without a cheap permutation uses the table of all values, made from the same cubics. No libm, no rounding mode:
// the same bits from every compiler. Largest error against the true function: 0.83 units.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace fastlic {

constexpr int kPhiStepsPerUnit = 512;  // bins are at least 1/8 sigma wide (gaussian_rans.hpp): 64 steps or more
constexpr int kPhiLimit = 5 * kPhiStepsPerUnit + kPhiStepsPerUnit / 2;  // Q is 0 from 4.4 sigma on, to 16 bits
constexpr unsigned kPhiBits = 16;

constexpr unsigned kPhiSegmentBits = 7;  // 128 steps: a quarter sigma
constexpr int kPhiSegments = 32;         // of which 23 are reached: what one two-register permutation holds
constexpr unsigned kPhiFractionBits = 24;
static_assert((kPhiLimit >> kPhiSegmentBits) < kPhiSegments);

// Coefficient j of segment k is [j][k]: Q = c0 + d * (c1 + d * (c2 + d * c3)), d in 1/128 of the segment.
using PhiCoefficients = std::array<std::array<std::int32_t, kPhiSegments>, 4>;

constexpr PhiCoefficients make_phi_coefficients() {
  // Fixed point with 63 fractional bits.
  const auto multiply = [](std::uint64_t a, std::uint64_t b) {
    return static_cast<std::uint64_t>(static_cast<unsigned __int128>(a) * b >> 63);
  };
  // Geometric recurrences: phi(x + h) / phi(x) = exp(-h x - h^2 / 2), and that ratio shrinks by exp(-h^2) per step.
  // Values at the knots, h = 1/4; slopes of Q are -phi.
  std::array<std::int64_t, kPhiSegments + 1> slopes{};
  {
    std::uint64_t density = 0x33108a67a86ca11au;  // phi(0) = 1 / sqrt(2 pi)
    std::uint64_t ratio = 0x7c0fd5aa22d75e45u;    // exp(-1/32)
    for (std::int64_t& slope : slopes) {
      slope = -static_cast<std::int64_t>(density / 4);  // per segment
      density = multiply(density, ratio);
      ratio = multiply(ratio, 0x783eafef1c0a8f39u);  // exp(-1/16)
    }
  }
  // Tail areas at the knots by the midpoint rule, h = 1/512; its error, h^2/24 of a unit, is far below 2^-24.
  std::array<std::int64_t, kPhiSegments + 1> tails{};
  {
    std::uint64_t density = 0x331088cf241fc5e8u;  // phi(h/2)
    std::uint64_t ratio = 0x7fffe00003ffffabu;    // exp(-h^2)
    std::int64_t tail = std::int64_t{1} << 62;    // Q(0) = 1/2
    for (int i = 0; i <= kPhiSegments << kPhiSegmentBits; ++i) {
      if (i % (1 << kPhiSegmentBits) == 0) tails[static_cast<std::size_t>(i >> kPhiSegmentBits)] = tail;
      tail -= static_cast<std::int64_t>(density / kPhiStepsPerUnit);
      density = multiply(density, ratio);
      ratio = multiply(ratio, 0x7fffe00003ffffabu);
    }
  }
  // Hermite interpolation: value and slope agree at both ends.
  const auto round = [](std::int64_t v) {
    constexpr unsigned kDrop = 63 - kPhiFractionBits;
    return static_cast<std::int32_t>((v + (std::int64_t{1} << (kDrop - 1))) >> kDrop);
  };
  PhiCoefficients c{};
  for (std::size_t k = 0; k < kPhiSegments; ++k) {
    const std::int64_t rise = tails[k + 1] - tails[k];
    c[0][k] = round(tails[k]);
    c[1][k] = round(slopes[k]);
    c[2][k] = round(3 * rise - 2 * slopes[k] - slopes[k + 1]);
    c[3][k] = round(slopes[k] + slopes[k + 1] - 2 * rise);
  }
  return c;
}

alignas(64) inline constexpr PhiCoefficients kPhiCoefficients = make_phi_coefficients();

constexpr std::int32_t evaluate_tail(std::int32_t a) {
  const auto segment = static_cast<std::size_t>(a >> kPhiSegmentBits);
  const std::int32_t d = a & ((1 << kPhiSegmentBits) - 1);
  // Coefficients stay below 2^23 in size, so products with d < 2^7 fit.
  std::int32_t value = kPhiCoefficients[3][segment];
  for (std::size_t j = 3; j-- > 0;) value = (value * d >> kPhiSegmentBits) + kPhiCoefficients[j][segment];
  constexpr unsigned kDrop = kPhiFractionBits - kPhiBits;
  return (value + (1 << (kDrop - 1))) >> kDrop;
}

constexpr std::array<std::uint16_t, kPhiLimit + 1> make_tail_table() {
  std::array<std::uint16_t, kPhiLimit + 1> table{};
  for (int a = 0; a <= kPhiLimit; ++a)
    table[static_cast<std::size_t>(a)] = static_cast<std::uint16_t>(evaluate_tail(a));
  return table;
}

inline constexpr std::array<std::uint16_t, kPhiLimit + 1> kTailTable = make_tail_table();

// The coder's frequencies are differences of these plus one, so this is all they need to be positive.
constexpr bool tail_falls() {
  for (std::size_t a = 1; a < kTailTable.size(); ++a) {
    if (kTailTable[a] > kTailTable[a - 1]) return false;
  }
  return true;
}
static_assert(tail_falls());
static_assert(kTailTable[0] == 1 << (kPhiBits - 1) && kTailTable[kPhiLimit] == 0);

// Where to start looking for a code point: entry i belongs to cumulative probability (i + 1/2) / 4096, in grid steps.
// A hint only: decoding corrects it, so its rounding is no part of the format.
constexpr unsigned kQuantileBits = 12;
constexpr std::array<std::int16_t, 1 << kQuantileBits> make_quantiles() {
  std::array<std::int16_t, 1 << kQuantileBits> table{};
  constexpr std::size_t kHalf = table.size() / 2;
  int a = kPhiLimit;
  for (std::size_t i = 0; i < kHalf; ++i) {
    const auto target = static_cast<std::int32_t>((2 * i + 1) << (kPhiBits - kQuantileBits - 1));
    while (kTailTable[static_cast<std::size_t>(a)] < target) --a;
    table[i] = static_cast<std::int16_t>(-a);
    table[table.size() - 1 - i] = static_cast<std::int16_t>(a);
  }
  return table;
}

}  // namespace fastlic

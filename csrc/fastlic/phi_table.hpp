// The standard normal distribution function as integers, computed by integers.
//
// phi at the midpoints of a grid of step h satisfies m[i+1] = m[i] * rho[i], rho[i+1] = rho[i] * exp(-h^2), so two
// constants and multiplications make the whole table: no libm, no rounding mode, the same bits from every compiler.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace fastlic {

constexpr int kPhiStepsPerUnit = 512;  // bins are at least 1/8 sigma wide (gaussian_rans.hpp): 64 steps or more
constexpr int kPhiLimit = 5 * kPhiStepsPerUnit + kPhiStepsPerUnit / 2;  // beyond 5.5 sigma: 0 and 1, to 16 bits
constexpr unsigned kPhiBits = 16;

// Entry i is Phi((i - kPhiLimit) / 512) in units of 2^-16, rounded; the top is 65535 so that it fits.
constexpr std::array<std::uint16_t, 2 * kPhiLimit + 1> make_phi_table() {
  // Fixed point with 63 fractional bits.
  constexpr std::uint64_t kDecay = 0x7fffe00003ffffabu;  // exp(-h^2), h = 1/512
  std::uint64_t ratio = kDecay;                          // m[1] / m[0] = exp(-h^2)
  std::uint64_t density = 0x331088cf241fc5e8u;           // phi(h/2) = exp(-h^2/8) / sqrt(2 pi)
  std::uint64_t integral = std::uint64_t{1} << 62;       // Phi(0)
  const auto multiply = [](std::uint64_t a, std::uint64_t b) {
    return static_cast<std::uint64_t>(static_cast<unsigned __int128>(a) * b >> 63);
  };
  std::array<std::uint16_t, 2 * kPhiLimit + 1> table{};
  for (int i = 0; i <= kPhiLimit; ++i) {
    const auto value = static_cast<std::uint32_t>((integral + (std::uint64_t{1} << 46)) >> (63 - kPhiBits));
    table[static_cast<std::size_t>(kPhiLimit + i)] = static_cast<std::uint16_t>(value < 65535 ? value : 65535);
    table[static_cast<std::size_t>(kPhiLimit - i)] = static_cast<std::uint16_t>(65536 - value);
    integral += density / kPhiStepsPerUnit;  // midpoint rule: its error, h^2/24 of a unit, is far below 2^-16
    density = multiply(density, ratio);
    ratio = multiply(ratio, kDecay);
  }
  return table;
}

inline constexpr std::array<std::uint16_t, 2 * kPhiLimit + 1> kPhiTable = make_phi_table();

// The coder's frequencies are differences of this table plus one, so this is all they need to be positive.
constexpr bool phi_is_monotone() {
  for (std::size_t i = 1; i < kPhiTable.size(); ++i) {
    if (kPhiTable[i] < kPhiTable[i - 1]) return false;
  }
  return true;
}
static_assert(phi_is_monotone());
static_assert(kPhiTable[0] == 0 && kPhiTable[kPhiLimit] == 32768 && kPhiTable[2 * kPhiLimit] == 65535);

// Where to start looking for a code point: entry i belongs to cumulative probability (i + 1/2) / 4096, in grid steps.
// A hint only: decoding corrects it, so its rounding is no part of the format.
constexpr unsigned kQuantileBits = 12;
constexpr std::array<std::int16_t, 1 << kQuantileBits> make_quantiles() {
  std::array<std::int16_t, 1 << kQuantileBits> table{};
  std::size_t at = 0;
  for (std::uint32_t i = 0; i < table.size(); ++i) {
    const std::uint32_t target = (2 * i + 1) << (kPhiBits - kQuantileBits - 1);
    while (kPhiTable[at] < target) ++at;
    table[i] = static_cast<std::int16_t>(static_cast<int>(at) - kPhiLimit);
  }
  return table;
}

}  // namespace fastlic

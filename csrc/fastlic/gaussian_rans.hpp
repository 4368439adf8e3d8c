// rANS with an exact Gaussian per symbol: any mean, any scale, no tables to agree on. Specified in docs/stream.md.
//
// Symbol s under N(mean, scale), quantised to what both sides compute alike from the bits of two float32:
//
//     mean   = c + f/256         c = nearest integer, -128 <= f <= 128
//     sigma  = scale with 6 bits after its leading one, within 1/32..65536
//     shift  = max(0, floor(log2 sigma) - 2): low bits sent raw, so that sigma / 2^shift < 8
//     t      = s >> shift, coded in a window of 2w + 1 values around c >> shift, w = floor(4.5 sigma / 2^shift + 1)
//     F(u)   = u + w + (2^k - 2 - 2w) * Phi(z) / 2^16, rounded down, z = lower edge of bin u in grid steps of Phi
//
// F rises by at least one from bin to bin because Phi is a monotone table and z is monotone in u; the first edge counts
// as -infinity, the last one as +infinity, and the code point above it, one of 2^k, is the escape.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "fastlic/lane_stream.hpp"
#include "fastlic/memory.hpp"
#include "fastlic/phi_table.hpp"

namespace fastlic {

// 14 bits: with states from 2^15 up, 16 would leave the state no resolution; 12 would tax wide windows.
constexpr unsigned kGaussianPrecision = 14;
constexpr std::int32_t kGaussianTotal = 1 << kGaussianPrecision;

constexpr float kMinScale = 1.0f / 32;
constexpr float kMaxScale = 65536.0f;
constexpr float kMaxMean = 8388608.0f;  // 2^23: up to here float32 has the bit that the fraction needs
constexpr int kMeanBits = 8;
constexpr int kScaleMantissaBits = 6;
constexpr int kFirstShiftedOctave = 3;  // scales from 2^3 on send raw bits
// A symbol clamped to this is an escape under every mean and scale, and differences still fit int32.
constexpr std::int32_t kSymbolClamp = 1 << 29;

Vector<std::uint8_t> gaussian_encode(const std::int32_t* symbols, const float* means, const float* scales,
                                     std::size_t count, unsigned lanes = 0);

// Inverse; throws CorruptStream. NaN means count as -2^23 and NaN scales as the smallest, here and in encoding.
void gaussian_decode(const std::uint8_t* data, std::size_t size, const float* means, const float* scales,
                     std::int32_t* out, std::size_t count);

}  // namespace fastlic

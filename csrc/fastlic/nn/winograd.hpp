// Winograd's minimal filtering, exact in integers: 3x3 taps on a 4x4 tile give 2x2 outputs with 16 products, not 36
// (Winograd 1980; Lavin and Gray 2016). For a transposed 5x5 convolution of stride 2 the four phases share the tile and
// need 49 products in place of 100.
//
//         1  0 -1  0        2  0  0
//   B^T = 0  1  1  0   2G = 1  1  1    A^T = 1  1  1  0     4 * outputs = A^T [ (2G g 2G^T) * (B^T d B) ] A
//         0 -1  1  0        1 -1  1          0  1 -1 -1
//         0  1  0 -1        0  0  2
//
// Doubling G keeps its halves whole. All sums are taken modulo 2^32; four times the true sum comes out exactly if that
// sum is below 2^29, which is proven per layer (fits); tiles B^T d B reach four times the largest activation and fit
// int16 for activations of up to 14 bits. Layers that do not fit are multiplied tap by tap.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace fastlic::nn {

constexpr std::size_t kComponents = 16;
constexpr unsigned kMaxWinogradBits = 14;
static_assert(4 * ((1 << (kMaxWinogradBits - 1)) - 1) <= 32767);
constexpr std::int64_t kWinogradReach = (std::int64_t{1} << 29) - 1;
// Weights of up to this magnitude fit int16 when transformed.
constexpr std::int32_t kWinogradWeight = 32767 / 9;

// Of as many kernels at once, one weight each.
using Weights = std::int16_t __attribute__((vector_size(16)));
constexpr std::size_t kWeights = sizeof(Weights) / sizeof(std::int16_t);

// Rows of 2G applied to both sides of 3x3 kernels.
inline std::array<Weights, kComponents> transform_kernels(const std::array<Weights, 9>& g) {
  std::array<Weights, 12> t;
  for (std::size_t j = 0; j < 3; ++j) {
    t[j] = g[j] + g[j];
    t[3 + j] = g[j] + g[3 + j] + g[6 + j];
    t[6 + j] = g[j] - g[3 + j] + g[6 + j];
    t[9 + j] = g[6 + j] + g[6 + j];
  }
  std::array<Weights, kComponents> out;
  for (std::size_t i = 0; i < 4; ++i) {
    const Weights* row = &t[3 * i];
    out[4 * i] = row[0] + row[0];
    out[4 * i + 1] = row[0] + row[1] + row[2];
    out[4 * i + 2] = row[0] - row[1] + row[2];
    out[4 * i + 3] = row[2] + row[2];
  }
  return out;
}

}  // namespace fastlic::nn

// AVX2 has neither expand nor compress; permutations indexed by the mask stand in for both.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace fastlic::simd {

constexpr unsigned kAvx2Lanes = 8;
using Avx2Permutations = std::array<std::array<std::uint32_t, kAvx2Lanes>, 1u << kAvx2Lanes>;

// Lane l of the result takes the (number of mask bits below l)-th word.
constexpr Avx2Permutations make_avx2_expand() {
  Avx2Permutations table{};
  for (unsigned mask = 0; mask < table.size(); ++mask) {
    for (unsigned lane = 0, rank = 0; lane < kAvx2Lanes; ++lane) {
      table[mask][lane] = rank;
      rank += mask >> lane & 1u;
    }
  }
  return table;
}

// The lanes of the mask, in order, at the top end of the vector.
constexpr Avx2Permutations make_avx2_compress_to_top() {
  Avx2Permutations table{};
  for (unsigned mask = 0; mask < table.size(); ++mask) {
    unsigned at = kAvx2Lanes - static_cast<unsigned>(std::popcount(mask));
    for (unsigned lane = 0; lane < kAvx2Lanes; ++lane) {
      if ((mask >> lane & 1u) != 0) table[mask][at++] = lane;
    }
  }
  return table;
}

alignas(64) inline constexpr Avx2Permutations kAvx2Expand = make_avx2_expand();
alignas(64) inline constexpr Avx2Permutations kAvx2CompressToTop = make_avx2_compress_to_top();

}  // namespace fastlic::simd

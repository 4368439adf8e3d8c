// AVX2 with FMA: six rows against sixteen words, twelve sums in registers.
#if defined(__x86_64__)

#include <immintrin.h>

#include "fastlic/codebook/kernels.hpp"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

namespace fastlic::codebook {
namespace {

constexpr std::size_t kRows = 6, kWords = 16;

// Rarely needed, so out of the loop: the rows of `hits` have scores below their bars.
[[gnu::noinline]] void take_in(const Scan& job, unsigned hits, const float (*scores)[kWords], std::uint32_t first) {
  for (std::size_t r = 0; r < kRows; ++r) {
    if (hits >> r & 1) job.bars[r] = job.rows[r].note(scores[r], first, kWords);
  }
}

void scan(const Scan& job) {
  const auto* panel = static_cast<const float*>(job.panels);
  const float* half = job.half;
  std::uint32_t first = job.first;
  for (std::size_t p = 0; p < job.count; ++p, half += kWords, first += kWords) {
    __m256 sums[kRows][2];
#pragma GCC unroll 8
    for (auto& sum : sums) {
      sum[0] = _mm256_load_ps(half);
      sum[1] = _mm256_load_ps(half + 8);
    }
    const auto* x = static_cast<const float*>(job.tile);
    for (std::size_t i = 0; i < job.depth; ++i, x += kRows, panel += kWords) {
      const __m256 low = _mm256_load_ps(panel), high = _mm256_load_ps(panel + 8);
#pragma GCC unroll 8
      for (std::size_t r = 0; r < kRows; ++r) {
        const __m256 value = _mm256_broadcast_ss(x + r);
        sums[r][0] = _mm256_fnmadd_ps(value, low, sums[r][0]);
        sums[r][1] = _mm256_fnmadd_ps(value, high, sums[r][1]);
      }
    }
    unsigned hits = 0;
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kRows; ++r) {
      const __m256 least = _mm256_min_ps(sums[r][0], sums[r][1]);
      const __m256 close = _mm256_cmp_ps(least, _mm256_broadcast_ss(job.bars + r), _CMP_LE_OQ);
      hits |= static_cast<unsigned>(_mm256_movemask_ps(close) != 0) << r;
    }
    if (hits != 0) [[unlikely]] {
      alignas(32) float scores[kRows][kWords];
#pragma GCC unroll 8
      for (std::size_t r = 0; r < kRows; ++r) {
        _mm256_store_ps(scores[r], sums[r][0]);
        _mm256_store_ps(scores[r] + 8, sums[r][1]);
      }
      take_in(job, hits, scores, first);
    }
  }
}

}  // namespace

const Kernel kAvx2 = {kRows, kWords, false, scan};

}  // namespace fastlic::codebook

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif  // __x86_64__

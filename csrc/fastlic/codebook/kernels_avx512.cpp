// AVX-512: eight rows against forty-eight words, twenty-four sums in registers.
#if defined(__x86_64__)

#include <immintrin.h>

#include "fastlic/codebook/kernels.hpp"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl")
#endif

namespace fastlic::codebook {
namespace {

constexpr std::size_t kRows = 8, kVectors = 3, kWords = 16 * kVectors;

// Rarely needed, so out of the loop: the rows of `hits` have scores below their bars.
[[gnu::noinline]] void take_in(const Scan& job, unsigned hits, const __m512 (*sums)[kVectors], std::uint32_t first) {
  for (std::size_t r = 0; r < kRows; ++r) {
    if ((hits >> r & 1) == 0) continue;
    alignas(64) float scores[kWords];
    __m512 least = _mm512_set1_ps(job.bars[r]);
    for (std::size_t v = 0; v < kVectors; ++v) {
      const __m512 some = sums[r][v];
      least = _mm512_min_ps(least, some);
      _mm512_store_ps(scores + 16 * v, some);
    }
    const float bar = job.rows[r].bar(_mm512_reduce_min_ps(least));
    std::uint64_t close = 0;
    for (std::size_t v = 0; v < kVectors; ++v) {
      const __mmask16 some = _mm512_cmp_ps_mask(_mm512_load_ps(scores + 16 * v), _mm512_set1_ps(bar), _CMP_LE_OQ);
      close |= static_cast<std::uint64_t>(some) << (16 * v);
    }
    job.bars[r] = job.rows[r].keep(scores, first, close, bar);
  }
}

void scan(const Scan& job) {
  const auto* panel = static_cast<const float*>(job.panels);
  const float* half = job.half;
  std::uint32_t first = job.first;
  for (std::size_t p = 0; p < job.count; ++p, half += kWords, first += kWords) {
    __m512 sums[kRows][kVectors];
#pragma GCC unroll 8
    for (auto& sum : sums) {
#pragma GCC unroll 8
      for (std::size_t v = 0; v < kVectors; ++v) sum[v] = _mm512_load_ps(half + 16 * v);
    }
    const auto* x = static_cast<const float*>(job.tile);
    for (std::size_t i = 0; i < job.depth; ++i, x += kRows, panel += kWords) {
      __m512 words[kVectors];
#pragma GCC unroll 8
      for (std::size_t v = 0; v < kVectors; ++v) words[v] = _mm512_load_ps(panel + 16 * v);
#pragma GCC unroll 8
      for (std::size_t r = 0; r < kRows; ++r) {
        const __m512 value = _mm512_set1_ps(x[r]);
#pragma GCC unroll 8
        for (std::size_t v = 0; v < kVectors; ++v) sums[r][v] = _mm512_fnmadd_ps(value, words[v], sums[r][v]);
      }
    }
    unsigned hits = 0;
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kRows; ++r) {
      const __m512 least = _mm512_min_ps(_mm512_min_ps(sums[r][0], sums[r][1]), sums[r][2]);
      const __mmask16 close = _mm512_cmp_ps_mask(least, _mm512_set1_ps(job.bars[r]), _CMP_LE_OQ);
      hits |= static_cast<unsigned>(close != 0) << r;
    }
    if (hits != 0) [[unlikely]] {
      __m512 kept[kRows][kVectors];  // a copy: an array whose address is taken would not stay in registers
#pragma GCC unroll 8
      for (std::size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
        for (std::size_t v = 0; v < kVectors; ++v) kept[r][v] = sums[r][v];
      }
      take_in(job, hits, kept, first);
    }
  }
}

}  // namespace

const Kernel kAvx512 = {kRows, kWords, false, scan};

}  // namespace fastlic::codebook

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif  // __x86_64__

// GDN, 6 positions by 16 outputs at a time.
#if defined(__x86_64__)

#include <immintrin.h>

#include "fastlic/simd/gdn_kernels.hpp"

// To the end of the file, as in gaussian_avx512.cpp.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

namespace fastlic::simd {
namespace {

struct Avx2 {
  using Float = __m256;
  static constexpr std::size_t kWidth = 8, kRows = 6;
  static Float load(const float* at) { return _mm256_loadu_ps(at); }
  static void store(float* at, Float v) { _mm256_storeu_ps(at, v); }
  static Float set(float v) { return _mm256_set1_ps(v); }
  static Float mul(Float a, Float b) { return _mm256_mul_ps(a, b); }
  static Float div(Float a, Float b) { return _mm256_div_ps(a, b); }
  static Float sqrt(Float a) { return _mm256_sqrt_ps(a); }
  static Float multiply_add(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
};

#include "fastlic/simd/gdn_body.hpp"

}  // namespace

const GdnKernel kGdnAvx2 = {&gdn_rows<Avx2>, 2 * Avx2::kWidth, Avx2::kRows};

}  // namespace fastlic::simd

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif  // __x86_64__

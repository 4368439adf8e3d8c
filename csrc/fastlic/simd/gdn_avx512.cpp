// GDN, 12 positions by 32 outputs at a time.
#if defined(__x86_64__)

#include <immintrin.h>

#include "fastlic/simd/gdn_kernels.hpp"

// To the end of the file, as in gaussian_avx512.cpp.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f"))), apply_to = function)
#else
#pragma GCC target("avx512f")
#endif

namespace fastlic::simd {
namespace {

struct Avx512 {
  using Float = __m512;
  static constexpr std::size_t kWidth = 16, kRows = 12;
  static Float load(const float* at) { return _mm512_loadu_ps(at); }
  static void store(float* at, Float v) { _mm512_storeu_ps(at, v); }
  static Float set(float v) { return _mm512_set1_ps(v); }
  static Float mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
  static Float div(Float a, Float b) { return _mm512_div_ps(a, b); }
  static Float sqrt(Float a) { return _mm512_sqrt_ps(a); }
  static Float multiply_add(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
};

#include "fastlic/simd/gdn_body.hpp"

}  // namespace

const GdnKernel kGdnAvx512 = {&gdn_rows<Avx512>, 2 * Avx512::kWidth, Avx512::kRows};

}  // namespace fastlic::simd

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif  // __x86_64__

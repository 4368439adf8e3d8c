// GDN for any processor.
#include <cmath>

#include "fastlic/simd/gdn_kernels.hpp"

namespace fastlic::simd {
namespace {

struct Scalar {
  using Float = float;
  static constexpr std::size_t kWidth = 1, kRows = 4;
  static Float load(const float* at) { return *at; }
  static void store(float* at, Float v) { *at = v; }
  static Float set(float v) { return v; }
  static Float mul(Float a, Float b) { return a * b; }
  static Float div(Float a, Float b) { return a / b; }
  static Float sqrt(Float a) { return std::sqrt(a); }
  static Float multiply_add(Float a, Float b, Float c) { return a * b + c; }
};

#include "fastlic/simd/gdn_body.hpp"

}  // namespace

const GdnKernel kGdnScalar = {&gdn_rows<Scalar>, 2 * Scalar::kWidth, Scalar::kRows};

}  // namespace fastlic::simd

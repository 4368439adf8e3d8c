// The Gaussian coder one symbol at a time, and the dispatch table.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "fastlic/gaussian_rans.hpp"
#include "fastlic/simd/gaussian_kernels.hpp"
#include "fastlic/simd/gaussian_quantiles.hpp"

namespace fastlic::simd {
namespace {

struct Scalar {
  using Int = std::int32_t;
  using Float = float;
  static constexpr unsigned kWidth = 1;

  static Int load(const std::int32_t* at) { return *at; }
  static Float load(const float* at) { return *at; }
  static void store(std::int32_t* at, Int v) { *at = v; }
  static Int set(std::int32_t v) { return v; }
  static Float set(float v) { return v; }
  // Integers wrap, as vector instructions do: a symbol near the end of int32 minus a mean leaves its range, stays far
  // outside every window all the same, and is an escape.
  static Int add(Int a, Int b) {
    return static_cast<Int>(static_cast<std::uint32_t>(a) + static_cast<std::uint32_t>(b));
  }
  static Float add(Float a, Float b) { return a + b; }
  static Int sub(Int a, Int b) {
    return static_cast<Int>(static_cast<std::uint32_t>(a) - static_cast<std::uint32_t>(b));
  }
  static Float sub(Float a, Float b) { return a - b; }
  static Int mul(Int a, Int b) {
    return static_cast<Int>(static_cast<std::uint32_t>(a) * static_cast<std::uint32_t>(b));
  }
  static Float mul(Float a, Float b) { return a * b; }
  static Float div(Float a, Float b) { return a / b; }
  static Int and_(Int a, Int b) { return a & b; }
  // Like the SSE instructions, these return the second operand if the first is NaN.
  static Float min(Float a, Float b) { return a < b ? a : b; }
  static Float max(Float a, Float b) { return a > b ? a : b; }
  static Int min(Int a, Int b) { return std::min(a, b); }
  static Int max(Int a, Int b) { return std::max(a, b); }
  static Int sll(Int v, Int by) { return static_cast<Int>(static_cast<std::uint32_t>(v) << by); }
  static Int sra(Int v, Int by) { return v >> by; }
  template <int By>
  static Int srl(Int v) {
    return static_cast<Int>(static_cast<std::uint32_t>(v) >> By);
  }
  static Int bits(Float v) { return std::bit_cast<Int>(v); }
  static Float from_bits(Int v) { return std::bit_cast<Float>(v); }
  static Float to_float(Int v) { return static_cast<Float>(v); }
  static Int round(Float v) { return static_cast<Int>(std::lrintf(v)); }  // to nearest even: the mode nobody changes
  static Int truncate(Float v) { return static_cast<Int>(v); }
  static bool greater(Int a, Int b) { return a > b; }
  static bool equal(Int a, Int b) { return a == b; }
  static bool differ(Int a, Int b) { return a != b; }
  static bool and_not(bool a, bool b) { return a && !b; }
  static bool any(bool a, bool b) { return a || b; }
  static Int select(bool mask, Int yes, Int no) { return mask ? yes : no; }
  static Int upper_tail(Int at) { return kTailTable[static_cast<std::size_t>(at)]; }
  static Int lookup_signed(const std::int16_t* table, Int at) { return table[at]; }
  static void store_mask(std::uint8_t* bits, std::size_t at, bool mask) {
    bits[at / 8] = static_cast<std::uint8_t>(bits[at / 8] | (mask ? 1u : 0u) << at % 8);
  }
  static Int refill(Int reduced, const std::uint8_t*& next) {
    return static_cast<Int>(fastlic::refill(static_cast<std::uint32_t>(reduced), next));
  }
  static Int shrink(Int state, Int bound, std::uint8_t*& next) {
    return static_cast<Int>(
        fastlic::shrink(static_cast<std::uint32_t>(state), static_cast<std::uint32_t>(bound), next));
  }
};

#include "fastlic/simd/gaussian_body.hpp"

}  // namespace

const std::int16_t* gaussian_quantiles() {
  static constexpr auto kTable = make_quantiles();
  return kTable.data();
}

void encode_one_gaussian(GaussianEncodeJob& job, std::size_t lane, const std::int32_t* symbols, const float* means,
                         const float* scales, std::size_t at) {
  std::int32_t start;
  std::int32_t frequency;
  gaussian_interval<Scalar>(job, symbols, means, scales, at, &start, &frequency);
  gaussian_code_interval<Scalar>(job.next, job.states + lane, &start, &frequency);
}

void decode_one_gaussian(GaussianDecodeJob& job, std::size_t lane, const float* means, const float* scales,
                         std::int32_t* out) {
  gaussian_decode_vector<Scalar>(job, job.states + lane, means, scales, out, job.begin);
}

const GaussianKernels kGaussianScalar = {&gaussian_encode_groups<Scalar>, &gaussian_decode_groups<Scalar>};

const GaussianKernels& gaussian_kernels(Isa isa, unsigned lanes) noexcept {
#if defined(__x86_64__)
  if (isa >= Isa::avx512 && lanes >= 16) return kGaussianAvx512;
  if (isa >= Isa::avx2 && lanes >= 8) return kGaussianAvx2;
#endif
  (void)isa;
  (void)lanes;
  return kGaussianScalar;
}

}  // namespace fastlic::simd

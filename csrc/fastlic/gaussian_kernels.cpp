#include "fastlic/gaussian_kernels.hpp"

#include <bit>
#include <cmath>
#include <cstring>

#include "fastlic/gaussian_rans.hpp"

namespace fastlic {
namespace {

alignas(64) constexpr auto kQuantiles = make_quantiles();

}  // namespace
}  // namespace fastlic

#define FASTLIC_BODY "fastlic/gaussian_kernels_body.hpp"
#include "fastlic/simd/one.hpp"
#include FASTLIC_BODY
#include "fastlic/simd/for_each_target.hpp"

namespace fastlic {
namespace {

const LaneKernels<GaussianKernels>& widest(Isa isa) { FASTLIC_CHOOSE(isa, kKernels); }

}  // namespace

const GaussianKernels& gaussian_kernels(Isa isa, unsigned lanes) noexcept {
#if defined(__x86_64__)
  if (isa >= Isa::avx512 && lanes < avx512::kKernels.lanes) isa = Isa::avx2;
#endif
  const LaneKernels<GaussianKernels>& best = widest(isa);
  return lanes < best.lanes ? one::kKernels.kernels : best.kernels;
}

void encode_one_gaussian(GaussianEncodeJob& job, std::size_t lane, const std::int32_t* symbols, const float* means,
                         const float* scales, std::size_t at) {
  std::int32_t start, frequency;
  one::interval(job, symbols, means, scales, at, &start, &frequency);
  one::code_interval(job.next, job.states + lane, &start, &frequency);
}

void decode_one_gaussian(GaussianDecodeJob& job, std::size_t lane, const float* means, const float* scales,
                         std::int32_t* out) {
  one::decode_vector(job, job.states + lane, means, scales, out, job.begin);
}

}  // namespace fastlic

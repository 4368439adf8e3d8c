// The loops of bodies.hpp for AVX2.
#if defined(__x86_64__)

#include <immintrin.h>

#define FASTLIC_TARGET gnu::target("avx2,bmi2")
#include "fastlic/layers/bodies.hpp"
#include "fastlic/layers/lookup_avx2.hpp"

namespace fastlic::layers {
namespace {

[[FASTLIC_TARGET]] void gelu(std::int16_t* x, const GeluChannel& gelu, std::size_t first, std::size_t channels,
          const TailLines& tail) {
  bodies::gelu<bodies::LookUpAvx2>(x, gelu, first, channels, tail);
}

[[FASTLIC_TARGET]] void depthwise(const std::int16_t* const* taps, const std::int16_t* weights, const std::int32_t* bias,
               std::size_t channels, std::int32_t* out) {
  bodies::depthwise(taps, weights, bias, channels, out);
}

}  // namespace

const Kernels kAvx2 = {gelu, depthwise};

}  // namespace fastlic::layers

#endif  // __x86_64__

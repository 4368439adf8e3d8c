// The loops of bodies.hpp for AVX2.
#if defined(__x86_64__)

#include <immintrin.h>

#define FASTLIC_TARGET gnu::target("avx2,bmi2")
#include "fastlic/nn/layer_bodies.hpp"
#include "fastlic/nn/lookup_avx2.hpp"

namespace fastlic::nn {
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

const LayerKernels kLayersAvx2 = {gelu, depthwise};

}  // namespace fastlic::nn

#endif  // __x86_64__

// Portable loops, and the dispatch.
#include "fastlic/nn/layer_bodies.hpp"

namespace fastlic::nn {
namespace {

void gelu(std::int16_t* x, const GeluChannel& gelu, std::size_t first, std::size_t channels,
          const TailLines& tail) {
  bodies::gelu<bodies::LookUpOneByOne>(x, gelu, first, channels, tail);
}

void depthwise(const std::int16_t* const* taps, const std::int16_t* weights, const std::int32_t* bias,
               std::size_t channels, std::int32_t* out) {
  bodies::depthwise(taps, weights, bias, channels, out);
}

}  // namespace

const LayerKernels kLayersScalar = {gelu, depthwise};

const LayerKernels& layer_kernels(Isa isa) noexcept {
#if defined(__x86_64__)
  switch (isa) {
    case Isa::avx512vnni:
    case Isa::avx512: return kLayersAvx512;
    case Isa::avx2: return kLayersAvx2;
    case Isa::scalar:
    case Isa::neon: break;
  }
#else
  static_cast<void>(isa);
#endif
  return kLayersScalar;
}

}  // namespace fastlic::nn

// Portable loops, and the dispatch.
#include "fastlic/layers/bodies.hpp"

namespace fastlic::layers {
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

const Kernels kScalar = {gelu, depthwise};

const Kernels& kernels(Isa isa) noexcept {
#if defined(__x86_64__)
  switch (isa) {
    case Isa::avx512vnni:
    case Isa::avx512: return kAvx512;
    case Isa::avx2: return kAvx2;
    case Isa::scalar:
    case Isa::neon: break;
  }
#else
  static_cast<void>(isa);
#endif
  return kScalar;
}

}  // namespace fastlic::layers

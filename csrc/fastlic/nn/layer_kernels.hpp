// Inner loops of these layers beyond the engine's own (fastlic/engine/kernels.hpp), one file per instruction set. All
// compute the same integers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fastlic/isa.hpp"
#include "fastlic/nn/layer.hpp"

namespace fastlic::nn {

struct LayerKernels {
  // GELU in place of activations of channels [first, first + channels).
  void (*gelu)(std::int16_t* x, const GeluChannel& gelu, std::size_t first, std::size_t channels,
               const TailLines& tail);
  // Sums of a depthwise 3x3 over padded channels; taps outside the map point to zeros.
  void (*depthwise)(const std::int16_t* const* taps, const std::int16_t* weights, const std::int32_t* bias,
                    std::size_t channels, std::int32_t* out);
};

const LayerKernels& layer_kernels(Isa isa) noexcept;

extern const LayerKernels kLayersScalar;
#if defined(__x86_64__)
extern const LayerKernels kLayersAvx2, kLayersAvx512;
#endif

}  // namespace fastlic::nn

// Loops of these layers; each kernel file compiles them for its own target (vectors.hpp).
#pragma once

#include "fastlic/nn/layer_kernels.hpp"
#include "fastlic/vectors.hpp"

namespace fastlic::nn::bodies {

using namespace fastlic::bodies;

// x Phi(x) = max(x, 0) - |x| Q(|x|).
template <typename Simd>
FASTLIC_INLINE void gelu(std::int16_t* x, const GeluChannel& g, std::size_t first, std::size_t channels,
                         const TailLines& tail) {
  for (std::size_t c = 0; c < channels; c += kLanes) {
    Ints a, reach, up, down;
    load_wide(x + c, a);
    load_wide(&g.reach[first + c], reach);
    load_wide(&g.up[first + c], up);
    load_wide(&g.down[first + c], down);
    const Ints magnitude = a < 0 ? -a : a;
    Ints fine = ((magnitude < reach ? magnitude : reach) << up) >> down;
    fine = fine < kTailLast ? fine : Ints{} + kTailLast;
    const Ints line = fine >> kTailStep, part = fine & ((1 << kTailStep) - 1);
    Ints q, fall;
    Simd::look_up(tail.start.data(), line, q);
    Simd::look_up(tail.fall.data(), line, fall);
    q -= (fall * part + (1 << (kTailStep - 1))) >> kTailStep;
    const Ints positive = a > 0 ? a : Ints{};
    const Ints out = positive - ((magnitude * q + (1 << (kTailBits - 1))) >> kTailBits);
    store(__builtin_convertvector(out, Shorts), x + c);
  }
}

FASTLIC_INLINE void depthwise(const std::int16_t* const* taps, const std::int16_t* weights, const std::int32_t* bias,
                              std::size_t channels, std::int32_t* out) {
  for (std::size_t c = 0; c < channels; c += kLanes) {
    Ints sum;
    load(bias + c, sum);
#pragma GCC unroll 9
    for (std::size_t t = 0; t < 9; ++t) {
      Ints x, w;
      load_wide(taps[t] + c, x);
      load_wide(weights + t * channels + c, w);
      sum += x * w;
    }
    store(sum, out + c);
  }
}

}  // namespace fastlic::nn::bodies

// The loops of bodies.hpp for AVX-512.
#if defined(__x86_64__)

#include <immintrin.h>

#include "fastlic/vectors.hpp"

#define FASTLIC_TARGET FASTLIC_AVX512_VECTORS
#include "fastlic/nn/layer_bodies.hpp"

namespace fastlic::nn {
namespace {

// All lines in four registers, 32 activations at a time.
[[FASTLIC_TARGET]] void gelu(std::int16_t* x, const GeluChannel& gelu, std::size_t first, std::size_t channels,
                             const TailLines& tail) {
  constexpr std::size_t kHalf = kTailLines / 2;
  const __m512i start0 = _mm512_loadu_si512(tail.start.data()), start1 = _mm512_loadu_si512(&tail.start[kHalf]);
  const __m512i fall0 = _mm512_loadu_si512(tail.fall.data()), fall1 = _mm512_loadu_si512(&tail.fall[kHalf]);
  const __m512i last = _mm512_set1_epi16(kTailLast), fraction = _mm512_set1_epi16((1 << kTailStep) - 1);
  for (std::size_t c = 0; c < channels; c += kPanel) {
    const __m512i a = _mm512_loadu_si512(x + c), magnitude = _mm512_abs_epi16(a);
    __m512i fine = _mm512_min_epi16(magnitude, _mm512_loadu_si512(&gelu.reach[first + c]));
    fine = _mm512_sllv_epi16(fine, _mm512_loadu_si512(&gelu.up[first + c]));
    fine = _mm512_srlv_epi16(fine, _mm512_loadu_si512(&gelu.down[first + c]));
    fine = _mm512_min_epi16(fine, last);
    const __m512i line = _mm512_srli_epi16(fine, kTailStep);
    // A rounded product of 15 bits is what mulhrs computes; the part of a line gets its 15 bits by a shift.
    const __m512i part = _mm512_slli_epi16(_mm512_and_si512(fine, fraction), kTailBits - kTailStep);
    const __m512i fall = _mm512_permutex2var_epi16(fall0, line, fall1);
    const __m512i q =
        _mm512_sub_epi16(_mm512_permutex2var_epi16(start0, line, start1), _mm512_mulhrs_epi16(fall, part));
    const __m512i positive = _mm512_max_epi16(a, _mm512_setzero_si512());
    _mm512_storeu_si512(x + c, _mm512_sub_epi16(positive, _mm512_mulhrs_epi16(magnitude, q)));
  }
}

[[FASTLIC_TARGET]] void depthwise(const std::int16_t* const* taps, const std::int16_t* weights, const std::int32_t* bias,
               std::size_t channels, std::int32_t* out) {
  bodies::depthwise(taps, weights, bias, channels, out);
}

}  // namespace

const LayerKernels kLayersAvx512 = {gelu, depthwise};

}  // namespace fastlic::nn

#endif  // __x86_64__

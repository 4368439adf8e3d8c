// AVX-512 without VNNI: multiply pairs, then add.
#if defined(__x86_64__)

#define FASTLIC_TARGET gnu::target("avx512f,avx512bw,avx512dq,avx512vl")
#define FASTLIC_DOT(sum, x, w) _mm512_add_epi32(sum, _mm512_madd_epi16(x, w))
#include "fastlic/nn/avx512_bodies.hpp"

namespace fastlic::nn {
const Kernels kAvx512 = {multiply<std::int8_t>,
                         multiply<std::int16_t>,
                         requantise16,
                         requantise32,
                         winograd_input,
                         winograd_output,
                         choose,
                         quantise,
                         quantise_down,
                         reconstruct,
                         reconstruct_offset};
}  // namespace fastlic::nn

#endif  // __x86_64__

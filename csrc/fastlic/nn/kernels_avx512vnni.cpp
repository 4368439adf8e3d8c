// AVX-512 with VNNI: multiply pairs and add in one instruction.
#if defined(__x86_64__)

#define FASTLIC_TARGET gnu::target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")
#define FASTLIC_DOT(sum, x, w) _mm512_dpwssd_epi32(sum, x, w)
#include "fastlic/nn/avx512_bodies.hpp"

namespace fastlic::nn {
const Kernels kAvx512Vnni = {multiply<std::int8_t>,
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

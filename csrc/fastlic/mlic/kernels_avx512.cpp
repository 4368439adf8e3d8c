// The loops of bodies.hpp for AVX-512.
#if defined(__x86_64__)

#include <immintrin.h>

#define FASTLIC_TARGET gnu::target("avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
#include "fastlic/mlic/bodies.hpp"

namespace fastlic::mlic {
namespace {

struct Gathered {
  [[FASTLIC_TARGET]] static inline void look_up(const std::uint16_t* table, const bodies::Ints& at, bodies::Ints& out) {
    const __m512i words = _mm512_i32gather_epi32(reinterpret_cast<const __m512i&>(at), table, 2);
    reinterpret_cast<__m512i&>(out) = _mm512_and_si512(words, _mm512_set1_epi32(0xFFFF));
  }
};

[[FASTLIC_TARGET]] void gelu(std::int16_t* x, const GeluChannel& gelu, std::size_t first, std::size_t channels,
          const std::uint16_t* phi, std::int32_t centre) {
  bodies::gelu<Gathered>(x, gelu, first, channels, phi, centre);
}

[[FASTLIC_TARGET]] void depthwise(const std::int16_t* const* taps, const std::int16_t* weights, const std::int32_t* bias,
               std::size_t channels, std::int32_t* out) {
  bodies::depthwise(taps, weights, bias, channels, out);
}

[[FASTLIC_TARGET]] void apply(const std::int16_t* p, const double* context, std::size_t dims, std::int64_t total, std::int64_t* out) {
  bodies::apply(p, context, dims, total, out);
}

[[FASTLIC_TARGET]] void window(const Window& w, const Tables& tables, std::int32_t* out) { bodies::window<Gathered>(w, tables, out); }

}  // namespace

const Kernels kAvx512 = {gelu, depthwise, apply, window};

}  // namespace fastlic::mlic

#endif  // __x86_64__

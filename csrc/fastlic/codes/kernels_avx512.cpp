// The loops of bodies.hpp for AVX-512.
#if defined(__x86_64__)

#include <immintrin.h>

#include "fastlic/vectors.hpp"

#define FASTLIC_TARGET FASTLIC_AVX512_VECTORS
#include "fastlic/codes/bodies.hpp"

namespace fastlic::codes {
namespace {

struct Vectors {
  [[FASTLIC_TARGET]] static inline bool any(const std::int32_t* values, std::int32_t value) {
    return _mm512_cmpeq_epi32_mask(_mm512_loadu_si512(values), _mm512_set1_epi32(value)) != 0;
  }
  [[FASTLIC_TARGET]] static inline void weigh(const std::int32_t* table, const bodies::Ints& d, bodies::Ints& out) {
    const auto below = reinterpret_cast<__m512i>(d);
    const __m512i found = _mm512_i32gather_epi32(_mm512_and_si512(below, _mm512_set1_epi32(255)), table, 4);
    out = reinterpret_cast<bodies::Ints>(_mm512_srlv_epi32(found, _mm512_srli_epi32(below, 8)));
  }
};

[[FASTLIC_TARGET]] Peak peak(const std::int32_t* logits, std::size_t count) {
  return bodies::peak<Vectors>(logits, count);
}

[[FASTLIC_TARGET]] std::uint64_t weigh(const std::int32_t* logits, std::size_t count, std::int32_t peak,
                                       const std::int32_t* table, std::uint32_t* weights) {
  return bodies::weigh<Vectors>(logits, count, peak, table, weights);
}

[[FASTLIC_TARGET]] std::uint32_t share(const std::uint32_t* weights, std::size_t count, std::uint32_t rate,
                                       unsigned shift, std::uint32_t* shares, std::uint32_t* sums) {
  return bodies::share(weights, count, rate, shift, shares, sums);
}

}  // namespace

const Kernels kAvx512 = {peak, weigh, share};

}  // namespace fastlic::codes

#endif  // __x86_64__

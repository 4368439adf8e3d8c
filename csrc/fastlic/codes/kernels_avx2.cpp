// The loops of bodies.hpp for AVX2.
#if defined(__x86_64__)

#include <immintrin.h>

#include "fastlic/vectors.hpp"

#define FASTLIC_TARGET gnu::target("avx2,bmi2")
#include "fastlic/codes/bodies.hpp"

namespace fastlic::codes {
namespace {

struct Vectors {
  [[FASTLIC_TARGET]] static inline bool any(const std::int32_t* values, std::int32_t value) {
    const __m256i wanted = _mm256_set1_epi32(value);
    const auto* halves = reinterpret_cast<const __m256i*>(values);
    const __m256i low = _mm256_cmpeq_epi32(_mm256_loadu_si256(halves), wanted);
    return _mm256_movemask_epi8(_mm256_or_si256(low, _mm256_cmpeq_epi32(_mm256_loadu_si256(halves + 1), wanted))) != 0;
  }
  [[FASTLIC_TARGET]] static inline void weigh(const std::int32_t* table, const bodies::Ints& d, bodies::Ints& out) {
    __m256i halves[2];
    __builtin_memcpy(halves, &d, sizeof halves);
    for (__m256i& half : halves) {
      const __m256i found = _mm256_i32gather_epi32(table, _mm256_and_si256(half, _mm256_set1_epi32(255)), 4);
      half = _mm256_srlv_epi32(found, _mm256_srli_epi32(half, 8));
    }
    __builtin_memcpy(&out, halves, sizeof halves);
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

const Kernels kAvx2 = {peak, weigh, share};

}  // namespace fastlic::codes

#endif  // __x86_64__

// The loops of bodies.hpp for AVX2.
#if defined(__x86_64__)

#include <immintrin.h>

#define FASTLIC_TARGET gnu::target("avx2,bmi2")
#include "fastlic/nn/lookup_avx2.hpp"
#include "fastlic/mlic/bodies.hpp"

namespace fastlic::mlic {
namespace {

struct Simd : bodies::OneByOne, bodies::LookUpAvx2 {
  using LookUpAvx2::look_up;
  [[FASTLIC_TARGET]] static inline void dot(bodies::Ints& sums, const std::int16_t* a, const std::int16_t* b) {
    std::int32_t pair;
    __builtin_memcpy(&pair, a, sizeof pair);
    __m256i halves[2];
    __builtin_memcpy(halves, &sums, sizeof halves);
    for (int half = 0; half < 2; ++half) {
      const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b + 16 * half));
      halves[half] = _mm256_add_epi32(halves[half], _mm256_madd_epi16(_mm256_set1_epi32(pair), x));
    }
    __builtin_memcpy(&sums, halves, sizeof halves);
  }
};

[[FASTLIC_TARGET]] void apply(const std::int16_t* p, const double* context, std::size_t dims, std::int64_t total, std::int64_t* out) {
  bodies::apply(p, context, dims, total, out);
}

[[FASTLIC_TARGET]] std::int32_t score(std::int32_t* products, std::size_t count, const Score& score) {
  return bodies::score_all<Simd>(products, count, score);
}

[[FASTLIC_TARGET]] std::int32_t soften(const std::int32_t* scores, std::size_t count, std::int32_t highest, const Tables& tables,
                    std::int16_t* weights) {
  return bodies::soften<Simd>(scores, count, highest, tables, weights);
}

[[FASTLIC_TARGET]] void window(const Window& w, const Tables& tables, std::int32_t* out) {
  bodies::window<Simd>(w, tables, out);
}

}  // namespace

const Kernels kAvx2 = {apply, score, soften, window};

}  // namespace fastlic::mlic

#endif  // __x86_64__

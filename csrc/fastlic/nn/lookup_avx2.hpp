// Gathering with AVX2. The including file defines FASTLIC_TARGET.
#pragma once

#include <immintrin.h>

#include "fastlic/vectors.hpp"

namespace fastlic::bodies {

struct LookUpAvx2 {
  [[FASTLIC_TARGET]] static inline void look_up(const std::uint16_t* table, const Ints& at, Ints& out) {
    __m256i halves[2];
    __builtin_memcpy(halves, &at, sizeof halves);
    for (__m256i& half : halves) {
      half = _mm256_i32gather_epi32(reinterpret_cast<const int*>(table), half, 2);
      half = _mm256_and_si256(half, _mm256_set1_epi32(0xFFFF));
    }
    __builtin_memcpy(&out, halves, sizeof halves);
  }
};

}  // namespace fastlic::bodies

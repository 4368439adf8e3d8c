// The compiler's own vectors (16 lanes, whatever the target makes of them), for loops that each kernel file compiles
// for its own target. Always inlined, so that no copy compiled for one target can be linked into another.
#pragma once

#include <cstddef>
#include <cstdint>

#define FASTLIC_INLINE [[gnu::always_inline]] inline

// AVX-512 of these vectors. GCC halves them unless told not to; Clang knows no such option here, and would then compile
// for no AVX-512 at all.
#if defined(__clang__)
#define FASTLIC_AVX512_VECTORS gnu::target("avx512f,avx512bw,avx512dq,avx512vl")
#else
#define FASTLIC_AVX512_VECTORS gnu::target("avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
#endif

namespace fastlic::bodies {

constexpr std::size_t kLanes = 16;
using Ints = std::int32_t __attribute__((vector_size(kLanes * sizeof(std::int32_t))));
using Shorts = std::int16_t __attribute__((vector_size(kLanes * sizeof(std::int16_t))));
// Half as many, 64 bytes as well: compilers take wider vectors apart lane by lane.
constexpr std::size_t kWideLanes = 8;
using Longs = std::int64_t __attribute__((vector_size(kWideLanes * sizeof(std::int64_t))));
using Doubles = double __attribute__((vector_size(kWideLanes * sizeof(double))));

// Through memcpy: rows are not always aligned to whole vectors.
template <typename Vector, typename T>
FASTLIC_INLINE void load(const T* from, Vector& to) {
  static_assert(sizeof(Vector) % sizeof(T) == 0);
  __builtin_memcpy(&to, from, sizeof to);
}
template <typename Vector, typename T>
FASTLIC_INLINE void store(const Vector& from, T* to) {
  static_assert(sizeof(Vector) % sizeof(T) == 0);
  __builtin_memcpy(to, &from, sizeof from);
}
FASTLIC_INLINE void load_wide(const std::int16_t* from, Ints& to) {
  Shorts narrow;
  load(from, narrow);
  to = __builtin_convertvector(narrow, Ints);
}

// What the compiler's vectors lack, one by one: table[at] for 16 places. Instruction sets bring their own; gathering
// ones read 32 bits at every 16-bit entry: tables end with one entry more.
struct LookUpOneByOne {
  FASTLIC_INLINE static void look_up(const std::uint16_t* table, const Ints& at, Ints& out) {
    for (std::size_t k = 0; k < kLanes; ++k) out[k] = table[at[k]];
  }
};

}  // namespace fastlic::bodies

// Includes FASTLIC_BODY once for each instruction set of this architecture: a kernel is written once, in a namespace
// named FASTLIC_SET, its functions carry [[FASTLIC_TARGET]] or FASTLIC_INLINE, and its vectors are those of
// simd::FASTLIC_SET. A new instruction set is a header, its lines here, and its place in Isa.
#include <array>
#include <bit>
// clang-format off: the order of these lines is what they mean.
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "fastlic/isa.hpp"

#include "fastlic/simd/scalar.hpp"
#include FASTLIC_BODY

#if defined(__x86_64__)

#include "fastlic/simd/avx2.hpp"
#include FASTLIC_BODY

#include "fastlic/simd/avx512.hpp"
#include FASTLIC_BODY

#include "fastlic/simd/avx512vnni.hpp"
#include FASTLIC_BODY

#define FASTLIC_CHOOSE(isa, table)                    \
  switch (isa) {                                      \
    case Isa::amx:                                    \
    case Isa::avx512vnni: return avx512vnni::table;   \
    case Isa::avx512: return avx512::table;           \
    case Isa::avx2: return avx2::table;               \
    default: return scalar::table;                    \
  }

#elif defined(__aarch64__)

#include "fastlic/simd/neon.hpp"
#include FASTLIC_BODY

#define FASTLIC_CHOOSE(isa, table) return isa == Isa::neon ? neon::table : scalar::table

#elif defined(__wasm_simd128__)

#include "fastlic/simd/wasm.hpp"
#include FASTLIC_BODY

#define FASTLIC_CHOOSE(isa, table) return isa == Isa::wasm ? wasm::table : scalar::table

#else
#define FASTLIC_CHOOSE(isa, table) return static_cast<void>(isa), scalar::table
#endif
// clang-format on

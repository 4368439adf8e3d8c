// Run-time choice of the instruction set. Every SIMD routine of the library asks active_isa() and nothing else.
#pragma once

#include <span>
#include <string_view>

// AMX's tiles, where the compiler knows them (by the header that GCC has for them, or clang) and the operating system
// has a way to ask for them.
#if defined(__x86_64__) && defined(__linux__)
#if __has_include(<amxint8intrin.h>) || (defined(__clang__) && __has_include(<amxintrin.h>))
#define FASTLIC_TILES
#endif
#endif

namespace fastlic {

// On x86-64 in order: a level implies all levels below it, so kernels may be chosen by comparing.
enum class Isa : int {
  scalar = 0,
  avx2 = 1,        // AVX2, BMI2, FMA
  avx512 = 2,      // F, BW, DQ, VL
  avx512vnni = 3,  // the above and VNNI
  amx = 4,         // the above, AMX-TILE and AMX-INT8
  neon = 5,        // AArch64's baseline
  wasm = 6,        // WebAssembly's simd128, which a module has or not when it is built
};

const char* isa_name(Isa isa) noexcept;

// Throws std::invalid_argument for a name that is none of these.
Isa isa_from_name(std::string_view name);

// What this processor (and operating system) can run, in the order of Isa. Before amx is in force Linux has to allow
// it: the functions below ask.
std::span<const Isa> supported_isas() noexcept;

// The best level that this processor (and operating system) can run: the last one, but AMX only where it is allowed and
// measured to be quicker.
Isa best_isa();

// The level in force: FASTLIC_ISA from the environment if set (read once, at first use), else best_isa().
// Throws std::invalid_argument if FASTLIC_ISA names an unknown or unsupported level: asking explicitly is a contract.
Isa active_isa();

#ifdef FASTLIC_TILES
// Asks Linux for tiles, once, for the process and those that it forks: false if it refuses, as it does where a thread's
// stack for signals is too small for them.
bool tiles_allowed() noexcept;
#endif

// Forces a level for this process; throws std::invalid_argument if the processor lacks it.
void set_isa(Isa isa);

// Clock of this core right now, in GHz, from a chain of additions (one cycle each). For rooflines in benchmarks.
double clock_ghz();

}  // namespace fastlic

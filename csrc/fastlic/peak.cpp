#include "fastlic/peak.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "fastlic/isa.hpp"
#include "fastlic/nn/tiles.hpp"

namespace fastlic {
namespace {

constexpr int kSums = 12;       // five cycles of latency on two ports need ten
constexpr int kSteps = 20'000;  // some 0.1 ms: short enough to be undisturbed now and then
constexpr int kRounds = 50;

// clang-format off: macros that make functions are no statements to it.
// A function that adds kSteps products of x and w to each of the sums. The empty assembly keeps what it names in a
// register and the compiler from knowing it, so that no product is taken out of the loop.
#define FASTLIC_PRODUCTS(name, Sum, no_sum, Factor, no_factor, dot) \
  void name() {                                                     \
    Factor x = no_factor(1), w = x;                                 \
    asm volatile("" : FASTLIC_REGISTER(w));                         \
    Sum s[kSums];                                                   \
    _Pragma("GCC unroll 16") for (int k = 0; k < kSums; ++k) {      \
      s[k] = no_sum();                                              \
    }                                                               \
    for (int i = 0; i < kSteps; ++i) {                              \
      _Pragma("GCC unroll 16") for (int k = 0; k < kSums; ++k) {    \
        asm volatile("" : FASTLIC_REGISTER(x));                     \
        s[k] = dot(s[k], x, w);                                     \
        asm volatile("" : FASTLIC_REGISTER(s[k]));                  \
      }                                                             \
    }                                                               \
  }

#if defined(__x86_64__)
#define FASTLIC_REGISTER(x) "+v"(x)
#define FASTLIC_DOT256(sum, x, w) _mm256_add_epi32(sum, _mm256_madd_epi16(x, w))
#define FASTLIC_DOT512(sum, x, w) _mm512_add_epi32(sum, _mm512_madd_epi16(x, w))
[[gnu::target("avx2")]] FASTLIC_PRODUCTS(avx2, __m256i, _mm256_setzero_si256, __m256i, _mm256_set1_epi16,
                                         FASTLIC_DOT256)
[[gnu::target("avx512f,avx512bw")]] FASTLIC_PRODUCTS(avx512, __m512i, _mm512_setzero_si512, __m512i,
                                                     _mm512_set1_epi16, FASTLIC_DOT512)
[[gnu::target("avx512f,avx512bw,avx512vnni")]] FASTLIC_PRODUCTS(avx512vnni, __m512i, _mm512_setzero_si512, __m512i,
                                                                _mm512_set1_epi16, _mm512_dpwssd_epi32)
#elif defined(__aarch64__)
#define FASTLIC_REGISTER(x) "+w"(x)
inline int32x4_t no_sum() { return vdupq_n_s32(0); }
FASTLIC_PRODUCTS(neon, int32x4_t, no_sum, int16x8_t, vdupq_n_s16, vmlal_high_s16)
#endif
    // clang-format on

    void loads() {
  static volatile std::uint32_t place[16] = {};
  for (int i = 0; i < kSteps; ++i) {
#pragma GCC unroll 16
    for (int k = 0; k < 16; ++k) static_cast<void>(place[k]);
  }
}

// Calls a second of the quickest round.
double rate(void (*run)()) {
  double best = 0;
  for (int round = 0; round < kRounds; ++round) {
    const auto start = std::chrono::steady_clock::now();
    run();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    best = std::max(best, 1 / elapsed.count());
  }
  return best;
}

}  // namespace

double peak_products() {
  [[maybe_unused]] const auto of = [](void (*run)(), int products) { return rate(run) * kSteps * kSums * products; };
  switch (active_isa()) {
#if defined(__x86_64__)
    case Isa::avx2: return of(avx2, 16);
    case Isa::avx512: return of(avx512, 32);
    case Isa::avx512vnni: return of(avx512vnni, 32);
#ifdef FASTLIC_TILES
    case Isa::amx: return rate([] { nn::tile_products(kSteps); }) * kSteps * 2 * 16 * 16 * 64;
#endif
#elif defined(__aarch64__)
    case Isa::neon: return of(neon, 4);
#endif
    default: return 0;
  }
}

double peak_loads() { return rate(loads) * kSteps * 16; }

}  // namespace fastlic

#include "fastlic/isa.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>

#include "fastlic/errors.hpp"
#include "fastlic/memory.hpp"
#include "fastlic/nn/tiles.hpp"

#ifdef FASTLIC_TILES
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace fastlic {
namespace {

constexpr std::array<const char*, 7> kNames = {"scalar", "avx2", "avx512", "avx512vnni", "amx", "neon", "wasm"};
constexpr int kUnset = -1;
std::atomic<int> g_active{kUnset};

String listed(std::span<const Isa> isas) {
  String text;
  for (const Isa isa : isas) text += (text.empty() ? "" : ", ") + String(isa_name(isa));
  return text;
}

Isa checked(Isa isa) {
  const auto supported = supported_isas();
  if (std::find(supported.begin(), supported.end(), isa) == supported.end()) {
    throw InvalidArgument(String("instruction set '") + isa_name(isa) + "' was requested; this processor supports " +
                          listed(supported));
  }
#ifdef FASTLIC_TILES
  if (isa == Isa::amx && !tiles_allowed()) {
    throw InvalidArgument("instruction set 'amx' was requested; the operating system refuses its registers");
  }
#endif
  return isa;
}

// No Vector: it stays when a program's memory goes.
struct Supported {
  std::array<Isa, kNames.size()> isas{};
  std::size_t count = 0;

  void push_back(Isa isa) { isas[count++] = isa; }
};

#ifdef FASTLIC_TILES
// Whether processor and operating system know tiles.
bool has_tiles() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kTiles = 1u << 24, kBytes = 1u << 25;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & kTiles) == 0 || (d & kBytes) == 0) return false;
  unsigned low = 0, high = 0;
  asm("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  constexpr unsigned kState = 3u << 17;  // configuration and data
  if ((low & kState) != kState) return false;
  std::uint64_t features = 0;  // that Linux gives to those who ask: ARCH_GET_XCOMP_SUPP
  return syscall(SYS_arch_prctl, 0x1021L, &features) == 0 && (features & kState) == kState;
}
#endif

Supported detect() {
  Supported isas;
  isas.push_back(Isa::scalar);
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("bmi2") || !__builtin_cpu_supports("fma")) return isas;
  isas.push_back(Isa::avx2);
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl")) {
    return isas;
  }
  isas.push_back(Isa::avx512);
  if (!__builtin_cpu_supports("avx512vnni")) return isas;
  isas.push_back(Isa::avx512vnni);
#ifdef FASTLIC_TILES
  if (has_tiles()) isas.push_back(Isa::amx);
#endif
#elif defined(__aarch64__)
  isas.push_back(Isa::neon);
#elif defined(__wasm_simd128__)
  isas.push_back(Isa::wasm);
#endif
  return isas;
}

}  // namespace

const char* isa_name(Isa isa) noexcept { return kNames[static_cast<std::size_t>(isa)]; }

Isa isa_from_name(std::string_view name) {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (name == kNames[i]) return static_cast<Isa>(i);
  }
  std::array<Isa, kNames.size()> all{};
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<Isa>(i);
  throw InvalidArgument("unknown instruction set '" + String(name) + "'; known are " + listed(all));
}

std::span<const Isa> supported_isas() noexcept {
  static const Supported supported = detect();
  return {supported.isas.data(), supported.count};
}

Isa best_isa() {
  const auto all = supported_isas();
#ifdef FASTLIC_TILES
  static const bool last = all.back() != Isa::amx || (tiles_allowed() && nn::tiles_pay());
  if (!last) return all[all.size() - 2];
#endif
  return all.back();
}

Isa active_isa() {
  const int current = g_active.load(std::memory_order_relaxed);
  if (current != kUnset) return static_cast<Isa>(current);
  const char* forced = std::getenv("FASTLIC_ISA");
  const Isa isa = forced != nullptr && *forced != '\0' ? checked(isa_from_name(forced)) : best_isa();
  g_active.store(static_cast<int>(isa), std::memory_order_relaxed);
  return isa;
}

#ifdef FASTLIC_TILES
bool tiles_allowed() noexcept {
  static const bool allowed = syscall(SYS_arch_prctl, 0x1023L, 18L) == 0;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return allowed;
}
#endif

void set_isa(Isa isa) { g_active.store(static_cast<int>(checked(isa)), std::memory_order_relaxed); }

double clock_ghz() {
  constexpr int kSteps = 4'000'000;
  double best = 0;
  for (int round = 0; round < 5; ++round) {
    const auto start = std::chrono::steady_clock::now();
    std::uint64_t value = 1;
    for (int i = 0; i < kSteps; ++i) {
      value += static_cast<std::uint64_t>(i);
      asm volatile("" : "+r"(value));  // keeps the chain
    }
    const std::chrono::duration<double, std::nano> elapsed = std::chrono::steady_clock::now() - start;
    best = std::max(best, kSteps / elapsed.count());
  }
  return best;
}

}  // namespace fastlic

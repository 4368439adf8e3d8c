#include "fastlic/isa.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>

namespace fastlic {
namespace {

constexpr std::array<const char*, 4> kNames = {"scalar", "avx2", "avx512", "avx512vnni"};
constexpr int kUnset = -1;
std::atomic<int> g_active{kUnset};

Isa checked(Isa isa) {
  if (isa > best_isa()) {
    throw std::invalid_argument(std::string("instruction set '") + isa_name(isa) +
                                "' was requested; this processor supports up to '" + isa_name(best_isa()) + "'");
  }
  return isa;
}

Isa detect() noexcept {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("bmi2")) return Isa::scalar;
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl")) {
    return Isa::avx2;
  }
  return __builtin_cpu_supports("avx512vnni") ? Isa::avx512vnni : Isa::avx512;
#else
  return Isa::scalar;
#endif
}

}  // namespace

const char* isa_name(Isa isa) noexcept { return kNames[static_cast<std::size_t>(isa)]; }

Isa isa_from_name(std::string_view name) {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (name == kNames[i]) return static_cast<Isa>(i);
  }
  throw std::invalid_argument("unknown instruction set '" + std::string(name) +
                              "'; expected scalar, avx2, avx512 or avx512vnni");
}

Isa best_isa() noexcept {
  static const Isa best = detect();
  return best;
}

Isa active_isa() {
  const int current = g_active.load(std::memory_order_relaxed);
  if (current != kUnset) return static_cast<Isa>(current);
  const char* forced = std::getenv("FASTLIC_ISA");
  const Isa isa = forced != nullptr && *forced != '\0' ? checked(isa_from_name(forced)) : best_isa();
  g_active.store(static_cast<int>(isa), std::memory_order_relaxed);
  return isa;
}

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

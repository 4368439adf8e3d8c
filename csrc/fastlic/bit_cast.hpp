// std::bit_cast, which every compiler of C++20 has, but not every library: Emscripten 3.1.6 lacks it.
#pragma once

namespace fastlic {

template <typename To, typename From>
constexpr To bit_cast(From x) noexcept {
  static_assert(sizeof(To) == sizeof(From));
  return __builtin_bit_cast(To, x);
}

}  // namespace fastlic

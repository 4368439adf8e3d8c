// Arrays that Python lends may be changed by another thread while a call runs. What decides over memory is read once,
// checked and used from then on; this keeps the compiler from reading it again.
#pragma once

namespace fastlic {

template <typename T>
T load_once(const T* at) noexcept {
  return __atomic_load_n(at, __ATOMIC_RELAXED);
}

}  // namespace fastlic

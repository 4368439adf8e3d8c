#include "fastlic/memory.hpp"

namespace fastlic {
namespace {

constexpr bool is_usual(std::size_t alignment) { return alignment <= __STDCPP_DEFAULT_NEW_ALIGNMENT__; }

}  // namespace

void* take_memory(std::size_t size, std::size_t alignment) {
  return is_usual(alignment) ? ::operator new(size) : ::operator new(size, std::align_val_t{alignment});
}

void free_memory(void* block, std::size_t size, std::size_t alignment) noexcept {
  if (is_usual(alignment)) return ::operator delete(block, size);
  ::operator delete(block, size, std::align_val_t{alignment});
}

}  // namespace fastlic

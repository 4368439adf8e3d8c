// Memory of the core. What it keeps lies in the containers below, never in those of std with std's allocator: all of
// them ask one place.
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <new>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace fastlic {

// `alignment`: a power of two. Throws std::bad_alloc where there is no memory.
void* take_memory(std::size_t size, std::size_t alignment);
// Size and alignment are those that it was taken with.
void free_memory(void* block, std::size_t size, std::size_t alignment) noexcept;

// Aligned for T, and to `Least` bytes.
template <typename T, std::size_t Least = 1>
struct Allocator {
  using value_type = T;
  template <typename U>
  struct rebind {
    using other = Allocator<U, Least>;
  };
  static constexpr std::size_t kAlignment = std::max(alignof(T), Least);

  Allocator() = default;
  template <typename U>
  Allocator(const Allocator<U, Least>&) noexcept {}  // NOLINT: the standard asks for this conversion

  T* allocate(std::size_t n) {
    if (n > PTRDIFF_MAX / sizeof(T)) throw std::bad_array_new_length();
    return static_cast<T*>(take_memory(n * sizeof(T), kAlignment));
  }
  void deallocate(T* p, std::size_t n) noexcept { free_memory(p, n * sizeof(T), kAlignment); }
  template <typename U>
  bool operator==(const Allocator<U, Least>&) const noexcept {
    return true;
  }
};

template <typename T>
using Vector = std::vector<T, Allocator<T>>;
using String = std::basic_string<char, std::char_traits<char>, Allocator<char>>;
template <typename Key, typename Value>
using Dictionary = std::map<Key, Value, std::less<Key>, Allocator<std::pair<const Key, Value>>>;
template <typename Key>
using Set = std::set<Key, std::less<Key>, Allocator<Key>>;

// std::make_shared.
template <typename T, typename... Arguments>
std::shared_ptr<T> shared_of(Arguments&&... arguments) {
  return std::allocate_shared<T>(Allocator<T>(), std::forward<Arguments>(arguments)...);
}

// Base of what std::make_unique makes.
struct Allocated {
  static void* operator new(std::size_t size) { return take_memory(size, alignof(std::max_align_t)); }
  static void operator delete(void* block, std::size_t size) noexcept {
    free_memory(block, size, alignof(std::max_align_t));
  }
};

// std::to_string.
template <std::integral T>
String to_string(T value) {
  std::array<char, 24> digits;
  return String(digits.data(), std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr);
}

}  // namespace fastlic

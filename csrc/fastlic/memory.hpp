// Memory of the core: of operator new, or of a program that gives its own (libflic). What is kept lies in the
// containers below, never in those of std with std's allocator: all of them ask one place.
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
#include <type_traits>
#include <utility>
#include <vector>

namespace fastlic {

// Functions of a program. `alignment` is a power of two, `size` a multiple of it; null: there is no memory. Threads
// call them at once, and free what others took.
struct Resource {
  void* (*allocate)(void* user, std::size_t size, std::size_t alignment) = nullptr;  // null: operator new
  void (*release)(void* user, void* block, std::size_t size) = nullptr;
  void* user = nullptr;
};

// While one lives, what its thread takes comes from there. Blocks go back to where they came from, whoever frees them
// and whenever: they remember it. Threads that parallel.hpp starts take from where the thread that starts them does.
class MemoryFrom {
 public:
  explicit MemoryFrom(const Resource& resource) noexcept : outer_(current()) { current() = resource; }
  ~MemoryFrom() { current() = outer_; }
  MemoryFrom(const MemoryFrom&) = delete;
  MemoryFrom& operator=(const MemoryFrom&) = delete;

  static Resource& current() noexcept;

 private:
  Resource outer_;
};

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

// What a thread keeps from call to call lies in one of these, each thread_local. drop_all() frees what all of this
// thread hold, for no program's memory may outlive its codec; they fill again.
class Kept {
 public:
  Kept() noexcept;
  Kept(const Kept&) = delete;
  Kept& operator=(const Kept&) = delete;

  static void drop_all() noexcept;

 protected:
  ~Kept();

 private:
  virtual void drop() noexcept = 0;

  Kept* next_;
};

template <typename Values>
struct Scratch final : Kept {
  Values values;

 private:
  void drop() noexcept override { values = Values(); }
};

// std::make_shared.
template <typename T, typename... Arguments>
std::shared_ptr<T> shared_of(Arguments&&... arguments) {
  return std::allocate_shared<T>(Allocator<T>(), std::forward<Arguments>(arguments)...);
}

// std::function.
template <typename Signature>
class Function;
template <typename Result, typename... Arguments>
class Function<Result(Arguments...)> {
 public:
  Function() = default;
  template <typename Call>
    requires(!std::same_as<std::remove_cvref_t<Call>, Function>)
  Function(Call&& call)  // NOLINT: as std's
      : own_(shared_of<std::decay_t<Call>>(std::forward<Call>(call))),
        call_([](const void* own, Arguments... arguments) -> Result {
          return (*static_cast<const std::decay_t<Call>*>(own))(std::forward<Arguments>(arguments)...);
        }) {}

  explicit operator bool() const noexcept { return call_ != nullptr; }
  Result operator()(Arguments... arguments) const { return call_(own_.get(), std::forward<Arguments>(arguments)...); }

 private:
  std::shared_ptr<const void> own_;
  Result (*call_)(const void*, Arguments...) = nullptr;
};

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

#include "fastlic/memory.hpp"

#include <cstring>

namespace fastlic {
namespace {

// Before each block, so that whoever frees it finds its way back.
struct Origin {
  void (*release)(void* user, void* block, std::size_t size);  // null: operator delete
  void* user;
};

constexpr std::size_t kUsual = std::max(sizeof(Origin), alignof(std::max_align_t));

// A block lies so far behind what was taken for it: a power of two, since sizes of pointers are.
constexpr std::size_t before(std::size_t alignment) { return std::max(alignment, kUsual); }
constexpr std::size_t whole(std::size_t size, std::size_t unit) { return (size + unit - 1) / unit * unit + unit; }
constexpr bool is_usual(std::size_t unit) { return unit <= __STDCPP_DEFAULT_NEW_ALIGNMENT__; }

Kept*& kept() noexcept {
  thread_local Kept* first = nullptr;
  return first;
}

}  // namespace

Resource& MemoryFrom::current() noexcept {
  thread_local Resource own;
  return own;
}

void* take_memory(std::size_t size, std::size_t alignment) {
  const std::size_t unit = before(alignment);
  if (size > PTRDIFF_MAX - 2 * unit) throw std::bad_alloc();
  const std::size_t all = whole(size, unit);
  const Resource& from = MemoryFrom::current();
  void* taken = nullptr;
  if (from.allocate == nullptr) {
    taken = is_usual(unit) ? ::operator new(all) : ::operator new(all, std::align_val_t{unit});
  } else {
    taken = from.allocate(from.user, all, unit);
    if (taken == nullptr) throw std::bad_alloc();
  }
  auto* block = static_cast<std::byte*>(taken) + unit;
  const Origin origin{from.allocate == nullptr ? nullptr : from.release, from.user};
  std::memcpy(block - sizeof origin, &origin, sizeof origin);
  return block;
}

void free_memory(void* block, std::size_t size, std::size_t alignment) noexcept {
  const std::size_t unit = before(alignment), all = whole(size, unit);
  Origin origin;
  std::memcpy(&origin, static_cast<std::byte*>(block) - sizeof origin, sizeof origin);
  void* taken = static_cast<std::byte*>(block) - unit;
  if (origin.release != nullptr) return origin.release(origin.user, taken, all);
  if (is_usual(unit)) return ::operator delete(taken);  // without the size, which clang 14 does not take by itself
  ::operator delete(taken, std::align_val_t{unit});
}

Kept::Kept() noexcept : next_(kept()) { kept() = this; }

Kept::~Kept() {
  Kept** at = &kept();
  while (*at != this) at = &(*at)->next_;
  *at = next_;
}

void Kept::drop_all() noexcept {
  for (Kept* own = kept(); own != nullptr; own = own->next_) own->drop();
}

}  // namespace fastlic

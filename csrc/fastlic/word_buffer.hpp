// The output of a rANS encoder: it works backwards, so its buffer grows downwards.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>

#include "fastlic/memory.hpp"

namespace fastlic {

class WordBuffer {
 public:
  explicit WordBuffer(std::size_t capacity) : capacity_(capacity), bytes_(room_of(capacity)) {}

  // Lowest byte written so far; writers store below it and then tell how far they came.
  std::uint8_t* next() noexcept { return bytes_.get() + (capacity_ - size_); }
  const std::uint8_t* begin() const noexcept { return bytes_.get() + (capacity_ - size_); }
  std::size_t size() const noexcept { return size_; }

  void written_down_to(const std::uint8_t* at) noexcept {
    size_ = capacity_ - static_cast<std::size_t>(at - bytes_.get());
  }

  // Makes `room` bytes below next() writable; moves the contents if need be.
  void reserve(std::size_t room) {
    if (capacity_ - size_ >= room) return;
    if (capacity_ > (PTRDIFF_MAX - room) / 2) throw std::bad_alloc();
    const std::size_t larger = 2 * capacity_ + room;
    Bytes bytes = room_of(larger);
    std::copy_n(begin(), size_, bytes.get() + (larger - size_));
    bytes_ = std::move(bytes);
    capacity_ = larger;
  }

 private:
  struct Free {
    std::size_t size;
    void operator()(std::uint8_t* bytes) const noexcept { free_memory(bytes, size, 1); }
  };
  using Bytes = std::unique_ptr<std::uint8_t[], Free>;

  // As it comes: nobody reads what nobody wrote.
  static Bytes room_of(std::size_t size) { return Bytes(static_cast<std::uint8_t*>(take_memory(size, 1)), {size}); }

  std::size_t capacity_;
  std::size_t size_ = 0;
  Bytes bytes_;
};

}  // namespace fastlic

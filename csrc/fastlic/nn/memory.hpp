// Buffers of the engine: aligned to cache lines, which are also the widest vectors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include "fastlic/memory.hpp"

namespace fastlic::nn {

constexpr std::size_t kLine = 64;

// std::bad_alloc unless [height][width][channels] numbers of so many bytes have addresses. With 64 bits all have that
// limits elsewhere let through; with 32 a product of sizes might wrap around, and too little be reserved.
inline void require_addresses(std::size_t height, std::size_t width, std::size_t channels, std::size_t bytes) {
  if constexpr (sizeof(std::size_t) < 8) {
    const double all = static_cast<double>(height) * static_cast<double>(width) * static_cast<double>(channels);
    if (all * static_cast<double>(bytes) > static_cast<double>(PTRDIFF_MAX)) throw std::bad_alloc();
  }
}

template <typename T>
using Buffer = std::vector<T, Allocator<T, kLine>>;

// At least `size` values that stay with the thread from call to call; one buffer per type, so whoever holds it calls
// nothing that asks for the same type.
template <typename T>
T* scratch(std::size_t size) {
  thread_local Scratch<Buffer<T>> own;
  if (own.values.size() < size) own.values.resize(size);
  return own.values.data();
}

// Values that never change once a model is packed: copies share them, so models that differ in requantisers and biases
// only hold one set of weights.
template <typename T>
class Shared {
 public:
  Shared() = default;
  explicit Shared(std::size_t size) : values_(shared_of<Buffer<T>>(size)) {}

  T* data() const noexcept { return values_ ? values_->data() : nullptr; }
  T& operator[](std::size_t i) const noexcept { return data()[i]; }

 private:
  std::shared_ptr<Buffer<T>> values_;
};

// Channels of every activation row are padded to whole panels of the packed weights, so that rows of one layer are
// inputs of the next without copies, and kernels have no odd ends. Padded channels meet zero weights.
constexpr std::size_t kPanel = 32, kHalfPanel = kPanel / 2, kQuarterPanel = kPanel / 4;

constexpr std::size_t padded(std::size_t channels) noexcept { return (channels + kPanel - 1) / kPanel * kPanel; }

}  // namespace fastlic::nn

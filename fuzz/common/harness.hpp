// What all fuzz targets need: typed pieces off the front of the input, and instruction sets, one after the other or one
// that the input chooses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "fastlic/isa.hpp"
#include "fastlic/memory.hpp"

namespace fastlic::fuzz {

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}

  template <typename T>
  T take() {
    T value{};
    const std::size_t n = sizeof(T) < size_ ? sizeof(T) : size_;
    if (n > 0) std::memcpy(&value, data_, n);  // an empty input may be a null pointer
    data_ += n;
    size_ -= n;
    return value;
  }

  Vector<std::uint8_t> take_bytes(std::size_t count) {
    const std::size_t n = count < size_ ? count : size_;
    Vector<std::uint8_t> bytes(data_, data_ + n);
    data_ += n;
    size_ -= n;
    return bytes;
  }

  Vector<std::uint8_t> rest() { return take_bytes(size_); }
  std::size_t left() const { return size_; }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
};

// A claim about the library; failing one is a finding, like a sanitizer report.
inline void require(bool claim) {
  if (!claim) std::abort();
}

// Runs the body on every instruction set of this processor. The result of each must equal the first one's.
template <typename Body>
auto on_every_isa(const Body& body) {
  set_isa(Isa::scalar);
  auto first = body();
  for (const Isa isa : supported_isas()) {
    set_isa(isa);
    require(body() == first);
  }
  return first;
}

// Targets whose inputs take long: one instruction set, chosen by a byte of the input, for most; all for every eighth.
template <typename Body>
auto on_chosen_isa(std::uint8_t choice, const Body& body) {
  if (choice >= 0xE0) return on_every_isa(body);
  const auto isas = supported_isas();
  set_isa(isas[choice % isas.size()]);
  return body();
}

// Another choice of the same byte, so that what one instruction set wrote is read by another.
inline std::uint8_t other(std::uint8_t choice) {
  return static_cast<std::uint8_t>(choice >= 0xE0 ? choice : choice / 8);
}

}  // namespace fastlic::fuzz

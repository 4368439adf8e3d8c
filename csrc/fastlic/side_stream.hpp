// The side stream: raw low bits of wide rows, and escapes. A stack of bits.
//
// The encoder runs through the symbols backwards and pushes; the decoder runs forwards and pops from the stream's last
// byte, so neither needs the other's length. The highest set bit of the last byte marks the top of the stack.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "fastlic/errors.hpp"
#include "fastlic/load_once.hpp"
#include "fastlic/memory.hpp"

namespace fastlic {

class SideWriter {
 public:
  bool empty() const noexcept { return bytes_.empty() && filled_ == 0; }

  // Pushes the low `bits` (0..32) of `value`; what is pushed last is popped first.
  void push(std::uint64_t value, unsigned bits) {
    buffer_ |= (value & ((std::uint64_t{1} << bits) - 1)) << filled_;
    filled_ += bits;
    for (; filled_ >= 8; filled_ -= 8, buffer_ >>= 8) bytes_.push_back(static_cast<std::uint8_t>(buffer_));
  }

  // An escaped distance in Elias' gamma code, the prefix on top: popped as z zeros, a one, then z low bits of
  // distance+1. Escapes sit just outside their window in real data, where this costs one to three bits.
  void push_gamma(std::uint64_t distance) {
    const std::uint64_t value = distance + 1;
    const auto zeros = static_cast<unsigned>(std::bit_width(value)) - 1;
    push(value, zeros < 32 ? zeros : 32);
    if (zeros > 32) push(value >> 32, zeros - 32);
    push(1, 1);
    push(0, zeros < 32 ? zeros : 32);
    if (zeros > 32) push(0, zeros - 32);
  }

  std::size_t size_bound() const noexcept { return bytes_.size() + 2; }

  // Adds the mark on top of the stack and returns the finished bytes.
  const Vector<std::uint8_t>& finish() {
    push(1, 1);
    if (filled_ > 0) push(0, 8 - filled_);
    return bytes_;
  }

 private:
  Vector<std::uint8_t> bytes_;
  std::uint64_t buffer_ = 0;
  unsigned filled_ = 0;
};

class SideReader {
 public:
  SideReader() = default;

  // The stack that ends with data[size - 1] and may reach down to data[floor], never below; floor >= 3.
  SideReader(const std::uint8_t* data, std::size_t size, std::size_t floor) : data_(data), floor_bits_(8 * floor) {
    const unsigned last = size > floor ? load_once(&data[size - 1]) : 0;
    if (last == 0) throw CorruptStream("the side stream has no end mark");
    position_ = 8 * (size - 1) + static_cast<unsigned>(std::bit_width(last)) - 1;
  }

  // Pops `bits` (0..16).
  std::uint32_t pop(unsigned bits) {
    if (position_ - floor_bits_ < bits) throw CorruptStream("the side stream is exhausted");
    if (bits == 0) return 0;  // also without a side stream, where there is nothing to read
    // In the four bytes that end with the first of these bits: 7 + 16 of 32 are needed, the floor leaves room below.
    const std::uint64_t last = (position_ - 1) / 8;
    std::uint32_t window;
    std::memcpy(&window, data_ + (last - 3), sizeof window);
    position_ -= bits;
    const auto shift = static_cast<unsigned>(position_ - 8 * (last - 3));
    return (window >> shift) & ((1u << bits) - 1);
  }

  std::uint64_t pop_gamma() {
    unsigned zeros = 0;
    // int32 symbols and offsets within +-2^30 give distances below 2^34; no valid prefix is longer.
    while (pop(1) == 0) {
      if (++zeros > kMaxGammaZeros) throw CorruptStream("an escape is longer than any symbol needs");
    }
    std::uint64_t value = 1;
    for (unsigned left = zeros; left > 0;) {
      const unsigned bits = left > 16 ? 16 : left;
      value = value << bits | pop(bits);
      left -= bits;
    }
    return value - 1;
  }

  // The offset of the lowest byte used; the stack is only well formed if it ends on that byte's boundary.
  std::size_t end_offset() const noexcept { return position_ / 8; }
  bool at_byte_boundary() const noexcept { return position_ % 8 == 0; }

 private:
  static constexpr unsigned kMaxGammaZeros = 34;
  const std::uint8_t* data_ = nullptr;
  std::uint64_t floor_bits_ = 0;
  std::uint64_t position_ = 0;  // in bits from data_; everything below is still on the stack
};

}  // namespace fastlic

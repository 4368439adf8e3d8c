// One 64-bit rANS state with 32-bit words: for wide alphabets and for CompressAI's format.
//
// Stream: state (u64, little endian), then words (u32, little endian) in the order of decoding.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "fastlic/errors.hpp"
#include "fastlic/memory.hpp"
#include "fastlic/word_buffer.hpp"

namespace fastlic {

constexpr std::uint64_t kState64Low = std::uint64_t{1} << 31;  // states live in [2^31, 2^63)

// x / frequency for x < 2^63 is mulhi(2x, multiplier) >> shift, exactly: with s = ceil(log2 f) and
// m = ceil(2^(63 + s) / f), the excess m * f - 2^(63 + s) is below f <= 2^s, so x times it stays below 2^(63 + s).
struct Reciprocal {
  std::uint64_t multiplier = 0;
  std::uint32_t shift = 0;

  Reciprocal() = default;
  explicit Reciprocal(std::uint32_t frequency) : shift(static_cast<std::uint32_t>(std::bit_width(frequency - 1))) {
    const auto numerator = static_cast<unsigned __int128>(1) << (63 + shift);
    multiplier = static_cast<std::uint64_t>((numerator + frequency - 1) / frequency);
  }
  std::uint64_t divide(std::uint64_t x) const {
    return static_cast<std::uint64_t>(static_cast<unsigned __int128>(x << 1) * multiplier >> 64) >> shift;
  }
};

// The encoder's moving parts; words go down from `next`, at most one (4 bytes) per put().
struct Rans64Encoder {
  std::uint64_t state;
  std::uint8_t* next;

  void put(std::uint64_t start, std::uint64_t frequency, const Reciprocal& reciprocal, unsigned precision) {
    if (state >= frequency << (63 - precision)) emit();
    // (q << k) + (x - q * f) + start
    state += start + reciprocal.divide(state) * ((std::uint64_t{1} << precision) - frequency);
  }

  void put_bits(std::uint64_t value, unsigned bits) {
    if (state >= std::uint64_t{1} << (63 - bits)) emit();
    state = state << bits | value;
  }

 private:
  void emit() {
    const auto word = static_cast<std::uint32_t>(state);
    next -= 4;
    std::memcpy(next, &word, 4);
    state >>= 32;
  }
};

inline Vector<std::uint8_t> rans64_stream(std::uint64_t state, const WordBuffer& words) {
  Vector<std::uint8_t> out(8 + words.size());
  std::memcpy(out.data(), &state, 8);
  std::copy_n(words.begin(), words.size(), out.data() + 8);
  return out;
}

// The decoder's moving parts.
struct Rans64Decoder {
  std::uint64_t state = 0;
  const std::uint8_t* next = nullptr;
  const std::uint8_t* end = nullptr;

  Rans64Decoder() = default;
  Rans64Decoder(const std::uint8_t* data, std::size_t size) {
    if (size < 8 || size % 4 != 0) {
      throw CorruptStream("rANS stream: its size must be a multiple of 4 and at least 8, got " + to_string(size));
    }
    std::memcpy(&state, data, 8);
    next = data + 8;
    end = data + size;
    // Below the interval refills would not restore the state, above it products could overflow.
    if (state < kState64Low || state >> 63 != 0) throw CorruptStream("rANS stream: its state is out of range");
  }

  std::uint64_t code(unsigned precision) const { return state & ((std::uint64_t{1} << precision) - 1); }

  // within: how far the code is into the symbol's interval.
  void take(std::uint64_t within, std::uint64_t frequency, unsigned precision) {
    state = frequency * (state >> precision) + within;
    refill();
  }

  std::uint64_t take_bits(unsigned bits) {
    const std::uint64_t value = code(bits);
    state >>= bits;
    refill();
    return value;
  }

  // Throws unless every word was used and the state is the encoder's first.
  void finish() const {
    if (next != end || state != kState64Low) {
      throw CorruptStream("rANS stream: " + to_string(end - next) +
                          " bytes are left, or it does not end in the initial state");
    }
  }

 private:
  void refill() {
    if (state >= kState64Low) return;
    if (end - next < 4) throw CorruptStream("rANS stream: it ends before its last symbol");
    std::uint32_t word;
    std::memcpy(&word, next, 4);
    next += 4;
    state = state << 32 | word;
  }
};

}  // namespace fastlic

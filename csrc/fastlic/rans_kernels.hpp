// Inner loops of the native coder, for each instruction set.
//
// A kernel handles whole groups: as many symbols as there are lanes, starting at lane 0. The driver does the odd ends
// with the scalar steps below. All kernels compute the same integers, so bytes, symbols and errors never depend on the
// choice.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "fastlic/cdf_tables.hpp"
#include "fastlic/isa.hpp"
#include "fastlic/rans.hpp"

namespace fastlic {

struct DecodeJob {
  std::uint32_t* states;  // [lanes], 64-byte aligned
  unsigned lanes;
  const std::uint32_t* slots;  // CdfTables::decode_words()
  unsigned precision;
  const std::uint8_t* next;   // next unread word
  const std::uint8_t* limit;  // a group may start while next <= limit; 128 bytes are readable from there
  bool escaped = false;       // set if any output is kEscapeValue
};

struct EncodeJob {
  std::uint32_t* states;  // [lanes], 64-byte aligned
  unsigned lanes;
  const std::uint32_t* words;  // CdfTables::encode_words()
  unsigned precision;
  std::uint8_t* next;   // words are written downwards from here; 2 bytes per symbol and 64 more are writable below
  std::uint8_t* marks;  // bit i is set if symbol i used the escape slot; cleared by the caller
};

struct RansKernels {
  // Decode up to `groups` groups, return how many were done (fewer only at the limit).
  std::size_t (*decode16)(DecodeJob&, const std::uint8_t* indexes, std::int16_t* out, std::size_t groups);
  std::size_t (*decode32)(DecodeJob&, const std::uint8_t* indexes, std::int32_t* out, std::size_t groups);
  // Encode `groups` groups, last symbol first. values: int8 as in CdfTables, [groups * lanes].
  void (*encode)(EncodeJob&, const std::uint8_t* indexes, const std::int8_t* values, std::size_t groups);
};

// Helpers of the drivers, over blocks of any size.
struct BlockKernels {
  // Symbols to int8, with everything outside -127..127 as kEscapeValue.
  void (*narrow16)(const std::int16_t* symbols, std::size_t count, std::int8_t* values);
  void (*narrow32)(const std::int32_t* symbols, std::size_t count, std::int8_t* values);
  // Copies indexes and returns the largest of the copy.
  unsigned (*copy_indexes)(const std::uint8_t* from, std::size_t count, std::uint8_t* to);
  // Sets bit i of marks[] (ceil(count / 64) words, cleared by the caller) where indexes[i] >= row.
  void (*mark_rows)(const std::uint8_t* indexes, std::size_t count, unsigned row, std::uint64_t* marks);
  // Sets bit i where values[i] is kEscapeValue.
  void (*mark_escapes16)(const std::int16_t* values, std::size_t count, std::uint64_t* marks);
  void (*mark_escapes32)(const std::int32_t* values, std::size_t count, std::uint64_t* marks);
};

// Kernels for streams of `lanes` lanes at that level. Streams with fewer lanes than a vector has use the scalar loops.
const RansKernels& rans_kernels(Isa isa, unsigned lanes) noexcept;
const BlockKernels& block_kernels(Isa isa) noexcept;

// One symbol: returns its int8 value.
inline int decode_step(std::uint32_t& state, const std::uint8_t*& next, const std::uint32_t* row, unsigned precision) {
  const std::uint32_t packed = row[state & ((1u << precision) - 1)];
  const std::uint32_t frequency = packed >> kFieldBits & kFieldMask;
  state = refill(frequency * (state >> precision) + (packed & kFieldMask), next);
  return static_cast<std::int32_t>(packed) >> 24;
}

// x / frequency for every x that can reach the division, x < frequency * 2^(31 - precision):
// with m = ceil(2^43 / frequency), the product exceeds x * 2^43 / frequency by less than x * (frequency - 1) /
// frequency < 2^31; the fraction of x / frequency is at most 1 - 1/frequency <= 1 - 2^-12, that is 2^31 short of
// carrying.
constexpr unsigned kReciprocalBits = 43;
static_assert(31 + kMaxPrecision <= kReciprocalBits);
static_assert(31 - kMinPrecision + kReciprocalBits + 1 <= 65, "q * 2^43 fits 64 bits");
extern const std::uint64_t* const kReciprocals;  // [4096], by frequency

inline void encode_step(std::uint32_t& state, std::uint8_t*& next, std::uint32_t packed, unsigned precision) {
  const std::uint32_t frequency = packed & kFieldMask;
  const std::uint32_t start = packed >> kFieldBits & kFieldMask;
  const std::uint32_t x = shrink(state, frequency << (31 - precision), next);
  const auto quotient = static_cast<std::uint32_t>(x * kReciprocals[frequency] >> kReciprocalBits);
  // (q << k) + (x - q * f) + start
  state = x + start + quotient * ((1u << precision) - frequency);
}

}  // namespace fastlic

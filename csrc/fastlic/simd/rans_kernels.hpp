// Inner loops of the native coder, one file per instruction set, and the table that chooses between them.
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

namespace fastlic::simd {

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

// Decode up to `groups` groups, return how many were done (fewer only at the limit).
using DecodeGroups16 = std::size_t (*)(DecodeJob&, const std::uint8_t* indexes, std::int16_t* out, std::size_t groups);
using DecodeGroups32 = std::size_t (*)(DecodeJob&, const std::uint8_t* indexes, std::int32_t* out, std::size_t groups);
// Encode `groups` groups, last symbol first. values: int8 as in CdfTables, [groups * lanes].
using EncodeGroups = void (*)(EncodeJob&, const std::uint8_t* indexes, const std::int8_t* values, std::size_t groups);

// Helpers of the drivers, over blocks of any size.
// Symbols to int8, with everything outside -127..127 as kEscapeValue.
using Narrow16 = void (*)(const std::int16_t* symbols, std::size_t count, std::int8_t* values);
using Narrow32 = void (*)(const std::int32_t* symbols, std::size_t count, std::int8_t* values);
// Copies indexes and returns the largest of the copy.
using CopyIndexes = unsigned (*)(const std::uint8_t* from, std::size_t count, std::uint8_t* to);
// Sets bit i of marks[] (ceil(count / 64) words, cleared by the caller) where indexes[i] >= row.
using MarkRows = void (*)(const std::uint8_t* indexes, std::size_t count, unsigned row, std::uint64_t* marks);
// Sets bit i where values[i] is kEscapeValue.
using MarkEscapes16 = void (*)(const std::int16_t* values, std::size_t count, std::uint64_t* marks);
using MarkEscapes32 = void (*)(const std::int32_t* values, std::size_t count, std::uint64_t* marks);

struct RansKernels {
  DecodeGroups16 decode16;
  DecodeGroups32 decode32;
  EncodeGroups encode;
};

struct BlockKernels {
  Narrow16 narrow16;
  Narrow32 narrow32;
  CopyIndexes copy_indexes;
  MarkRows mark_rows;
  MarkEscapes16 mark_escapes16;
  MarkEscapes32 mark_escapes32;
};

// Kernels for streams of `lanes` lanes at that level. Streams with fewer lanes than a vector has use the scalar loops.
const RansKernels& rans_kernels(Isa isa, unsigned lanes) noexcept;
const BlockKernels& block_kernels(Isa isa) noexcept;

extern const RansKernels kRansScalar;
extern const BlockKernels kBlockScalar;
#if defined(__x86_64__)
extern const RansKernels kRansAvx2;    // lanes >= 8
extern const RansKernels kRansAvx512;  // lanes >= 16
extern const BlockKernels kBlockAvx2;
extern const BlockKernels kBlockAvx512;
#endif

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

}  // namespace fastlic::simd

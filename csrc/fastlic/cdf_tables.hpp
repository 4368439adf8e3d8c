// Cumulative frequency tables of the native coder: validated once, then trusted by every kernel.
//
// A table set has up to 256 rows; the caller names a row per symbol with a u8 index. A row codes a symbol s as
//
//     t    = s >> shift          the part that the row's frequencies describe (arithmetic shift)
//     raw  = the low `shift` bits of s, written as they are: for wide distributions they are noise
//     slot = t - offset          0 <= slot < size: regular;  anything else: the escape slot, number `size`
//
// so one row of a few dozen frequencies serves a Gaussian of any width, and escapes carry every other int32.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "fastlic/memory.hpp"

namespace fastlic {

// One packed 32-bit word per slot of a row answers a decoding step with a single load:
//   31..24 value of t - base (int8) | 23..12 frequency | 11..0 slot - start
// Twelve bits is what two 12-bit fields and a byte leave room for, and also where the coding loss of precision (0.07 %
// of the rate) falls below that of 64 scale levels (docs/stream.md has the measurements).
constexpr unsigned kMinPrecision = 10;
constexpr unsigned kMaxPrecision = 12;
constexpr unsigned kFieldBits = 12;
static_assert(kMaxPrecision <= kFieldBits && 8 + 2 * kFieldBits == 32);

// The int8 that stands for "escape" in packed words; regular values stay within -127..127.
constexpr int kEscapeValue = -128;
constexpr unsigned kMaxRowSize = 255;  // regular slots: -127..127
constexpr unsigned kMaxShift = 16;
constexpr unsigned kMaxRows = 256;
constexpr std::int32_t kMaxOffset = 1 << 30;  // so that offset + slot never overflows

// Packed words of the encoder: 24 escape | 23..12 start | 11..0 frequency.
constexpr std::uint32_t kFieldMask = (1u << kFieldBits) - 1;
constexpr std::uint32_t kEncodeEscapeFlag = 1u << (2 * kFieldBits);

struct CdfRow {
  std::int32_t offset = 0;  // t of slot 0
  std::int32_t base = 0;    // what kernels add to their int8 values; 0 for rows near zero
  std::uint32_t size = 0;   // regular slots
  std::uint8_t shift = 0;   // raw bits
  bool plain = true;        // shift == 0 and base == 0: the kernels' int8 is the symbol itself
};

// Tables have such a fault.
[[noreturn]] void refuse_row(std::size_t row, const String& fault);

class CdfTables {
 public:
  // cdf:     rows one after another, each 0 = c[0] < c[1] < ... < c[size + 1] = 2^precision; the last slot is the
  // escape lengths: entries of each row in `cdf`, i.e. size + 2, in 3..257 offsets: t of the first slot;  shifts: raw
  // bits, 0..16 Throws std::invalid_argument that names the row and the fault.
  CdfTables(std::span<const std::int32_t> cdf, std::span<const std::int32_t> lengths,
            std::span<const std::int32_t> offsets, std::span<const std::uint8_t> shifts, unsigned precision);

  unsigned precision() const noexcept { return precision_; }
  std::size_t rows() const noexcept { return rows_.size(); }
  const CdfRow& row(std::size_t index) const noexcept { return rows_[index]; }

  // The largest frequency of any slot.
  std::uint32_t likeliest() const noexcept { return likeliest_; }

  // Rows below this one are all plain, so a block whose indexes stay below it needs no per-symbol care.
  unsigned first_special_row() const noexcept { return first_special_; }

  const std::uint32_t* decode_words() const noexcept { return decode_; }         // [rows][2^precision]
  const std::uint32_t* encode_words() const noexcept { return encode_.data(); }  // [rows][256], column: u8(t - base)
  const std::uint16_t* costs() const noexcept { return costs_.data(); }          // same shape; bits in 1/256

  // Copies indexes, which others may change, and returns the largest of the copy; std::invalid_argument if that names
  // no row. From then on only the copy is read.
  unsigned take_indexes(const std::uint8_t* from, std::size_t count, std::uint8_t* to) const;
  [[noreturn, gnu::cold]] void refuse_index(unsigned index) const;

 private:
  void add_row(std::span<const std::int32_t> cdf, std::int32_t offset, std::uint8_t shift);

  unsigned precision_;
  unsigned first_special_ = 0;
  std::uint32_t likeliest_ = 1;
  Vector<CdfRow> rows_;
  Vector<std::uint32_t> decode_storage_;
  std::uint32_t* decode_ = nullptr;  // into decode_storage_, aligned to a cache line
  Vector<std::uint32_t> encode_;
  Vector<std::uint16_t> costs_;
};

// log2(value) in 1/256, rounded down, by repeated squaring: integer arithmetic, so every machine agrees. value >= 1.
std::uint32_t log2_q8(std::uint32_t value) noexcept;

}  // namespace fastlic

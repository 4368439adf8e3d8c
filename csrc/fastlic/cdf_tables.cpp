#include "fastlic/cdf_tables.hpp"

#include <algorithm>
#include <bit>

#include "fastlic/errors.hpp"
#include "fastlic/isa.hpp"
#include "fastlic/memory.hpp"
#include "fastlic/rans_kernels.hpp"

namespace fastlic {
namespace {

// The int8 of slot 0 and the base that restores t: rows near zero keep base 0 and thus the fast path.
std::int32_t choose_base(std::int32_t offset, std::uint32_t size) {
  const std::int64_t last = std::int64_t{offset} + size - 1;
  if (offset >= -127 && last <= 127) return 0;
  return offset + 127;
}

}  // namespace

void refuse_row(std::size_t row, const String& fault) {
  throw InvalidArgument("row " + to_string(row) + " of the tables: " + fault);
}

std::uint32_t log2_q8(std::uint32_t value) noexcept {
  const unsigned top = 31u - static_cast<unsigned>(std::countl_zero(value));
  std::uint64_t mantissa = std::uint64_t{value} << (31 - top);  // in [2^31, 2^32)
  std::uint32_t result = top;
  for (int bit = 0; bit < 8; ++bit) {
    mantissa = (mantissa * mantissa) >> 31;
    const auto carry = static_cast<std::uint32_t>(mantissa >> 32);
    mantissa >>= carry;
    result = 2 * result + carry;
  }
  return result;
}

CdfTables::CdfTables(std::span<const std::int32_t> cdf, std::span<const std::int32_t> lengths,
                     std::span<const std::int32_t> offsets, std::span<const std::uint8_t> shifts, unsigned precision)
    : precision_(precision) {
  if (precision < kMinPrecision || precision > kMaxPrecision) {
    throw InvalidArgument("precision must be 10, 11 or 12 bits, got " + to_string(precision));
  }
  const std::size_t rows = lengths.size();
  if (rows == 0 || rows > kMaxRows || offsets.size() != rows || shifts.size() != rows) {
    throw InvalidArgument("tables need 1 to 256 rows with one length, offset and shift each, got " + to_string(rows) +
                          " lengths, " + to_string(offsets.size()) + " offsets, " + to_string(shifts.size()) +
                          " shifts");
  }
  constexpr std::size_t kLine = 64 / sizeof(std::uint32_t);
  decode_storage_.resize((rows << precision) + kLine);
  const auto address = reinterpret_cast<std::uintptr_t>(decode_storage_.data());
  decode_ = decode_storage_.data() + (64 - address % 64) % 64 / sizeof(std::uint32_t);
  encode_.resize(rows * 256);
  costs_.resize(rows * 256);
  rows_.reserve(rows);

  std::size_t begin = 0;
  for (std::size_t r = 0; r < rows; ++r) {
    if (lengths[r] < 3 || lengths[r] > static_cast<std::int32_t>(kMaxRowSize) + 2) {
      refuse_row(r, "its length must be 3 to 257 (slots, escape, total), got " + to_string(lengths[r]));
    }
    const auto length = static_cast<std::size_t>(lengths[r]);
    if (length > cdf.size() - begin) refuse_row(r, "the cdf array ends inside it");
    if (shifts[r] > kMaxShift) refuse_row(r, "its shift must be at most 16, got " + to_string(shifts[r]));
    if (offsets[r] < -kMaxOffset || offsets[r] > kMaxOffset) {
      refuse_row(r, "its offset must lie within +-2^30, got " + to_string(offsets[r]));
    }
    add_row(cdf.subspan(begin, length), offsets[r], shifts[r]);
    begin += length;
  }
  if (begin != cdf.size()) {
    throw InvalidArgument("the cdf array holds " + to_string(cdf.size()) + " entries, its rows use " +
                          to_string(begin));
  }
  first_special_ = static_cast<unsigned>(
      std::find_if(rows_.begin(), rows_.end(), [](const CdfRow& row) { return !row.plain; }) - rows_.begin());
}

void CdfTables::add_row(std::span<const std::int32_t> cdf, std::int32_t offset, std::uint8_t shift) {
  const std::size_t r = rows_.size();
  const std::int32_t total = 1 << precision_;
  if (cdf.front() != 0 || cdf.back() != total) {
    refuse_row(r, "it must run from 0 to " + to_string(total) + ", got " + to_string(cdf.front()) + " to " +
                      to_string(cdf.back()));
  }
  for (std::size_t i = 0; i + 1 < cdf.size(); ++i) {
    if (cdf[i] >= cdf[i + 1]) refuse_row(r, "slot " + to_string(i) + " has frequency below 1");
  }
  const auto size = static_cast<std::uint32_t>(cdf.size() - 2);
  const std::int32_t base = choose_base(offset, size);
  rows_.push_back({offset, base, size, shift, shift == 0 && base == 0});

  const auto frequency = [&](std::uint32_t slot) { return static_cast<std::uint32_t>(cdf[slot + 1] - cdf[slot]); };
  const auto cost = [&](std::uint32_t slot) {
    return static_cast<std::uint16_t>(precision_ * 256 - log2_q8(frequency(slot)));
  };
  const std::uint32_t escape = size;
  const std::uint32_t escape_word =
      kEncodeEscapeFlag | static_cast<std::uint32_t>(cdf[escape]) << kFieldBits | frequency(escape);
  std::fill_n(&encode_[r * 256], 256, escape_word);
  std::fill_n(&costs_[r * 256], 256, cost(escape));

  std::uint32_t* slots = decode_ + (r << precision_);
  for (std::uint32_t slot = 0; slot <= size; ++slot) {
    const int value = slot == escape ? kEscapeValue : static_cast<int>(std::int64_t{offset} + slot - base);
    const auto byte = static_cast<std::uint8_t>(value);
    likeliest_ = std::max(likeliest_, frequency(slot));
    if (slot != escape) {
      encode_[r * 256 + byte] = static_cast<std::uint32_t>(cdf[slot]) << kFieldBits | frequency(slot);
      costs_[r * 256 + byte] = cost(slot);
    }
    for (std::uint32_t within = 0; within < frequency(slot); ++within) {
      slots[static_cast<std::uint32_t>(cdf[slot]) + within] =
          std::uint32_t{byte} << (2 * kFieldBits) | frequency(slot) << kFieldBits | within;
    }
  }
}

unsigned CdfTables::take_indexes(const std::uint8_t* from, std::size_t count, std::uint8_t* to) const {
  const unsigned top = block_kernels(active_isa()).copy_indexes(from, count, to);
  if (count != 0 && top >= rows()) refuse_index(top);
  return top;
}

void CdfTables::refuse_index(unsigned index) const {
  throw InvalidArgument("index " + to_string(index) + " names no row; the tables have " + to_string(rows()));
}

}  // namespace fastlic

// rans_encode: blocks of symbols from the last to the first. The inner loops are in simd/.
#include <algorithm>
#include <bit>
#include <stdexcept>
#include <string>

#include "fastlic/isa.hpp"
#include "fastlic/rans.hpp"
#include "fastlic/simd/rans_kernels.hpp"
#include "fastlic/word_buffer.hpp"

namespace fastlic {
namespace {

constexpr std::size_t kBlock = 4096;
static_assert(kBlock % kMaxLanes == 0);  // so only the last block has an odd end

// What a row makes of a symbol.
struct Split {
  std::int8_t value;       // column of the encode table; kEscapeValue where t is outside int8
  std::uint32_t raw;       // low `shift` bits
  std::uint64_t distance;  // gamma-coded if the table calls the value an escape
};

Split split(std::int32_t symbol, const CdfRow& row) noexcept {
  const std::int64_t t = symbol >> row.shift;
  const std::int64_t value = t - row.base;
  const std::int64_t below = row.offset - 1 - t;
  const std::int64_t above = t - row.offset - static_cast<std::int64_t>(row.size);
  return {static_cast<std::int8_t>(value < -127 || value > 127 ? kEscapeValue : value),
          static_cast<std::uint32_t>(symbol) & ((1u << row.shift) - 1),
          below >= 0 ? 2 * static_cast<std::uint64_t>(below) + 1 : 2 * static_cast<std::uint64_t>(above)};
}

// Bytes that the symbols will take, from at most ~1000 of them, in integers: the lane count may depend on the data
// only.
template <typename Symbol>
std::uint64_t estimate_bytes(const Symbol* symbols, const std::uint8_t* indexes, std::size_t count,
                             const CdfTables& tables) noexcept {
  constexpr std::size_t kSamples = 1024;
  const std::size_t stride = std::max<std::size_t>(1, count / kSamples);
  std::uint64_t cost = 0;
  std::uint64_t samples = 0;
  for (std::size_t i = 0; i < count; i += stride, ++samples) {
    const CdfRow& row = tables.row(indexes[i]);
    const Split parts = split(symbols[i], row);
    const std::size_t column = std::size_t{indexes[i]} << 8 | static_cast<std::uint8_t>(parts.value);
    cost += tables.costs()[column] + 256u * row.shift;
    if ((tables.encode_words()[column] & kEncodeEscapeFlag) != 0) {
      cost += 256u * (2 * static_cast<unsigned>(std::bit_width(parts.distance + 1)) - 1);
    }
  }
  return samples == 0 ? 0 : cost * count / samples / (8 * 256);
}

template <typename Symbol>
class Encoder {
 public:
  Encoder(const Symbol* symbols, const std::uint8_t* indexes, std::size_t count, const CdfTables& tables,
          unsigned lanes, std::size_t expected)
      : symbols_(symbols),
        indexes_(indexes),
        count_(count),
        tables_(tables),
        lanes_(lanes),
        words_(expected + expected / 16 + 4 * kBlock) {
    states_.fill(kStateLow);
  }

  std::vector<std::uint8_t> run() {
    for (std::size_t end = count_; end > 0;) {
      const std::size_t begin = (end - 1) / kBlock * kBlock;
      encode_block(begin, end - begin);
      end = begin;
    }
    return assemble();
  }

 private:
  void encode_block(std::size_t begin, std::size_t size) {
    const std::uint8_t* indexes = indexes_ + begin;
    const Symbol* symbols = symbols_ + begin;
    if constexpr (sizeof(Symbol) == 2) {
      kernels_.narrow16(symbols, size, values_.data());
    } else {
      kernels_.narrow32(symbols, size, values_.data());
    }
    Marks special{};
    if (tables_.first_special_row() < tables_.rows()) {
      kernels_.mark_rows(indexes, size, tables_.first_special_row(), special.data());
      for_each_mark(special, size,
                    [&](std::size_t i) { values_[i] = split(symbols[i], tables_.row(indexes[i])).value; });
    }

    words_.reserve(2 * size + kSlack);
    Marks escapes{};
    auto* escape_bytes = reinterpret_cast<std::uint8_t*>(escapes.data());
    simd::EncodeJob job{states_.data(),      lanes_,        tables_.encode_words(),
                        tables_.precision(), words_.next(), escape_bytes};
    const std::size_t groups = size / lanes_;
    for (std::size_t i = size; i-- > groups * lanes_;) {
      const std::uint32_t packed = job.words[std::size_t{indexes[i]} << 8 | static_cast<std::uint8_t>(values_[i])];
      if ((packed & kEncodeEscapeFlag) != 0) escapes[i / 64] |= std::uint64_t{1} << i % 64;
      simd::encode_step(states_[i % lanes_], job.next, packed, job.precision);
    }
    simd::rans_kernels(isa_, lanes_).encode(job, indexes, values_.data(), groups);
    words_.written_down_to(job.next);

    for (std::size_t word = 0; word < special.size(); ++word) special[word] |= escapes[word];
    for_each_mark(special, size, [&](std::size_t i) {
      const CdfRow& row = tables_.row(indexes[i]);
      const Split parts = split(symbols[i], row);
      if ((escapes[i / 64] >> i % 64 & 1u) != 0) side_.push_gamma(parts.distance);
      side_.push(parts.raw, row.shift);
    });
  }

  // One bit per symbol of a block. Byte and bit order agree on the little-endian machines that we build for.
  using Marks = std::array<std::uint64_t, kBlock / 64>;
  static_assert(std::endian::native == std::endian::little);

  // Calls visit(i) for every set bit below `size`, from the last to the first.
  template <typename Visit>
  static void for_each_mark(const Marks& marks, std::size_t size, Visit visit) {
    for (std::size_t word = (size + 63) / 64; word-- > 0;) {
      for (std::uint64_t left = marks[word]; left != 0;) {
        const auto bit = static_cast<unsigned>(std::bit_width(left)) - 1;
        left ^= std::uint64_t{1} << bit;
        visit(64 * word + bit);
      }
    }
  }

  std::vector<std::uint8_t> assemble() {
    const bool has_side = !side_.empty();
    const std::size_t states = 4 * std::size_t{lanes_};
    std::vector<std::uint8_t> out;
    out.reserve(1 + states + words_.size() + (has_side ? side_.size_bound() : 0));
    out.push_back(static_cast<std::uint8_t>(std::countr_zero(lanes_) | (has_side ? 8 : 0)));
    for (unsigned lane = 0; lane < lanes_; ++lane) {
      for (unsigned byte = 0; byte < 4; ++byte) out.push_back(static_cast<std::uint8_t>(states_[lane] >> (8 * byte)));
    }
    out.insert(out.end(), words_.begin(), words_.begin() + words_.size());
    if (has_side) {
      const std::vector<std::uint8_t>& side = side_.finish();
      out.insert(out.end(), side.begin(), side.end());
    }
    return out;
  }

  static constexpr std::size_t kSlack = 64;  // kernels store whole vectors
  const Isa isa_ = active_isa();
  const simd::BlockKernels& kernels_ = simd::block_kernels(isa_);
  const Symbol* symbols_;
  const std::uint8_t* indexes_;
  std::size_t count_;
  const CdfTables& tables_;
  unsigned lanes_;
  WordBuffer words_;
  SideWriter side_;
  alignas(64) std::array<std::uint32_t, kMaxLanes> states_;
  alignas(64) std::array<std::int8_t, kBlock> values_;
};

}  // namespace

unsigned choose_lanes(std::uint64_t payload_bytes) noexcept {
  constexpr std::uint64_t kBytesPerLane = 2000;  // 3 bytes in 2000 are 0.15 %
  unsigned lanes = 1;
  while (lanes < kMaxLanes && payload_bytes >= kBytesPerLane * 2 * lanes) lanes *= 2;
  return lanes;
}

template <typename Symbol>
std::vector<std::uint8_t> rans_encode(const Symbol* symbols, const std::uint8_t* indexes, std::size_t count,
                                      const CdfTables& tables, unsigned lanes) {
  if (lanes > kMaxLanes || (lanes & (lanes - 1)) != 0) {
    throw std::invalid_argument("lanes must be 0 or a power of two up to 64, got " + std::to_string(lanes));
  }
  tables.check_indexes(indexes, count);
  if (count == 0) return {};
  const std::uint64_t expected = estimate_bytes(symbols, indexes, count, tables);
  return Encoder<Symbol>(symbols, indexes, count, tables, lanes == 0 ? choose_lanes(expected) : lanes, expected).run();
}

template std::vector<std::uint8_t> rans_encode(const std::int16_t*, const std::uint8_t*, std::size_t, const CdfTables&,
                                               unsigned);
template std::vector<std::uint8_t> rans_encode(const std::int32_t*, const std::uint8_t*, std::size_t, const CdfTables&,
                                               unsigned);

}  // namespace fastlic

#include "fastlic/compressai_rans.hpp"

#include <algorithm>
#include <bit>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "fastlic/errors.hpp"
#include "fastlic/load_once.hpp"

namespace fastlic {
namespace {

constexpr unsigned kPrecision = CompressAiTables::kPrecision;
constexpr unsigned kNibbleBits = 4;
// int32 symbols and offsets within +-2^30 make zig-zag values below 2^34: nine nibbles.
constexpr unsigned kMaxNibbles = 9;

// The row that an index names. Read, checked and used at once: others may change indexes under our hands.
[[noreturn, gnu::cold, gnu::noinline]] void refuse_index(std::int32_t index, std::size_t rows) {
  throw std::invalid_argument("index " + std::to_string(index) + " names no row; the tables have " +
                              std::to_string(rows));
}

template <typename Index>
std::size_t row_of(const Index* index, std::size_t rows) {
  const Index row = load_once(index);
  if (static_cast<std::uint32_t>(row) >= rows) [[unlikely]] refuse_index(row, rows);
  return static_cast<std::size_t>(row);
}

// A copy of indexes, all of which name rows.
template <typename Index>
void take_indexes(const Index* __restrict from, std::size_t count, Index* __restrict to, std::size_t rows) {
  std::make_unsigned_t<Index> top = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const Index index = from[i];
    to[i] = index;
    top = std::max(top, static_cast<std::make_unsigned_t<Index>>(index));
  }
  if (top >= rows && count != 0) refuse_index(static_cast<std::int32_t>(top), rows);
}

class Encoder {
 public:
  explicit Encoder(std::size_t count) : words_(count / 4 + 4096) {}

  template <typename Index>
  void encode_block(const std::int32_t* symbols, const Index* indexes, std::size_t count,
                    const CompressAiTables& tables) {
    // A slot and ten nibbles are 56 bits: at most two words.
    words_.reserve(count * 8 + 8);
    Rans64Encoder out{state_, words_.next()};
    const std::size_t rows = tables.rows();
    for (std::size_t i = count; i-- > 0;) {
      const CompressAiTables::Row& row = tables.row(row_of(&indexes[i], rows));
      const std::int64_t value = std::int64_t{symbols[i]} - row.offset;
      std::uint32_t slot = static_cast<std::uint32_t>(value);
      if (value < 0 || value >= row.escape) [[unlikely]] {
        slot = row.escape;
        put_escape(out, value, row.escape);
      }
      const CompressAiTables::EncodeRecord& record = tables.records()[row.begin + slot];
      out.put(record.start, record.frequency, record.reciprocal, kPrecision);
    }
    state_ = out.state;
    words_.written_down_to(out.next);
  }

  std::vector<std::uint8_t> finish() const { return rans64_stream(state_, words_); }

 private:
  static void put_escape(Rans64Encoder& out, std::int64_t value, std::uint32_t escape) {
    const std::uint64_t raw = value < 0 ? 2 * static_cast<std::uint64_t>(-value) - 1
                                        : 2 * static_cast<std::uint64_t>(value - std::int64_t{escape});
    const unsigned nibbles = (static_cast<unsigned>(std::bit_width(raw)) + kNibbleBits - 1) / kNibbleBits;
    for (unsigned n = nibbles; n-- > 0;) out.put_bits(raw >> (kNibbleBits * n) & 15u, kNibbleBits);
    static_assert(kMaxNibbles < 15, "the count fits one nibble");
    out.put_bits(nibbles, kNibbleBits);
  }

  WordBuffer words_;
  std::uint64_t state_ = kState64Low;
};

}  // namespace

CompressAiTables::CompressAiTables(std::span<const std::int32_t> cdf, std::size_t columns,
                                   std::span<const std::int32_t> lengths, std::span<const std::int32_t> offsets) {
  const std::size_t rows = lengths.size();
  if (rows == 0 || offsets.size() != rows || cdf.size() != rows * columns) {
    throw std::invalid_argument("tables need a cdf of [rows, columns], lengths and offsets of [rows]; got " +
                                std::to_string(cdf.size()) + " entries in " + std::to_string(columns) + " columns, " +
                                std::to_string(rows) + " lengths, " + std::to_string(offsets.size()) + " offsets");
  }
  for (std::size_t r = 0; r < rows; ++r) {
    if (lengths[r] < 3 || static_cast<std::size_t>(lengths[r]) > columns) {
      throw std::invalid_argument("row " + std::to_string(r) + " of the tables: its length " +
                                  std::to_string(lengths[r]) + " is not in 3.." + std::to_string(columns));
    }
    if (offsets[r] < -(1 << 30) || offsets[r] > 1 << 30) {
      throw std::invalid_argument("row " + std::to_string(r) + " of the tables: its offset " +
                                  std::to_string(offsets[r]) + " is not within +-2^30");
    }
    add_row(cdf.subspan(r * columns, static_cast<std::size_t>(lengths[r])), offsets[r]);
  }
}

void CompressAiTables::add_row(std::span<const std::int32_t> cdf, std::int32_t offset) {
  const std::string name = "row " + std::to_string(rows_.size()) + " of the tables";
  if (cdf.front() != 0 || cdf.back() != 1 << kPrecision)
    throw std::invalid_argument(name + " must run from 0 to 65536");
  const std::size_t slots = cdf.size() - 1;
  const auto begin = static_cast<std::uint32_t>(records_.size());
  for (std::size_t slot = 0; slot < slots; ++slot) {
    if (cdf[slot] >= cdf[slot + 1]) {
      throw std::invalid_argument(name + ": slot " + std::to_string(slot) + " has frequency below 1");
    }
    const auto frequency = static_cast<std::uint32_t>(cdf[slot + 1] - cdf[slot]);
    records_.push_back(
        {Reciprocal(frequency), static_cast<std::uint16_t>(cdf[slot]), static_cast<std::uint16_t>(frequency)});
    starts_.push_back(static_cast<std::uint32_t>(cdf[slot]));
  }
  // The end of the last slot closes the search; records_ keeps the same numbering.
  starts_.push_back(1u << kPrecision);
  records_.push_back({});

  const auto escape = static_cast<std::uint32_t>(slots - 1);
  const bool zero_inside = offset <= 0 && -std::int64_t{offset} < std::int64_t{escape};
  const std::uint32_t zero = zero_inside ? static_cast<std::uint32_t>(-offset) : escape;
  rows_.push_back({begin, escape, offset, records_[begin + zero].start, records_[begin + zero].frequency, zero});

  constexpr std::uint32_t kPoints = 1u << (kPrecision - kBucketBits);
  std::uint32_t slot = 0;
  for (std::uint32_t first = 0; first < 1u << kPrecision; first += kPoints) {
    while (starts_[begin + slot + 1] <= first) ++slot;
    const EncodeRecord& record = records_[begin + slot];
    const bool pure = starts_[begin + slot + 1] >= first + kPoints;
    buckets_.push_back({record.start, pure ? record.frequency : std::uint16_t{0}, slot});
  }
}

template <typename Index>
std::vector<std::uint8_t> compressai_encode(const std::int32_t* symbols, const Index* indexes, std::size_t count,
                                            const CompressAiTables& tables) {
  constexpr std::size_t kBlock = 8192;
  Encoder encoder(count);
  for (std::size_t end = count; end > 0;) {
    const std::size_t begin = (end - 1) / kBlock * kBlock;
    encoder.encode_block(symbols + begin, indexes + begin, end - begin, tables);
    end = begin;
  }
  return encoder.finish();
}

template std::vector<std::uint8_t> compressai_encode(const std::int32_t*, const std::uint8_t*, std::size_t,
                                                     const CompressAiTables&);
template std::vector<std::uint8_t> compressai_encode(const std::int32_t*, const std::int32_t*, std::size_t,
                                                     const CompressAiTables&);

namespace {

std::int64_t escaped_value(Rans64Decoder& in, std::uint32_t escape) {
  const std::uint64_t nibbles = in.take_bits(kNibbleBits);
  if (nibbles > kMaxNibbles) throw CorruptStream("CompressAI stream: an escape is longer than any symbol needs");
  std::uint64_t raw = 0;
  for (unsigned n = 0; n < nibbles; ++n) raw |= in.take_bits(kNibbleBits) << (kNibbleBits * n);
  const auto half = static_cast<std::int64_t>(raw >> 1);
  return (raw & 1u) != 0 ? -half - 1 : half + std::int64_t{escape};
}

// ZeroFirst helps a single stream, whose serial chain then skips the lookup for most symbols; with several streams in
// flight the chains overlap anyway, and the branch's mispredictions cost more than it saves.
template <bool ZeroFirst>
std::int32_t decode_symbol(Rans64Decoder& in, const CompressAiTables& tables, std::size_t index) {
  const CompressAiTables::Row& row = tables.row(index);
  const auto code = static_cast<std::uint32_t>(in.code(kPrecision));
  std::uint64_t start;
  std::uint64_t frequency;
  std::uint32_t slot;
  if (ZeroFirst && code - row.zero_start < row.zero_frequency) {
    start = row.zero_start;
    frequency = row.zero_frequency;
    slot = row.zero_slot;
  } else {
    constexpr unsigned kPointBits = kPrecision - CompressAiTables::kBucketBits;
    const CompressAiTables::Bucket& bucket =
        tables.buckets()[index << CompressAiTables::kBucketBits | code >> kPointBits];
    slot = bucket.slot;
    start = bucket.start;
    frequency = bucket.frequency;
    if (frequency == 0) {
      const std::uint32_t* starts = tables.starts() + row.begin;
      while (starts[slot + 1] <= code) ++slot;
      start = starts[slot];
      frequency = starts[slot + 1] - start;
    }
  }
  in.take(code, start, frequency, kPrecision);
  std::int64_t value = slot;
  if (slot == row.escape) [[unlikely]]
    value = escaped_value(in, row.escape);
  const std::int64_t result = value + row.offset;
  if (result != static_cast<std::int32_t>(result)) {
    throw CorruptStream("CompressAI stream: a symbol does not fit int32");
  }
  return static_cast<std::int32_t>(result);
}

}  // namespace

template <unsigned Streams, typename Index>
void CompressAiDecoder::decode_lockstep(CompressAiDecoder* const* decoders, const Index* const* indexes,
                                        std::int32_t* const* out, std::size_t count, const CompressAiTables& tables) {
  Rans64Decoder in[Streams];  // local copies, so that they live in registers
  const Index* own[Streams];
  std::int32_t* to[Streams];
  for (unsigned s = 0; s < Streams; ++s) {
    in[s] = decoders[s]->decoder_;
    own[s] = indexes[s];
    to[s] = out[s];
  }
  for (std::size_t i = 0; i < count; ++i) {
    for (unsigned s = 0; s < Streams; ++s) {
      to[s][i] = decode_symbol<Streams == 1>(in[s], tables, static_cast<std::size_t>(own[s][i]));
    }
  }
  for (unsigned s = 0; s < Streams; ++s) decoders[s]->decoder_ = in[s];
}

// Block by block over checked copies of the indexes.
template <unsigned Streams, typename Index>
void CompressAiDecoder::decode_checked(CompressAiDecoder* const* decoders, const Index* const* indexes,
                                       std::int32_t* const* out, std::size_t count, const CompressAiTables& tables) {
  constexpr std::size_t kBlock = 1024;
  Index rows[Streams][kBlock];
  const Index* copies[Streams];
  std::int32_t* to[Streams];
  for (std::size_t begin = 0; begin < count; begin += kBlock) {
    const std::size_t block = std::min(kBlock, count - begin);
    for (unsigned s = 0; s < Streams; ++s) {
      take_indexes(indexes[s] + begin, block, rows[s], tables.rows());
      copies[s] = rows[s];
      to[s] = out[s] + begin;
    }
    decode_lockstep<Streams>(decoders, copies, to, block, tables);
  }
}

template <typename Index>
void CompressAiDecoder::decode(const Index* indexes, std::int32_t* out, std::size_t count,
                               const CompressAiTables& tables) {
  CompressAiDecoder* self = this;
  decode_checked<1>(&self, &indexes, &out, count, tables);
}

template <typename Index>
void CompressAiDecoder::decode_four(CompressAiDecoder* const decoders[4], const Index* const indexes[4],
                                    std::int32_t* const out[4], const std::size_t counts[4],
                                    const CompressAiTables& tables) {
  const std::size_t common = *std::min_element(counts, counts + 4);
  decode_checked<4>(decoders, indexes, out, common, tables);
  for (unsigned s = 0; s < 4; ++s) {
    decoders[s]->decode(indexes[s] + common, out[s] + common, counts[s] - common, tables);
  }
}

template void CompressAiDecoder::decode(const std::uint8_t*, std::int32_t*, std::size_t, const CompressAiTables&);
template void CompressAiDecoder::decode(const std::int32_t*, std::int32_t*, std::size_t, const CompressAiTables&);
template void CompressAiDecoder::decode_four(CompressAiDecoder* const[4], const std::uint8_t* const[4],
                                             std::int32_t* const[4], const std::size_t[4], const CompressAiTables&);
template void CompressAiDecoder::decode_four(CompressAiDecoder* const[4], const std::int32_t* const[4],
                                             std::int32_t* const[4], const std::size_t[4], const CompressAiTables&);

}  // namespace fastlic

#include "fastlic/compressai_rans.hpp"

#include <algorithm>
#include <bit>
#include <limits>
#include <type_traits>

#include "fastlic/errors.hpp"
#include "fastlic/load_once.hpp"
#include "fastlic/memory.hpp"

namespace fastlic {
namespace {

constexpr unsigned kPrecision = CompressAiTables::kPrecision;
constexpr unsigned kNibbleBits = 4;
// int32 symbols and offsets within +-2^30 make zig-zag values below 2^34: nine nibbles.
constexpr unsigned kMaxNibbles = 9;

// Others may change indexes and symbols under our hands. The encoder reads each of them once, checks it and uses it.
// The decoder refuses bad indexes before it takes any bytes, and keeps what it reads after that within the tables.
// Escapes are rare: their code stays out of the loops, whose states are values in registers.
[[noreturn, gnu::cold, gnu::noinline]] void refuse_index(std::int32_t index, std::size_t rows) {
  throw InvalidArgument("index " + to_string(index) + " names no row; the tables have " + to_string(rows));
}

template <typename Index>
const CompressAiTables::Row& row_of(const Index* index, std::span<const CompressAiTables::Row> rows) {
  const Index row = load_once(index);
  if (static_cast<std::uint32_t>(row) >= rows.size()) [[unlikely]]
    refuse_index(row, rows.size());
  return rows[static_cast<std::size_t>(row)];
}

[[gnu::noinline]] Rans64Encoder put_escape(Rans64Encoder out, std::int64_t value, std::uint32_t escape) {
  const std::uint64_t raw = value < 0 ? 2 * static_cast<std::uint64_t>(-value) - 1
                                      : 2 * static_cast<std::uint64_t>(value - std::int64_t{escape});
  const unsigned nibbles = (static_cast<unsigned>(std::bit_width(raw)) + kNibbleBits - 1) / kNibbleBits;
  for (unsigned n = nibbles; n-- > 0;) out.put_bits(raw >> (kNibbleBits * n) & 15u, kNibbleBits);
  static_assert(kMaxNibbles < 15, "the count fits one nibble");
  out.put_bits(nibbles, kNibbleBits);
  return out;
}

}  // namespace

CompressAiTables::CompressAiTables(std::span<const std::int32_t> cdf, std::size_t columns,
                                   std::span<const std::int32_t> lengths, std::span<const std::int32_t> offsets) {
  const std::size_t rows = lengths.size();
  if (rows == 0 || offsets.size() != rows || cdf.size() != rows * columns) {
    throw InvalidArgument("tables need a cdf of [rows, columns], lengths and offsets of [rows]; got " +
                          to_string(cdf.size()) + " entries in " + to_string(columns) + " columns, " + to_string(rows) +
                          " lengths, " + to_string(offsets.size()) + " offsets");
  }
  for (std::size_t r = 0; r < rows; ++r) {
    if (lengths[r] < 3 || static_cast<std::size_t>(lengths[r]) > columns) {
      throw InvalidArgument("row " + to_string(r) + " of the tables: its length " + to_string(lengths[r]) +
                            " is not in 3.." + to_string(columns));
    }
    if (offsets[r] < -(1 << 30) || offsets[r] > 1 << 30) {
      throw InvalidArgument("row " + to_string(r) + " of the tables: its offset " + to_string(offsets[r]) +
                            " is not within +-2^30");
    }
    add_row(cdf.subspan(r * columns, static_cast<std::size_t>(lengths[r])), offsets[r]);
  }
}

void CompressAiTables::add_row(std::span<const std::int32_t> cdf, std::int32_t offset) {
  const String name = "row " + to_string(rows_.size()) + " of the tables";
  if (cdf.front() != 0 || cdf.back() != 1 << kPrecision) throw InvalidArgument(name + " must run from 0 to 65536");
  const std::size_t slots = cdf.size() - 1;
  const auto begin = static_cast<std::uint32_t>(records_.size());
  for (std::size_t slot = 0; slot < slots; ++slot) {
    if (cdf[slot] >= cdf[slot + 1]) {
      throw InvalidArgument(name + ": slot " + to_string(slot) + " has frequency below 1");
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
void CompressAiEncoder::put_block(const std::int32_t* symbols, const Index* indexes, std::size_t count,
                                  const CompressAiTables& tables) {
  // A slot and ten nibbles are 56 bits: at most two words.
  words_.reserve(count * 8 + 8);
  Rans64Encoder out{state_, words_.next()};
  // For all the compiler knows, the bytes written are part of the tables: it would read these again each time.
  const std::span<const CompressAiTables::Row> rows = tables.rows();
  const CompressAiTables::EncodeRecord* const records = tables.records();
  for (std::size_t i = count; i-- > 0;) {
    const CompressAiTables::Row& row = row_of(&indexes[i], rows);
    const auto value = static_cast<std::uint64_t>(std::int64_t{load_once(&symbols[i])} - row.offset);
    auto slot = static_cast<std::uint32_t>(value);
    if (value >= row.escape) [[unlikely]] {
      slot = row.escape;
      out = put_escape(out, static_cast<std::int64_t>(value), row.escape);
    }
    const CompressAiTables::EncodeRecord& record = records[row.begin + slot];
    out.put(record.start, record.frequency, record.reciprocal, kPrecision);
  }
  state_ = out.state;
  words_.written_down_to(out.next);
}

template <typename Index>
void CompressAiEncoder::put(const std::int32_t* symbols, const Index* indexes, std::size_t count,
                            const CompressAiTables& tables) {
  constexpr std::size_t kBlock = 8192;
  for (std::size_t end = count; end > 0;) {
    const std::size_t begin = (end - 1) / kBlock * kBlock;
    put_block(symbols + begin, indexes + begin, end - begin, tables);
    end = begin;
  }
}

template void CompressAiEncoder::put(const std::int32_t*, const std::uint8_t*, std::size_t, const CompressAiTables&);
template void CompressAiEncoder::put(const std::int32_t*, const std::int32_t*, std::size_t, const CompressAiTables&);

template <typename Index>
Vector<std::uint8_t> compressai_encode(const std::int32_t* symbols, const Index* indexes, std::size_t count,
                                       const CompressAiTables& tables) {
  CompressAiEncoder encoder(count);
  encoder.put(symbols, indexes, count, tables);
  return encoder.finish();
}

template Vector<std::uint8_t> compressai_encode(const std::int32_t*, const std::uint8_t*, std::size_t,
                                                const CompressAiTables&);
template Vector<std::uint8_t> compressai_encode(const std::int32_t*, const std::int32_t*, std::size_t,
                                                const CompressAiTables&);

namespace {

template <typename Index>
void check_indexes(const Index* indexes, std::size_t count, std::size_t rows) {
  using Unsigned = std::make_unsigned_t<Index>;
  Unsigned bits = 0;  // of all indexes: none is above them. SSE2 has no maximum of 32-bit integers.
  for (std::size_t i = 0; i < count; ++i) bits |= static_cast<Unsigned>(indexes[i]);
  if (bits < rows) return;
  Unsigned top = 0;
  for (std::size_t i = 0; i < count; ++i) top = std::max(top, static_cast<Unsigned>(indexes[i]));
  if (top >= rows) refuse_index(static_cast<std::int32_t>(top), rows);
}

// A checked index; the last one for any that was changed since to name no row.
template <typename Index>
std::size_t clamped(const Index* index, std::size_t last) {
  return std::min<std::size_t>(static_cast<std::make_unsigned_t<Index>>(load_once(index)), last);
}

struct Escaped {
  Rans64Decoder in;
  std::int32_t symbol;
};

[[gnu::noinline]] Escaped escaped_symbol(Rans64Decoder in, const CompressAiTables::Row& row) {
  const std::uint64_t nibbles = in.take_bits(kNibbleBits);
  if (nibbles > kMaxNibbles) throw CorruptStream("CompressAI stream: an escape is longer than any symbol needs");
  std::uint64_t raw = 0;
  for (unsigned n = 0; n < nibbles; ++n) raw |= in.take_bits(kNibbleBits) << (kNibbleBits * n);
  const auto half = static_cast<std::int64_t>(raw >> 1);
  const std::int64_t symbol = row.offset + ((raw & 1u) != 0 ? -half - 1 : half + std::int64_t{row.escape});
  if (symbol != static_cast<std::int32_t>(symbol)) {
    throw CorruptStream("CompressAI stream: a symbol does not fit int32");
  }
  return {in, static_cast<std::int32_t>(symbol)};
}

// ZeroFirst helps a single stream, whose serial chain then skips the lookup for most symbols; with several streams in
// flight the chains overlap anyway, and the branch's mispredictions cost more than it saves.
template <bool ZeroFirst>
std::int32_t decode_symbol(Rans64Decoder& in, const CompressAiTables& tables, std::size_t index) {
  const CompressAiTables::Row& row = tables.rows()[index];
  const auto code = static_cast<std::uint32_t>(in.code(kPrecision));
  std::uint32_t within = code - row.zero_start;
  std::uint32_t frequency = row.zero_frequency;
  std::uint32_t slot;
  if (ZeroFirst && within < frequency) {
    slot = row.zero_slot;
  } else {
    constexpr unsigned kPointBits = kPrecision - CompressAiTables::kBucketBits;
    const CompressAiTables::Bucket& bucket =
        tables.buckets()[index << CompressAiTables::kBucketBits | code >> kPointBits];
    slot = bucket.slot;
    within = code - bucket.start;
    frequency = bucket.frequency;
    if (frequency == 0) {
      const std::uint32_t* starts = tables.starts() + row.begin;
      while (starts[slot + 1] <= code) ++slot;
      within = code - starts[slot];
      frequency = starts[slot + 1] - starts[slot];
    }
  }
  in.take(within, frequency, kPrecision);
  if (slot == row.escape) [[unlikely]] {
    const Escaped escaped = escaped_symbol(in, row);
    in = escaped.in;
    return escaped.symbol;
  }
  return static_cast<std::int32_t>(slot) + row.offset;
}

}  // namespace

template <unsigned Streams, typename Index>
void CompressAiDecoder::decode_lockstep(CompressAiDecoder* const* decoders, const Index* const* indexes,
                                        std::int32_t* const* out, std::size_t count, const CompressAiTables& tables) {
  const std::size_t last = tables.rows().size() - 1;
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
      to[s][i] = decode_symbol<Streams == 1>(in[s], tables, clamped(&own[s][i], last));
    }
  }
  for (unsigned s = 0; s < Streams; ++s) decoders[s]->decoder_ = in[s];
}

template <typename Index>
void CompressAiDecoder::decode(const Index* indexes, std::int32_t* out, std::size_t count,
                               const CompressAiTables& tables) {
  CompressAiDecoder* self = this;
  check_indexes(indexes, count, tables.rows().size());
  decode_lockstep<1>(&self, &indexes, &out, count, tables);
}

template <typename Index>
void CompressAiDecoder::decode_four(CompressAiDecoder* const decoders[4], const Index* const indexes[4],
                                    std::int32_t* const out[4], const std::size_t counts[4],
                                    const CompressAiTables& tables) {
  const std::size_t common = *std::min_element(counts, counts + 4);
  for (unsigned s = 0; s < 4; ++s) check_indexes(indexes[s], common, tables.rows().size());
  decode_lockstep<4>(decoders, indexes, out, common, tables);
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

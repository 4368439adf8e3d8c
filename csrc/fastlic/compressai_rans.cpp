#include "fastlic/compressai_rans.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>

#include "fastlic/errors.hpp"
#include "fastlic/word_buffer.hpp"

namespace fastlic {
namespace {

constexpr unsigned kPrecision = CompressAiTables::kPrecision;
constexpr std::uint64_t kStateLow = std::uint64_t{1} << 31;
constexpr unsigned kNibbleBits = 4;
// int32 symbols and offsets within +-2^30 make zig-zag values below 2^34: nine nibbles.
constexpr unsigned kMaxNibbles = 9;

template <typename Index>
void check_indexes(const Index* indexes, std::size_t count, const CompressAiTables& tables) {
  Index low = 0;
  Index high = 0;
  for (std::size_t i = 0; i < count; ++i) {
    low = std::min(low, indexes[i]);
    high = std::max(high, indexes[i]);
  }
  if (low < 0 || (count > 0 && static_cast<std::size_t>(high) >= tables.rows())) {
    throw std::invalid_argument("indexes run from " + std::to_string(low) + " to " + std::to_string(high) +
                                "; the tables have " + std::to_string(tables.rows()) + " rows");
  }
}

class Encoder {
 public:
  explicit Encoder(std::size_t count) : words_(count / 4 + 4096) {}

  template <typename Index>
  void encode_block(const std::int32_t* symbols, const Index* indexes, std::size_t count,
                    const CompressAiTables& tables) {
    // A slot and ten nibbles are 56 bits: at most two words.
    words_.reserve(count * 8 + 8);
    std::uint64_t x = state_;
    std::uint8_t* next = words_.next();
    for (std::size_t i = count; i-- > 0;) {
      const CompressAiTables::Row& row = tables.row(static_cast<std::size_t>(indexes[i]));
      const std::int64_t value = std::int64_t{symbols[i]} - row.offset;
      std::uint32_t slot = static_cast<std::uint32_t>(value);
      if (value < 0 || value >= row.escape) [[unlikely]] {
        slot = row.escape;
        put_escape(x, next, value, row.escape);
      }
      const CompressAiTables::EncodeRecord& record = tables.records()[row.begin + slot];
      const std::uint64_t frequency = record.frequency;
      if (x >= frequency << (63 - kPrecision)) emit(x, next);
      const auto product = static_cast<unsigned __int128>(x << 1) * record.reciprocal;
      const std::uint64_t quotient = static_cast<std::uint64_t>(product >> 64) >> record.shift;
      // (q << 16) + (x - q * f) + start
      x += record.start + quotient * ((1u << kPrecision) - frequency);
    }
    state_ = x;
    words_.written_down_to(next);
  }

  std::vector<std::uint8_t> finish() {
    std::vector<std::uint8_t> out(8 + words_.size());
    std::memcpy(out.data(), &state_, 8);
    std::copy_n(words_.begin(), words_.size(), out.data() + 8);
    return out;
  }

 private:
  static void emit(std::uint64_t& x, std::uint8_t*& next) {
    const auto word = static_cast<std::uint32_t>(x);
    next -= 4;
    std::memcpy(next, &word, 4);
    x >>= 32;
  }

  static void put_nibble(std::uint64_t& x, std::uint8_t*& next, std::uint64_t nibble) {
    if (x >= std::uint64_t{1} << (63 - kNibbleBits)) emit(x, next);
    x = x << kNibbleBits | nibble;
  }

  static void put_escape(std::uint64_t& x, std::uint8_t*& next, std::int64_t value, std::uint32_t escape) {
    const std::uint64_t raw = value < 0 ? 2 * static_cast<std::uint64_t>(-value) - 1
                                        : 2 * static_cast<std::uint64_t>(value - std::int64_t{escape});
    const unsigned nibbles = (static_cast<unsigned>(std::bit_width(raw)) + kNibbleBits - 1) / kNibbleBits;
    for (unsigned n = nibbles; n-- > 0;) put_nibble(x, next, raw >> (kNibbleBits * n) & 15u);
    static_assert(kMaxNibbles < 15, "the count fits one nibble");
    put_nibble(x, next, nibbles);
  }

  WordBuffer words_;
  std::uint64_t state_ = kStateLow;
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
    const auto shift = static_cast<unsigned>(std::bit_width(frequency - 1));
    const auto numerator = static_cast<unsigned __int128>(1) << (63 + shift);
    records_.push_back({static_cast<std::uint64_t>((numerator + frequency - 1) / frequency),
                        static_cast<std::uint16_t>(cdf[slot]), static_cast<std::uint16_t>(frequency),
                        static_cast<std::uint8_t>(shift)});
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
  check_indexes(indexes, count, tables);
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

// The moving parts of a decoder, held in registers by the loops.
struct CompressAiDecoder::Cursor {
  std::uint64_t state;
  const std::uint8_t* next;
  const std::uint8_t* end;

  void refill() {
    if (state >= kStateLow) return;
    if (end - next < 4) throw CorruptStream("CompressAI stream: it ends before its last symbol");
    std::uint32_t word;
    std::memcpy(&word, next, 4);
    next += 4;
    state = state << 32 | word;
  }

  std::uint64_t nibble() {
    const std::uint64_t value = state & 15u;
    state >>= kNibbleBits;
    refill();
    return value;
  }

  std::int64_t escaped_value(std::uint32_t escape) {
    const std::uint64_t nibbles = nibble();
    if (nibbles > kMaxNibbles) throw CorruptStream("CompressAI stream: an escape is longer than any symbol needs");
    std::uint64_t raw = 0;
    for (unsigned n = 0; n < nibbles; ++n) raw |= nibble() << (kNibbleBits * n);
    const auto half = static_cast<std::int64_t>(raw >> 1);
    return (raw & 1u) != 0 ? -half - 1 : half + std::int64_t{escape};
  }

  template <bool ZeroFirst>
  std::int32_t symbol(const CompressAiTables& tables, std::size_t index) {
    const CompressAiTables::Row& row = tables.row(index);
    const auto code = static_cast<std::uint32_t>(state & ((1u << kPrecision) - 1));
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
    state = frequency * (state >> kPrecision) + code - start;
    refill();
    std::int64_t value = slot;
    if (slot == row.escape) [[unlikely]]
      value = escaped_value(row.escape);
    const std::int64_t result = value + row.offset;
    if (result != static_cast<std::int32_t>(result)) {
      throw CorruptStream("CompressAI stream: a symbol does not fit int32");
    }
    return static_cast<std::int32_t>(result);
  }
};

CompressAiDecoder::CompressAiDecoder(const std::uint8_t* data, std::size_t size)
    : state_(0), begin_(data), next_(data), end_(data + size) {
  if (size < 8 || size % 4 != 0) {
    throw CorruptStream("CompressAI stream: its size must be a multiple of 4 and at least 8, got " +
                        std::to_string(size));
  }
  std::memcpy(&state_, data, 8);
  next_ += 8;
  // The encoder keeps the state in [2^31, 2^63); below, refills would not restore it, above, it could overflow.
  if (state_ < kStateLow || state_ >> 63 != 0) throw CorruptStream("CompressAI stream: its state is out of range");
}

template <unsigned Streams, typename Index>
void CompressAiDecoder::decode_lockstep(CompressAiDecoder* const* decoders, const Index* const* indexes,
                                        std::int32_t* const* out, std::size_t count, const CompressAiTables& tables) {
  Cursor cursors[Streams];
  for (unsigned s = 0; s < Streams; ++s) cursors[s] = {decoders[s]->state_, decoders[s]->next_, decoders[s]->end_};
  for (std::size_t i = 0; i < count; ++i) {
    for (unsigned s = 0; s < Streams; ++s) {
      out[s][i] = cursors[s].template symbol<Streams == 1>(tables, static_cast<std::size_t>(indexes[s][i]));
    }
  }
  for (unsigned s = 0; s < Streams; ++s) {
    decoders[s]->state_ = cursors[s].state;
    decoders[s]->next_ = cursors[s].next;
  }
}

template <typename Index>
void CompressAiDecoder::decode(const Index* indexes, std::int32_t* out, std::size_t count,
                               const CompressAiTables& tables) {
  check_indexes(indexes, count, tables);
  CompressAiDecoder* self = this;
  decode_lockstep<1>(&self, &indexes, &out, count, tables);
}

template <typename Index>
void CompressAiDecoder::decode_four(CompressAiDecoder* const decoders[4], const Index* const indexes[4],
                                    std::int32_t* const out[4], const std::size_t counts[4],
                                    const CompressAiTables& tables) {
  for (unsigned s = 0; s < 4; ++s) check_indexes(indexes[s], counts[s], tables);
  const std::size_t common = *std::min_element(counts, counts + 4);
  decode_lockstep<4>(decoders, indexes, out, common, tables);
  for (unsigned s = 0; s < 4; ++s) {
    decoders[s]->decode(indexes[s] + common, out[s] + common, counts[s] - common, tables);
  }
}

void CompressAiDecoder::finish() const {
  if (next_ != end_ || state_ != kStateLow) {
    throw CorruptStream("CompressAI stream: " + std::to_string(end_ - next_) +
                        " bytes are left, or it does not end in the initial state");
  }
}

template void CompressAiDecoder::decode(const std::uint8_t*, std::int32_t*, std::size_t, const CompressAiTables&);
template void CompressAiDecoder::decode(const std::int32_t*, std::int32_t*, std::size_t, const CompressAiTables&);
template void CompressAiDecoder::decode_four(CompressAiDecoder* const[4], const std::uint8_t* const[4],
                                             std::int32_t* const[4], const std::size_t[4], const CompressAiTables&);
template void CompressAiDecoder::decode_four(CompressAiDecoder* const[4], const std::int32_t* const[4],
                                             std::int32_t* const[4], const std::size_t[4], const CompressAiTables&);

}  // namespace fastlic

// RansDecoder: header, blocks of symbols, end checks. The inner loops are in rans_kernels.
#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <type_traits>

#include "fastlic/bit_marks.hpp"
#include "fastlic/isa.hpp"
#include "fastlic/rans.hpp"
#include "fastlic/rans_kernels.hpp"

namespace fastlic {
namespace {

// Symbols between two looks at the side stream: one block of indexes and outputs stays in L1.
constexpr std::size_t kDecodeBlock = 2048;
static_assert(kDecodeBlock % kMaxLanes == 0);

}  // namespace

RansDecoder::RansDecoder(const std::uint8_t* data, std::size_t size, const CdfTables& tables)
    : tables_(&tables), reader_(data, size, StreamKind::tables) {}

// Decodes `count` symbols to the kernels' int8 values; true if any of them is an escape.
template <typename Symbol>
bool RansDecoder::decode_words(const std::uint8_t* indexes, Symbol* out, std::size_t count) {
  const RansKernels& kernels = rans_kernels(active_isa(), reader_.lanes);
  const std::uint32_t* slots = tables_->decode_words();
  const unsigned precision = tables_->precision();
  bool escaped = false;
  const auto groups = [&](LaneReader& reader, std::size_t at, std::size_t wanted) {
    DecodeJob job{reader.states.data(), reader.lanes, slots, precision, reader.next, reader.limit};
    std::size_t done;
    if constexpr (std::is_same_v<Symbol, std::int16_t>) {
      done = kernels.decode16(job, indexes + at, out + at, wanted);
    } else {
      done = kernels.decode32(job, indexes + at, out + at, wanted);
    }
    reader.next = job.next;
    escaped |= job.escaped;
    return done;
  };
  const auto one = [&](LaneReader& reader, std::size_t at, std::size_t lane) {
    const std::uint32_t* row = slots + (std::size_t{indexes[at]} << precision);
    const int value = decode_step(reader.states[lane], reader.next, row, precision);
    escaped |= value == kEscapeValue;
    out[at] = static_cast<Symbol>(value);
  };
  reader_.run(decoded_, count, groups, one);
  return escaped;
}

// Completes the symbols of special rows and the escapes, in stream order.
template <typename Symbol>
void RansDecoder::apply_side(const std::uint8_t* indexes, Symbol* out, std::size_t count, bool escaped) {
  const BlockKernels& kernels = block_kernels(active_isa());
  BitMarks<kDecodeBlock> marks;
  const unsigned first = tables_->first_special_row();
  if (first < kMaxRows) kernels.mark_rows(indexes, count, first, marks.words.data());
  if (escaped) {
    if constexpr (std::is_same_v<Symbol, std::int16_t>) {
      kernels.mark_escapes16(out, count, marks.words.data());
    } else {
      kernels.mark_escapes32(out, count, marks.words.data());
    }
  }
  SideReader side = reader_.side;  // a copy of our own, which no store through `out` can change
  marks.for_each(count, [&](std::size_t i) {
    const CdfRow& row = tables_->row(indexes[i]);
    const std::int64_t raw = side.pop(row.shift);
    std::int64_t t = std::int64_t{out[i]} + row.base;
    if (out[i] == kEscapeValue) {
      const std::uint64_t code = side.pop_gamma();
      const auto distance = static_cast<std::int64_t>(code >> 1);
      t = (code & 1u) != 0 ? row.offset - 1 - distance : std::int64_t{row.offset} + row.size + distance;
    }
    const std::int64_t symbol = t * (std::int64_t{1} << row.shift) + raw;
    if (symbol != static_cast<Symbol>(symbol)) {
      throw CorruptStream("rANS stream: symbol " + to_string(decoded_ + i) + " does not fit the output type");
    }
    out[i] = static_cast<Symbol>(symbol);
  });
  reader_.side = side;
}

template <typename Symbol>
void RansDecoder::decode_blocks(const std::uint8_t* indexes, Symbol* out, std::size_t count) {
  // Checked and used; `indexes` may change under our hands.
  alignas(64) std::array<std::uint8_t, kDecodeBlock> rows;
  while (count > 0) {
    const std::size_t block = std::min(count, kDecodeBlock);
    const unsigned top = tables_->take_indexes(indexes, block, rows.data());
    const bool escaped = decode_words(rows.data(), out, block);
    if (escaped || top >= tables_->first_special_row()) apply_side(rows.data(), out, block, escaped);
    decoded_ += block;
    indexes += block;
    out += block;
    count -= block;
  }
}

void RansDecoder::decode(const std::uint8_t* indexes, std::int16_t* out, std::size_t count) {
  decode_blocks(indexes, out, count);
}

void RansDecoder::decode(const std::uint8_t* indexes, std::int32_t* out, std::size_t count) {
  decode_blocks(indexes, out, count);
}

}  // namespace fastlic

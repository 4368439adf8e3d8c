// rans_encode: blocks of symbols from the last to the first. The inner loops are in rans_kernels.
#include <algorithm>
#include <array>
#include <bit>

#include "fastlic/bit_marks.hpp"
#include "fastlic/isa.hpp"
#include "fastlic/load_once.hpp"
#include "fastlic/memory.hpp"
#include "fastlic/rans.hpp"
#include "fastlic/rans_kernels.hpp"
#include "fastlic/word_buffer.hpp"

namespace fastlic {
namespace {

constexpr std::size_t kEncodeBlock = 4096;
static_assert(kEncodeBlock % kMaxLanes == 0);  // so only the last block has an odd end

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

// Bytes that the symbols will take, from some of them, in integers: the lane count may depend on the data only.
template <typename Symbol>
std::uint64_t estimate_bytes(const Symbol* symbols, const std::uint8_t* indexes, std::size_t count,
                             const CdfTables& tables) {
  const Samples samples(count);
  std::uint64_t cost = 0;
  for (std::size_t sample = 0; sample < samples.size(); ++sample) {
    const std::size_t i = samples[sample];
    const std::uint8_t index = load_once(&indexes[i]);
    if (index >= tables.rows()) tables.refuse_index(index);
    const CdfRow& row = tables.row(index);
    const Split parts = split(symbols[i], row);
    const std::size_t column = std::size_t{index} << 8 | static_cast<std::uint8_t>(parts.value);
    cost += tables.costs()[column] + 256u * row.shift;
    if ((tables.encode_words()[column] & kEncodeEscapeFlag) != 0) {
      cost += 256u * (2 * static_cast<unsigned>(std::bit_width(parts.distance + 1)) - 1);
    }
  }
  return samples.scale_up(cost) / (8 * 256);
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
        out_(StreamKind::tables, lanes, expected) {}

  Vector<std::uint8_t> run() {
    for (std::size_t end = count_; end > 0;) {
      const std::size_t begin = (end - 1) / kEncodeBlock * kEncodeBlock;
      encode_block(begin, end - begin);
      end = begin;
    }
    return out_.finish();
  }

 private:
  void encode_block(std::size_t begin, std::size_t size) {
    tables_.take_indexes(indexes_ + begin, size, rows_.data());
    const std::uint8_t* indexes = rows_.data();
    const Symbol* symbols = symbols_ + begin;
    if constexpr (sizeof(Symbol) == 2) {
      kernels_.narrow16(symbols, size, values_.data());
    } else {
      kernels_.narrow32(symbols, size, values_.data());
    }
    Marks special{};
    if (tables_.first_special_row() < tables_.rows()) {
      kernels_.mark_rows(indexes, size, tables_.first_special_row(), special.words.data());
      special.for_each_reversed(size,
                                [&](std::size_t i) { values_[i] = split(symbols[i], tables_.row(indexes[i])).value; });
    }

    out_.words.reserve(2 * size + LaneWriter::kSlack);
    Marks escapes{};
    EncodeJob job{out_.states.data(),  out_.lanes,        tables_.encode_words(),
                  tables_.precision(), out_.words.next(), escapes.bytes()};
    const std::size_t groups = size / out_.lanes;
    for (std::size_t i = size; i-- > groups * out_.lanes;) {
      const std::uint32_t packed = job.words[std::size_t{indexes[i]} << 8 | static_cast<std::uint8_t>(values_[i])];
      if ((packed & kEncodeEscapeFlag) != 0) escapes.set(i);
      encode_step(out_.states[i % out_.lanes], job.next, packed, job.precision);
    }
    rans_kernels(isa_, out_.lanes).encode(job, indexes, values_.data(), groups);
    out_.words.written_down_to(job.next);

    special |= escapes;
    special.for_each_reversed(size, [&](std::size_t i) {
      const CdfRow& row = tables_.row(indexes[i]);
      const Split parts = split(symbols[i], row);
      if (escapes[i]) out_.side.push_gamma(parts.distance);
      out_.side.push(parts.raw, row.shift);
    });
  }

  using Marks = BitMarks<kEncodeBlock>;
  const Isa isa_ = active_isa();
  const BlockKernels& kernels_ = block_kernels(isa_);
  const Symbol* symbols_;
  const std::uint8_t* indexes_;
  std::size_t count_;
  const CdfTables& tables_;
  LaneWriter out_;
  // The block's indexes, checked; others may change under our hands.
  alignas(64) std::array<std::uint8_t, kEncodeBlock> rows_;
  alignas(64) std::array<std::int8_t, kEncodeBlock> values_;
};

}  // namespace

template <typename Symbol>
Vector<std::uint8_t> rans_encode(const Symbol* symbols, const std::uint8_t* indexes, std::size_t count,
                                 const CdfTables& tables, unsigned lanes) {
  if (count == 0) return {};
  const std::uint64_t expected = estimate_bytes(symbols, indexes, count, tables);
  return Encoder<Symbol>(symbols, indexes, count, tables, resolve_lanes(lanes, expected), expected).run();
}

template Vector<std::uint8_t> rans_encode(const std::int16_t*, const std::uint8_t*, std::size_t, const CdfTables&,
                                          unsigned);
template Vector<std::uint8_t> rans_encode(const std::int32_t*, const std::uint8_t*, std::size_t, const CdfTables&,
                                          unsigned);

}  // namespace fastlic

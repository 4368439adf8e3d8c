#include "fastlic/categorical_rans.hpp"

#include <algorithm>
#include <bit>

#include "fastlic/cdf_tables.hpp"
#include "fastlic/errors.hpp"
#include "fastlic/load_once.hpp"
#include "fastlic/memory.hpp"

namespace fastlic {
namespace {

[[noreturn, gnu::cold, gnu::noinline]] void refuse_index(std::size_t index, std::size_t rows) {
  throw InvalidArgument("index " + to_string(index) + " names no row; the tables have " + to_string(rows));
}

// Read, checked and used at once: others may change indexes under our hands.
std::size_t checked(const std::uint8_t* index, std::size_t rows) {
  const std::size_t row = load_once(index);
  if (row >= rows) [[unlikely]]
    refuse_index(row, rows);
  return row;
}

[[noreturn, gnu::cold, gnu::noinline]] void refuse_symbol(std::int32_t symbol, std::size_t at, std::uint32_t symbols) {
  throw InvalidArgument("symbol " + to_string(symbol) + " at " + to_string(at) + " is not in 0.." +
                        to_string(symbols - 1));
}

}  // namespace

CategoricalTables::CategoricalTables(std::span<const std::int32_t> cdf, std::span<const std::int32_t> lengths,
                                     unsigned precision)
    : precision_(precision) {
  if (precision < kMinPrecision || precision > kMaxPrecision) {
    throw InvalidArgument("precision must be 8 to 24 bits, got " + to_string(precision));
  }
  if (lengths.empty() || lengths.size() > 256) {
    throw InvalidArgument("tables need 1 to 256 rows, got " + to_string(lengths.size()));
  }
  std::size_t begin = 0;
  for (std::size_t r = 0; r < lengths.size(); ++r) {
    if (lengths[r] < 2 || lengths[r] > static_cast<std::int32_t>(kMaxSymbols) + 1) {
      refuse_row(r, "it must have 1 to 65536 symbols, got " + to_string(std::int64_t{lengths[r]} - 1));
    }
    const auto length = static_cast<std::size_t>(lengths[r]);
    if (length > cdf.size() - begin) refuse_row(r, "the cdf array ends inside it");
    add_row(cdf.subspan(begin, length));
    begin += length;
  }
  if (begin != cdf.size()) {
    throw InvalidArgument("the cdf array holds " + to_string(cdf.size()) + " entries, its rows use " +
                          to_string(begin));
  }
}

void CategoricalTables::add_row(std::span<const std::int32_t> cdf) {
  const std::size_t r = rows_.size();
  const std::uint32_t total = 1u << precision_;
  if (cdf.front() != 0 || static_cast<std::uint32_t>(cdf.back()) != total) {
    refuse_row(r, "it must run from 0 to " + to_string(total));
  }
  const auto symbols = static_cast<std::uint32_t>(cdf.size() - 1);
  // Twice as many guide entries as symbols: on average a look at one or two intervals decides.
  const unsigned guide_bits = std::min(precision_, static_cast<unsigned>(std::bit_width(symbols - 1)) + 1);
  rows_.push_back({starts_.size(), guides_.size(), precision_ - guide_bits, symbols});
  for (std::uint32_t s = 0; s < symbols; ++s) {
    if (cdf[s] >= cdf[s + 1]) refuse_row(r, "symbol " + to_string(s) + " has frequency below 1");
    starts_.push_back(static_cast<std::uint32_t>(cdf[s]));
    reciprocals_.emplace_back(static_cast<std::uint32_t>(cdf[s + 1] - cdf[s]));
  }
  starts_.push_back(total);
  reciprocals_.emplace_back();  // keeps both arrays in step
  const std::uint32_t* starts = &starts_[rows_.back().begin];
  std::uint32_t symbol = 0;
  for (std::uint32_t entry = 0; entry < 1u << guide_bits; ++entry) {
    while (starts[symbol + 1] <= entry << rows_.back().drop) ++symbol;
    guides_.push_back(static_cast<std::uint16_t>(symbol));
  }
}

Vector<std::uint8_t> CategoricalTables::encode(const std::int32_t* symbols, const std::uint8_t* indexes,
                                               std::size_t count) const {
  constexpr std::size_t kBlock = 4096;
  WordBuffer words(4 * std::min(count, kBlock) + 64);
  std::uint64_t state = kState64Low;
  const Row* rows = rows_.data();  // outputs could lie over members, as far as the compiler knows
  const std::size_t count_of_rows = rows_.size();
  for (std::size_t end = count; end > 0;) {
    const std::size_t begin = end > kBlock ? end - kBlock : 0;
    words.reserve(4 * (end - begin));
    Rans64Encoder out{state, words.next()};
    for (std::size_t i = end; i-- > begin;) {
      const Row& row = rows[checked(&indexes[i], count_of_rows)];
      const auto symbol = static_cast<std::uint32_t>(load_once(&symbols[i]));
      if (symbol >= row.symbols) refuse_symbol(static_cast<std::int32_t>(symbol), i, row.symbols);
      const std::uint32_t* starts = &starts_[row.begin];
      out.put(starts[symbol], starts[symbol + 1] - starts[symbol], reciprocals_[row.begin + symbol], precision_);
    }
    state = out.state;
    words.written_down_to(out.next);
    end = begin;
  }
  return rans64_stream(state, words);
}

void CategoricalTables::decode(const std::uint8_t* data, std::size_t size, const std::uint8_t* indexes,
                               std::int32_t* out, std::size_t count) const {
  Rans64Decoder in(data, size);
  const Row* rows = rows_.data();
  const std::size_t count_of_rows = rows_.size();
  const std::uint32_t* all_starts = starts_.data();
  const std::uint16_t* guides = guides_.data();
  const unsigned precision = precision_;
  for (std::size_t i = 0; i < count; ++i) {
    const Row& row = rows[checked(&indexes[i], count_of_rows)];
    const std::uint32_t* starts = all_starts + row.begin;
    const std::uint64_t code = in.code(precision);
    std::uint32_t symbol = guides[row.guide + (code >> row.drop)];
    while (starts[symbol + 1] <= code) ++symbol;
    in.take(code - starts[symbol], starts[symbol + 1] - starts[symbol], precision);
    out[i] = static_cast<std::int32_t>(symbol);
  }
  in.finish();
}

}  // namespace fastlic

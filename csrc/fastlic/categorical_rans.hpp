// Categorical distributions over up to 65536 symbols, e.g. codebook indexes of vector quantisers.
//
// rANS with a 64-bit state (rans64.hpp). Every symbol of a row has a frequency, so there are no escapes. Decoding finds
// the symbol in constant time: a guide table by the top bits of the code point, then a walk over the few symbols that
// share its entry: one or two on average, and never more than an entry has code points.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "fastlic/memory.hpp"
#include "fastlic/rans64.hpp"

namespace fastlic {

class CategoricalTables {
 public:
  static constexpr unsigned kMinPrecision = 8;
  static constexpr unsigned kMaxPrecision = 24;
  static constexpr std::size_t kMaxSymbols = 65536;

  // cdf: rows one after another, each 0 < ... < 2^precision;  lengths: [rows] entries of each, symbols + 1, 2..65537.
  // Throws std::invalid_argument that names the row and the fault.
  CategoricalTables(std::span<const std::int32_t> cdf, std::span<const std::int32_t> lengths, unsigned precision);

  std::size_t rows() const noexcept { return rows_.size(); }
  unsigned precision() const noexcept { return precision_; }

  // std::invalid_argument for an index that names no row, or a symbol that is not in its row; CorruptStream for bytes
  // that do not hold exactly `count` symbols.
  Vector<std::uint8_t> encode(const std::int32_t* symbols, const std::uint8_t* indexes, std::size_t count) const;
  void decode(const std::uint8_t* data, std::size_t size, const std::uint8_t* indexes, std::int32_t* out,
              std::size_t count) const;

 private:
  struct Row {
    std::size_t begin;  // of its starts and reciprocals
    std::size_t guide;  // of its guide entries
    unsigned drop;      // code >> drop is the guide entry
    std::uint32_t symbols;
  };
  void add_row(std::span<const std::int32_t> cdf);

  unsigned precision_;
  Vector<Row> rows_;
  Vector<std::uint32_t> starts_;  // symbols + 1 per row
  Vector<Reciprocal> reciprocals_;
  Vector<std::uint16_t> guides_;  // first symbol whose interval reaches into the entry's code points
};

}  // namespace fastlic

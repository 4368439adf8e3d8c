// Native entropy coder: interleaved rANS with one table row per symbol. The stream is specified in docs/stream.md.
//
// Frame, lanes and words: lane_stream.hpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fastlic/cdf_tables.hpp"
#include "fastlic/lane_stream.hpp"
#include "fastlic/memory.hpp"

namespace fastlic {

// Encodes `count` symbols; `lanes` is a power of two up to 64, or 0 to choose by the estimated size (choose_lanes).
// Symbol is std::int16_t or std::int32_t; every value of the type survives.
template <typename Symbol>
Vector<std::uint8_t> rans_encode(const Symbol* symbols, const std::uint8_t* indexes, std::size_t count,
                                 const CdfTables& tables, unsigned lanes = 0);

// Decodes a stream in pieces of any size. The pieces' symbols come out in the order in which rans_encode got them.
//
//     RansDecoder decoder(data, size, tables);   // checks the header
//     decoder.decode(indexes, out, n);           // any number of times, e.g. once per wavefront step
//     decoder.finish();                          // throws if anything is left over or the end does not fit
//
// Throws CorruptStream where the bytes cannot be right, std::invalid_argument for an index outside the tables.
// `data` and `tables` must outlive the decoder. Fastest when n is a multiple of the lane count.
class RansDecoder {
 public:
  RansDecoder(const std::uint8_t* data, std::size_t size, const CdfTables& tables);

  void decode(const std::uint8_t* indexes, std::int16_t* out, std::size_t count);
  void decode(const std::uint8_t* indexes, std::int32_t* out, std::size_t count);
  void finish() const { reader_.finish(); }

  unsigned lanes() const noexcept { return reader_.lanes; }
  std::uint64_t decoded() const noexcept { return decoded_; }

 private:
  template <typename Symbol>
  void decode_blocks(const std::uint8_t* indexes, Symbol* out, std::size_t count);
  template <typename Symbol>
  bool decode_words(const std::uint8_t* indexes, Symbol* out, std::size_t count);
  template <typename Symbol>
  void apply_side(const std::uint8_t* indexes, Symbol* out, std::size_t count, bool escaped);

  const CdfTables* tables_;
  LaneReader reader_;
  std::uint64_t decoded_ = 0;
};

}  // namespace fastlic

// CompressAI's GaussianMixtureConditional: every symbol has a row of its own, made of float probabilities.
//
// Rows have `slots` symbols 0..slots-1 and an escape behind them that is never coded; the stream is CompressAI's
// (compressai_rans.hpp).
#pragma once

#include <cstddef>
#include <cstdint>

#include "fastlic/memory.hpp"
#include "fastlic/rans64.hpp"

namespace fastlic {

// probabilities [rows][slots] -> cdf [rows][slots + 2], as _build_cdf does it after its last erf.
// Throws std::invalid_argument for probabilities that are not numbers, or a row without room for all of its slots.
void mixture_rows(const float* probabilities, std::size_t rows, std::size_t slots, std::int32_t* cdf);

// One symbol for each row of cdf [rows][slots + 2], to its interval; throws std::invalid_argument for others than
// 0..slots-1.
void mixture_intervals(const std::int32_t* cdf, std::size_t rows, std::size_t slots, const std::int32_t* symbols,
                       std::uint16_t* starts, std::uint16_t* frequencies);

// Intervals of 2^16 in the order of decoding; std::invalid_argument for one that is empty or ends beyond 2^16.
Vector<std::uint8_t> encode_intervals(const std::uint16_t* starts, const std::uint16_t* frequencies, std::size_t count);

class MixtureDecoder {
 public:
  MixtureDecoder(const std::uint8_t* data, std::size_t size) : decoder_(data, size) {}

  // The next symbols, one for each row. Throws CorruptStream for an escape and at the end of the stream.
  void decode(const std::int32_t* cdf, std::size_t rows, std::size_t slots, std::int32_t* symbols);
  void finish() const { decoder_.finish(); }

 private:
  Rans64Decoder decoder_;
};

}  // namespace fastlic

#include "fastlic/latents/sections.hpp"

#include <algorithm>

#include "fastlic/errors.hpp"
#include "fastlic/memory.hpp"
#include "fastlic/nn/fixed.hpp"
#include "fastlic/rans.hpp"

namespace fastlic::latents {
namespace {

using namespace fastlic::nn;

// Position by position, channel c uses row c.
Buffer<std::uint8_t> hyper_indexes(std::size_t positions, std::size_t channels) {
  Buffer<std::uint8_t> indexes(positions * channels);
  for (std::size_t i = 0; i < indexes.size(); ++i) indexes[i] = static_cast<std::uint8_t>(i % channels);
  return indexes;
}

// z's tables take 16 KiB a channel and every symbol uses another one, so decoding z waits for memory at each symbol,
// one after the other. Running through the tables first lets the hardware prefetcher fetch them in a tenth of that
// time.
void warm(const CdfTables& tables, std::size_t symbols) {
  const std::size_t words = tables.rows() << tables.precision();
  constexpr std::size_t kWordsPerLine = kLine / sizeof(std::uint32_t);
  if (symbols < words / kWordsPerLine / 8) return;  // few symbols touch few lines
  for (std::size_t i = 0; i < words; i += kWordsPerLine) __builtin_prefetch(tables.decode_words() + i, 0, 2);
}

}  // namespace

void check_latents(const std::int32_t* values, std::size_t count) {
  std::int32_t smallest = 0, largest = 0;
  for (std::size_t i = 0; i < count; ++i) {
    smallest = std::min(smallest, values[i]);
    largest = std::max(largest, values[i]);
  }
  if (smallest < -kLatentLimit || largest > kLatentLimit) {
    throw InvalidArgument("latents must lie within +-" + to_string(kLatentLimit) + " units of 2^-6");
  }
}

void check_zones(std::span<const std::int32_t> zones) {
  for (const std::int32_t zone : zones) {
    if (zone < 0 || zone > kOffsetLimit) {
      throw InvalidArgument("zones must be from 0 to " + to_string(kOffsetLimit) + ", got " + to_string(zone));
    }
  }
}

void check_section(const char* name, std::size_t bytes, double count, double fewest_bits) {
  if (count * fewest_bits > 8.0 * static_cast<double>(bytes) + 64) {
    throw CorruptStream(String("section ") + name + " has " + to_string(bytes) + " bytes, too few for " +
                        to_string(static_cast<std::uint64_t>(count)) + " symbols");
  }
}

void hyper_symbols(const std::int32_t* z, std::size_t positions, std::span<const std::int32_t> medians,
                   std::int32_t* symbols) {
  const std::size_t n = medians.size();
  for (std::size_t i = 0; i < positions * n; ++i) {
    const std::int64_t distance = std::int64_t{z[i]} - medians[i % n];
    symbols[i] = static_cast<std::int32_t>((distance + (1 << (kMeanBits - 1))) >> kMeanBits);
  }
}

Bytes encode_hyper(const std::int32_t* symbols, std::size_t positions, std::size_t channels, const CdfTables& tables) {
  const auto indexes = hyper_indexes(positions, channels);
  return rans_encode(symbols, indexes.data(), indexes.size(), tables);
}

void decode_hyper(std::span<const std::uint8_t> data, std::size_t positions, std::size_t channels,
                  const CdfTables& tables, std::int32_t* symbols) {
  RansDecoder decoder(data.data(), data.size(), tables);
  const auto indexes = hyper_indexes(positions, channels);
  warm(tables, indexes.size());
  decoder.decode(indexes.data(), symbols, indexes.size());
  decoder.finish();
}

}  // namespace fastlic::latents

#include "fastlic/codec/packing.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "fastlic/categorical_rans.hpp"
#include "fastlic/errors.hpp"

namespace fastlic::codec {
namespace {

constexpr std::size_t kMostPerByte = 16, kLeastSlice = 32, kMaxTables = 256;
constexpr unsigned kPrecision = 15;

void require(bool good, const std::string& fault) {
  if (!good) throw std::invalid_argument(fault);
}

// Symbols of the values of a type: those of v < 0 come before those of ~v.
struct Alphabet {
  std::vector<std::int16_t> starts;  // the value whose low bits are 0
  std::vector<std::uint8_t> bits;    // low bits

  explicit Alphabet(unsigned bytes) {
    const unsigned fine = bytes == 1 ? 7 : 2, half = (8 * bytes - fine) << fine;
    starts.resize(2 * half);
    bits.resize(2 * half);
    for (unsigned symbol = 0; symbol < half; ++symbol) {
      const unsigned octave = symbol >> fine, low = octave > 1 ? octave - 1 : 0;
      const int start = static_cast<int>((symbol - (low << fine)) << low), end = start + (1 << low) - 1;
      starts[half + symbol] = static_cast<std::int16_t>(start);
      starts[half - 1 - symbol] = static_cast<std::int16_t>(~end);
      bits[half + symbol] = bits[half - 1 - symbol] = static_cast<std::uint8_t>(low);
    }
  }
};

std::size_t product(const std::vector<std::size_t>& shape, std::size_t most) {
  std::size_t size = 1;
  for (const std::size_t extent : shape) {
    require(extent > 0, "a shape must be of positive integers");
    if (extent > most / size) return most + 1;
    size *= extent;
  }
  return size;
}

// Axes that have classes: those with a choice between slices that are large enough to pay for it.
bool has_classes(std::size_t size, std::size_t extent) { return extent > 1 && size / extent >= kLeastSlice; }

// The table of every value: the sum of its classes, from table 0 to the last.
void add_rows(const std::vector<std::size_t>& shape, std::size_t size, std::span<const std::int8_t>& classes,
              std::size_t tables, std::uint8_t* rows) {
  std::vector<int> sums(size, classes.front());
  classes = classes.subspan(1);
  std::size_t inner = size;
  for (const std::size_t extent : shape) {
    inner /= extent;
    if (!has_classes(size, extent)) continue;
    for (std::size_t i = 0; i < size; ++i) sums[i] += classes[i / inner % extent];
    classes = classes.subspan(extent);
  }
  for (std::size_t i = 0; i < size; ++i) {
    rows[i] = static_cast<std::uint8_t>(std::clamp(sums[i], 0, static_cast<int>(tables) - 1));
  }
}

CategoricalTables tables_of(const Packed& packed, std::size_t symbols) {
  require(packed.tables >= 1 && packed.tables <= kMaxTables && packed.frequencies.size() == 2 * packed.tables * symbols,
          "tables must be 1 to 256 rows of " + std::to_string(symbols) + " frequencies");
  std::vector<std::int32_t> cdf;
  for (std::size_t row = 0, i = 0; row < packed.tables; ++row) {
    cdf.push_back(0);
    for (std::size_t symbol = 0; symbol < symbols; ++symbol, i += 2) {
      const unsigned value = packed.frequencies[i] | static_cast<unsigned>(packed.frequencies[i + 1]) << 8;
      cdf.push_back(cdf.back() + static_cast<std::int16_t>(value));
    }
  }
  const std::vector<std::int32_t> lengths(packed.tables, static_cast<std::int32_t>(symbols + 1));
  return {cdf, lengths, kPrecision};
}

// The lowest bit of every value that has one, then the next.
void add_low(const std::vector<std::uint8_t>& bits, std::span<const std::uint8_t> low,
             std::vector<std::int16_t>& values) {
  std::size_t wanted = 0;
  unsigned most = 0;
  for (const std::uint8_t own : bits) {
    wanted += own;
    most = std::max<unsigned>(most, own);
  }
  require(low.size() == (wanted + 7) / 8, "the values need " + std::to_string(wanted) + " low bits, there are " +
                                              std::to_string(low.size()) + " bytes");
  std::size_t at = 0;
  for (unsigned plane = 0; plane < most; ++plane) {
    for (std::size_t i = 0; i < bits.size(); ++i) {
      if (bits[i] <= plane) continue;
      values[i] = static_cast<std::int16_t>(values[i] + ((low[at / 8] >> (at % 8) & 1) << plane));
      ++at;
    }
  }
}

}  // namespace

std::vector<std::int16_t> unpack(const Packed& packed) {
  const Alphabet alphabet(packed.bytes);
  const std::size_t most = kMostPerByte * packed.data.size();
  std::size_t size = 0, wanted = 0;
  require(!packed.shapes.empty(), "no array has a shape");
  std::vector<std::size_t> sizes;
  for (const auto& shape : packed.shapes) {
    const std::size_t own = product(shape, most);
    require(own <= most && size <= most - own, std::to_string(packed.data.size()) + " bytes are too few for the values");
    size += sizes.emplace_back(own);
    ++wanted;
    for (const std::size_t extent : shape) wanted += has_classes(own, extent) ? extent : 0;
  }
  require(packed.classes.size() == wanted, "the shapes need " + std::to_string(wanted) + " classes, there are " +
                                               std::to_string(packed.classes.size()));
  const CategoricalTables tables = tables_of(packed, alphabet.bits.size());
  std::vector<std::uint8_t> rows(size);
  std::span<const std::int8_t> classes = packed.classes;
  for (std::size_t i = 0, begin = 0; i < sizes.size(); begin += sizes[i], ++i) {
    add_rows(packed.shapes[i], sizes[i], classes, packed.tables, &rows[begin]);
  }
  std::vector<std::int32_t> symbols(size);
  try {
    tables.decode(packed.data.data(), packed.data.size(), rows.data(), symbols.data(), size);
  } catch (const CorruptStream& error) {
    throw std::invalid_argument(error.what());
  }
  std::vector<std::int16_t> values(size);
  std::vector<std::uint8_t> bits(size);
  for (std::size_t i = 0; i < size; ++i) {
    const auto symbol = static_cast<std::size_t>(symbols[i]);
    values[i] = alphabet.starts[symbol];
    bits[i] = alphabet.bits[symbol];
  }
  add_low(bits, packed.low, values);
  return values;
}

}  // namespace fastlic::codec

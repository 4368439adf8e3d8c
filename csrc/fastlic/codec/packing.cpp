#include "fastlic/codec/packing.hpp"

#include <algorithm>
#include <array>
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

// The table of every value: the sum of its classes, from table 0 to the last. Sums grow axis by axis.
void add_rows(const std::vector<std::size_t>& shape, std::size_t size, std::span<const std::int8_t>& classes,
              std::size_t tables, std::uint8_t* rows) {
  std::vector<std::int16_t> sums = {classes.front()}, longer;
  classes = classes.subspan(1);
  for (const std::size_t extent : shape) {
    const bool own = has_classes(size, extent);
    longer.clear();
    longer.reserve(sums.size() * extent);
    for (const std::int16_t sum : sums) {
      for (std::size_t i = 0; i < extent; ++i)
        longer.push_back(static_cast<std::int16_t>(sum + (own ? classes[i] : 0)));
    }
    sums.swap(longer);
    if (own) classes = classes.subspan(extent);
  }
  const int last = static_cast<int>(tables) - 1;
  for (std::size_t i = 0; i < size; ++i) rows[i] = static_cast<std::uint8_t>(std::clamp<int>(sums[i], 0, last));
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

// The lowest bit of every value that has one, then the next: one place in `low` for each of these moves along.
void add_low(const std::vector<std::int32_t>& symbols, const Alphabet& alphabet, std::span<const std::uint8_t> low,
             std::vector<std::int16_t>& values) {
  constexpr std::size_t kPlanes = 16;
  std::array<std::size_t, kPlanes> counts{}, at{};
  for (const std::int32_t symbol : symbols) ++counts[alphabet.bits[static_cast<std::size_t>(symbol)]];
  std::size_t wanted = 0;
  for (std::size_t plane = 0; plane < kPlanes; ++plane) {
    at[plane] = wanted;
    for (std::size_t more = plane + 1; more < kPlanes; ++more) wanted += counts[more];
  }
  require(low.size() == (wanted + 7) / 8, "the values need " + std::to_string(wanted) + " low bits, there are " +
                                              std::to_string(low.size()) + " bytes");
  if (wanted == 0) return;
  for (std::size_t i = 0; i < symbols.size(); ++i) {
    const unsigned bits = alphabet.bits[static_cast<std::size_t>(symbols[i])];
    int value = values[i];
    for (unsigned plane = 0; plane < bits; ++plane) {
      const std::size_t place = at[plane]++;
      value += (low[place / 8] >> (place % 8) & 1) << plane;
    }
    values[i] = static_cast<std::int16_t>(value);
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
    require(own <= most && size <= most - own,
            std::to_string(packed.data.size()) + " bytes are too few for the values");
    size += sizes.emplace_back(own);
    ++wanted;
    for (const std::size_t extent : shape) wanted += has_classes(own, extent) ? extent : 0;
  }
  require(packed.classes.size() == wanted,
          "the shapes need " + std::to_string(wanted) + " classes, there are " + std::to_string(packed.classes.size()));
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
  for (std::size_t i = 0; i < size; ++i) values[i] = alphabet.starts[static_cast<std::size_t>(symbols[i])];
  add_low(symbols, alphabet, packed.low, values);
  return values;
}

}  // namespace fastlic::codec

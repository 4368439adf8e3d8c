#include "fastlic/codec/packing.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "fastlic/categorical_rans.hpp"
#include "fastlic/cdf_tables.hpp"
#include "fastlic/errors.hpp"
#include "fastlic/memory.hpp"
#include "fastlic/rans.hpp"

namespace fastlic::codec {
namespace {

constexpr std::size_t kMostPerByte = 16, kLeastSlice = 32, kMaxTables = 256;
constexpr unsigned kPrecision = 12, kCategoricalPrecision = 15;

void require(bool good, const String& fault) {
  if (!good) throw InvalidArgument(fault);
}

// Symbols of the values of a type, as categorical streams have them: those of v < 0 come before those of ~v.
struct Alphabet {
  Vector<std::int16_t> starts;  // the value whose low bits are 0
  Vector<std::uint8_t> bits;    // low bits

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

std::size_t product(const Vector<std::size_t>& shape, std::size_t most) {
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

int number(std::span<const std::uint8_t> int16, std::size_t i) {
  return static_cast<std::int16_t>(int16[2 * i] | static_cast<unsigned>(int16[2 * i + 1]) << 8);
}

// The table of every value: the sum of its classes, from table 0 to the last.
void add_rows(const Vector<std::size_t>& shape, std::size_t size, std::span<const std::int8_t>& classes,
              std::size_t tables, std::uint8_t* rows) {
  constexpr std::size_t kRun = 64;  // values at least that the innermost loop does at once, where there are so many
  Vector<std::int16_t> outer = {classes.front()}, inner = {0}, longer;
  classes = classes.subspan(1);
  std::size_t axes = shape.size(), run = 1;
  while (axes > 0 && run < kRun) run *= shape[--axes];
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    const std::size_t extent = shape[axis];
    const bool own = has_classes(size, extent);
    Vector<std::int16_t>& sums = axis < axes ? outer : inner;
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
  for (const std::int16_t sum : outer) {
    for (const std::int16_t more : inner) *rows++ = static_cast<std::uint8_t>(std::clamp<int>(sum + more, 0, last));
  }
}

// ---- Since layout 5: symbols of docs/stream.md, section 2, are the values.

CdfTables tables_of(const Packed& packed) {
  require(packed.windows.size() == 6 * packed.rows, "windows must be rows of first slot, raw bits and slots");
  Vector<std::int32_t> cdf, lengths, offsets;
  Vector<std::uint8_t> shifts;
  std::size_t at = 0;
  for (std::size_t row = 0; row < packed.rows; ++row) {
    const int shift = number(packed.windows, 3 * row + 1), slots = number(packed.windows, 3 * row + 2);
    require(slots >= 1 && slots <= int{kMaxRowSize} && shift >= 0 && shift <= int{kMaxShift},
            "row " + to_string(row) + " of the tables has " + to_string(slots) + " slots and " + to_string(shift) +
                " raw bits");
    const std::size_t end = at + static_cast<std::size_t>(slots) + 1;
    require(packed.tables.size() / 2 >= end, "the rows need more frequencies than there are");
    cdf.push_back(0);
    for (; at < end; ++at) cdf.push_back(cdf.back() + number(packed.tables, at));
    lengths.push_back(slots + 2);
    offsets.push_back(number(packed.windows, 3 * row));
    shifts.push_back(static_cast<std::uint8_t>(shift));
  }
  require(packed.tables.size() == 2 * at, "there are more frequencies than the rows need");
  return {cdf, lengths, offsets, shifts, kPrecision};
}

void decode(const Packed& packed, const std::uint8_t* rows, Vector<nn::Buffer<std::uint8_t>>& arrays) {
  const CdfTables tables = tables_of(packed);
  RansDecoder decoder(packed.data.data(), packed.data.size(), tables);
  constexpr std::size_t kBlock = 8192;
  nn::Buffer<std::int16_t> block(kBlock);
  for (nn::Buffer<std::uint8_t>& values : arrays) {
    const std::size_t size = values.size() / packed.bytes;
    for (std::size_t at = 0; at < size; at += kBlock) {
      const std::size_t count = std::min(kBlock, size - at);
      decoder.decode(rows + at, block.data(), count);
      if (packed.bytes == 2) {
        std::memcpy(&values[2 * at], block.data(), 2 * count);
        continue;
      }
      int outside = 0;
      for (std::size_t i = 0; i < count; ++i) {
        outside |= block[i] + 128;
        values[at + i] = static_cast<std::uint8_t>(block[i]);
      }
      require(outside >= 0 && outside < 256, "a value does not fit int8");
    }
    rows += size;
  }
  if (arrays.size() == packed.shapes.size()) decoder.finish();  // else some are not wanted
}

// ---- Layouts 2 to 4

CategoricalTables categorical_tables_of(const Packed& packed, std::size_t symbols) {
  require(packed.tables.size() == 2 * packed.rows * symbols,
          "tables must be rows of " + to_string(symbols) + " frequencies");
  Vector<std::int32_t> cdf;
  for (std::size_t row = 0, i = 0; row < packed.rows; ++row) {
    cdf.push_back(0);
    for (std::size_t symbol = 0; symbol < symbols; ++symbol, ++i) cdf.push_back(cdf.back() + number(packed.tables, i));
  }
  const Vector<std::int32_t> lengths(packed.rows, static_cast<std::int32_t>(symbols + 1));
  return {cdf, lengths, kCategoricalPrecision};
}

// The lowest bit of every value that has one, then the next: one place in `low` for each of these moves along.
void add_low(const Vector<std::int32_t>& symbols, const Alphabet& alphabet, std::span<const std::uint8_t> low,
             Vector<std::int16_t>& values) {
  constexpr std::size_t kPlanes = 16;
  std::array<std::size_t, kPlanes> counts{}, at{};
  for (const std::int32_t symbol : symbols) ++counts[alphabet.bits[static_cast<std::size_t>(symbol)]];
  std::size_t wanted = 0;
  for (std::size_t plane = 0; plane < kPlanes; ++plane) {
    at[plane] = wanted;
    for (std::size_t more = plane + 1; more < kPlanes; ++more) wanted += counts[more];
  }
  require(low.size() == (wanted + 7) / 8,
          "the values need " + to_string(wanted) + " low bits, there are " + to_string(low.size()) + " bytes");
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

void decode_categorical(const Packed& packed, const Vector<std::uint8_t>& rows,
                        Vector<nn::Buffer<std::uint8_t>>& arrays) {
  const Alphabet alphabet(packed.bytes);
  const CategoricalTables tables = categorical_tables_of(packed, alphabet.bits.size());
  Vector<std::int32_t> symbols(rows.size());
  tables.decode(packed.data.data(), packed.data.size(), rows.data(), symbols.data(), rows.size());
  Vector<std::int16_t> values(rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) values[i] = alphabet.starts[static_cast<std::size_t>(symbols[i])];
  add_low(symbols, alphabet, packed.low, values);
  const std::int16_t* from = values.data();
  for (nn::Buffer<std::uint8_t>& out : arrays) {
    const std::size_t size = out.size() / packed.bytes;
    if (packed.bytes == 2) {
      std::memcpy(out.data(), from, out.size());
    } else {
      std::copy(from, from + size, out.begin());
    }
    from += size;
  }
}

}  // namespace

Vector<nn::Buffer<std::uint8_t>> unpack(const Packed& packed) {
  const std::size_t most = kMostPerByte * packed.data.size();
  std::size_t size = 0, wanted = 0;
  require(!packed.shapes.empty(), "no array has a shape");
  Vector<std::size_t> sizes;
  for (const auto& shape : packed.shapes) {
    const std::size_t own = product(shape, most);
    require(own <= most && size <= most - own, to_string(packed.data.size()) + " bytes are too few for the values");
    size += sizes.emplace_back(own);
    ++wanted;
    for (const std::size_t extent : shape) wanted += has_classes(own, extent) ? extent : 0;
  }
  require(packed.classes.size() == wanted,
          "the shapes need " + to_string(wanted) + " classes, there are " + to_string(packed.classes.size()));
  require(packed.rows >= 1 && packed.rows <= kMaxTables, "tables must be 1 to 256 rows");
  // A categorical stream is decoded as a whole.
  if (!packed.categorical && packed.wanted < sizes.size()) {
    for (; sizes.size() > packed.wanted; sizes.pop_back()) size -= sizes.back();
  }
  Vector<std::uint8_t> rows(size);
  std::span<const std::int8_t> classes = packed.classes;
  for (std::size_t i = 0, begin = 0; i < sizes.size(); begin += sizes[i], ++i) {
    add_rows(packed.shapes[i], sizes[i], classes, packed.rows, &rows[begin]);
  }
  Vector<nn::Buffer<std::uint8_t>> arrays;
  for (const std::size_t own : sizes) arrays.emplace_back(packed.bytes * own);
  try {
    packed.categorical ? decode_categorical(packed, rows, arrays) : decode(packed, rows.data(), arrays);
  } catch (const CorruptStream& error) {
    throw InvalidArgument(error.what());
  }
  return arrays;
}

}  // namespace fastlic::codec

// Arbitrary numbers as tables, or rows that are valid but for a few numbers: refused, or usable without a fault.
#include <span>
#include <stdexcept>

#include "fastlic/categorical_rans.hpp"
#include "fastlic/compressai_rans.hpp"
#include "fastlic/errors.hpp"
#include "fastlic/memory.hpp"
#include "fastlic/rans.hpp"
#include "harness.hpp"

namespace {

template <typename T>
fastlic::Vector<T> numbers(fastlic::fuzz::Input& input, std::size_t count) {
  fastlic::Vector<T> out(count);
  for (T& value : out) value = static_cast<T>(input.take<std::int16_t>());
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fastlic;
  fuzz::Input input(data, size);
  const auto kind = input.take<std::uint8_t>();
  const unsigned precision = input.take<std::uint8_t>() % 32;
  fastlic::Vector<std::int32_t> lengths, offsets, cdf;
  fastlic::Vector<std::uint8_t> shifts;
  if (kind < 128) {
    const std::size_t rows = kind % 6;
    lengths = numbers<std::int32_t>(input, rows);
    offsets = numbers<std::int32_t>(input, rows);
    shifts = numbers<std::uint8_t>(input, rows);
    cdf = numbers<std::int32_t>(input, input.left() / 2 < 600 ? input.left() / 2 : 600);
  } else {
    const std::size_t rows = kind == 255 ? 256 : 1 + kind % 5, length = 2 + input.take<std::uint8_t>() % 60;
    lengths.assign(rows, static_cast<std::int32_t>(length));
    for (std::size_t row = 0; row < rows; ++row) {
      offsets.push_back(input.take<std::int32_t>() >> (input.take<std::uint8_t>() % 31));
      shifts.push_back(input.take<std::uint8_t>() % 18);
      for (std::size_t i = 0, at = 0; i + 1 < length; at += 1 + input.take<std::uint8_t>() % 64, ++i) {
        cdf.push_back(static_cast<std::int32_t>(at));
      }
      cdf.push_back(static_cast<std::int32_t>(std::uint32_t{1} << precision));
    }
    for (std::size_t left = input.take<std::uint8_t>() % 4; left > 0; --left) {
      auto& some = input.take<std::uint8_t>() % 2 == 0 ? lengths : cdf;
      const std::size_t at = input.take<std::uint16_t>() % some.size();
      some[at] = input.take<std::int32_t>();
    }
  }
  const std::size_t rows = lengths.size();
  // 16-bit numbers cannot say 65536, the end of CompressAI's rows.
  for (std::int32_t& value : cdf) value = value == -1 ? 65536 : value;
  const fastlic::Vector<std::uint8_t> bytes(64, 0x5A);
  const fastlic::Vector<std::uint8_t> indexes(64, 0);
  fastlic::Vector<std::int32_t> out(64);
  try {
    const CdfTables tables(cdf, lengths, offsets, shifts, precision);
    RansDecoder decoder(bytes.data(), bytes.size(), tables);
    decoder.decode(indexes.data(), out.data(), out.size());
  } catch (const std::invalid_argument&) {
  } catch (const CorruptStream&) {
  }
  try {
    const CategoricalTables tables(cdf, lengths, precision);
    tables.decode(bytes.data(), bytes.size(), indexes.data(), out.data(), out.size());
  } catch (const std::invalid_argument&) {
  } catch (const CorruptStream&) {
  }
  try {
    const std::size_t columns = rows == 0 ? 0 : cdf.size() / rows;
    const CompressAiTables tables(std::span<const std::int32_t>(cdf).first(columns * rows), columns, lengths, offsets);
    CompressAiDecoder decoder(bytes.data(), bytes.size());
    decoder.decode(indexes.data(), out.data(), out.size(), tables);
  } catch (const std::invalid_argument&) {
  } catch (const CorruptStream&) {
  }
  return 0;
}

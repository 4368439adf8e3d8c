// Arbitrary bytes as a categorical stream, with three unlike tables or with 67 of 256 symbols, as packed weights have
// them: what decodes cleanly must encode back to the same bytes.
#include "fastlic/categorical_rans.hpp"
#include "fastlic/errors.hpp"
#include "fastlic/memory.hpp"
#include "harness.hpp"

namespace {

const fastlic::CategoricalTables& tables() {
  static const auto instance = [] {
    fastlic::Vector<std::int32_t> cdf = {0, 1, 2, 16384, 0, 16384};
    for (std::int32_t i = 0; i <= 1000; ++i) cdf.push_back(i < 1000 ? i * 16 : 16384);
    const fastlic::Vector<std::int32_t> lengths = {4, 2, 1001};
    return fastlic::CategoricalTables(cdf, lengths, 14);
  }();
  return instance;
}

// Each row falls off from its middle, a little steeper than the one before.
const fastlic::CategoricalTables& packing_tables() {
  static const auto instance = [] {
    constexpr std::int32_t kRows = 67;
    fastlic::Vector<std::int32_t> cdf;
    for (std::int32_t row = 0; row < kRows; ++row) {
      cdf.push_back(0);
      for (std::int32_t symbol = 0; symbol < 255; ++symbol) {
        const std::int32_t distance = symbol < 128 ? 128 - symbol : symbol - 128;
        cdf.push_back(cdf.back() + 1 + 4000 / (60 + (1 + row) * distance));
      }
      cdf.push_back(1 << 14);
    }
    return fastlic::CategoricalTables(cdf, fastlic::Vector<std::int32_t>(kRows, 257), 14);
  }();
  return instance;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fastlic;
  fuzz::Input input(data, size);
  const std::size_t number = input.take<std::uint16_t>(), count = number % 700;
  const fastlic::CategoricalTables& model = number < 32768 ? tables() : packing_tables();
  fastlic::Vector<std::uint8_t> indexes = input.take_bytes(count / 4);
  indexes.resize(count, static_cast<std::uint8_t>(count));
  for (std::uint8_t& index : indexes) index = static_cast<std::uint8_t>(index % model.rows());
  fastlic::Vector<std::uint8_t> stream = input.rest();
  stream.resize(stream.size() / 4 * 4);
  if (stream.size() >= 8) stream[7] &= 0x7F;
  fastlic::Vector<std::int32_t> symbols(count);
  try {
    model.decode(stream.data(), stream.size(), indexes.data(), symbols.data(), count);
  } catch (const CorruptStream&) {
    return 0;
  }
  fuzz::require(model.encode(symbols.data(), indexes.data(), count) == stream);
  return 0;
}

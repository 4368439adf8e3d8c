// Arbitrary bytes as a categorical stream; what decodes cleanly must encode back to the same bytes.
#include "fastlic/categorical_rans.hpp"
#include "fastlic/errors.hpp"
#include "harness.hpp"

namespace {

const fastlic::CategoricalTables& tables() {
  static const auto instance = [] {
    std::vector<std::int32_t> cdf = {0, 1, 2, 16384, 0, 16384};
    for (std::int32_t i = 0; i <= 1000; ++i) cdf.push_back(i < 1000 ? i * 16 : 16384);
    const std::vector<std::int32_t> lengths = {4, 2, 1001};
    return fastlic::CategoricalTables(cdf, lengths, 14);
  }();
  return instance;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fastlic;
  fuzz::Input input(data, size);
  const std::size_t count = input.take<std::uint16_t>() % 700;
  std::vector<std::uint8_t> indexes = input.take_bytes(count / 4);
  indexes.resize(count, static_cast<std::uint8_t>(count));
  for (std::uint8_t& index : indexes) index %= 3;
  std::vector<std::uint8_t> stream = input.rest();
  stream.resize(stream.size() / 4 * 4);
  if (stream.size() >= 8) stream[7] &= 0x7F;
  std::vector<std::int32_t> symbols(count);
  try {
    tables().decode(stream.data(), stream.size(), indexes.data(), symbols.data(), count);
  } catch (const CorruptStream&) {
    return 0;
  }
  fuzz::require(tables().encode(symbols.data(), indexes.data(), count) == stream);
  return 0;
}

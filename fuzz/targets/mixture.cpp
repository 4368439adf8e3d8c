// Arbitrary floats as probabilities of mixtures: refused, or rows under which symbols survive. Arbitrary bytes as their
// stream: errors or symbols of the row.
#include <stdexcept>

#include "fastlic/errors.hpp"
#include "fastlic/memory.hpp"
#include "fastlic/mixture.hpp"
#include "harness.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fastlic;
  fuzz::Input input(data, size);
  const auto kind = input.take<std::uint8_t>();
  const std::size_t rows = kind % 32, slots = input.take<std::uint8_t>();
  fastlic::Vector<float> probabilities(rows * slots);
  fastlic::Vector<std::int32_t> symbols(rows);
  for (std::int32_t& symbol : symbols) {
    symbol = input.take<std::uint8_t>();
    if (slots > 0 && symbol != 255) symbol %= static_cast<std::int32_t>(slots);
  }
  for (float& p : probabilities) {  // any float, or one between 0 and 1
    p = kind >= 128 ? input.take<float>() : static_cast<float>(input.take<std::uint8_t>()) / 255;
  }
  fastlic::Vector<std::int32_t> cdf(rows * (slots + 2));
  fastlic::Vector<std::uint16_t> starts(rows), frequencies(rows);
  fastlic::Vector<std::uint8_t> stream = input.rest();
  try {
    mixture_rows(probabilities.data(), rows, slots, cdf.data());
  } catch (const std::invalid_argument&) {
    return 0;
  }
  for (std::size_t r = 0; r < rows; ++r) {
    const std::int32_t* row = &cdf[r * (slots + 2)];
    fuzz::require(row[0] == 0 && row[slots + 1] == 65536);
    for (std::size_t i = 0; i <= slots; ++i) fuzz::require(row[i] < row[i + 1]);
  }
  const auto decode = [&](const fastlic::Vector<std::uint8_t>& bytes) {
    fastlic::Vector<std::int32_t> out(rows);
    MixtureDecoder decoder(bytes.data(), bytes.size());
    const std::size_t half = rows / 2;
    decoder.decode(cdf.data(), half, slots, out.data());
    decoder.decode(cdf.data() + half * (slots + 2), rows - half, slots, out.data() + half);
    decoder.finish();
    return out;
  };
  try {
    mixture_intervals(cdf.data(), rows, slots, symbols.data(), starts.data(), frequencies.data());
    fuzz::require(decode(encode_intervals(starts.data(), frequencies.data(), rows)) == symbols);
  } catch (const std::invalid_argument&) {  // a symbol outside of the row
  }
  stream.resize(stream.size() / 4 * 4);
  if (stream.size() >= 8) stream[7] &= 0x7F;
  try {
    const fastlic::Vector<std::int32_t> decoded = decode(stream);
    mixture_intervals(cdf.data(), rows, slots, decoded.data(), starts.data(), frequencies.data());
    fuzz::require(encode_intervals(starts.data(), frequencies.data(), rows) == stream);
  } catch (const CorruptStream&) {
  }
  return 0;
}

// Arbitrary means and scales, NaN and infinity included: symbols survive, and arbitrary bytes end in errors or symbols,
// the same on every instruction set.
#include "fastlic/errors.hpp"
#include "fastlic/gaussian_rans.hpp"
#include "fastlic/memory.hpp"
#include "harness.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fastlic;
  fuzz::Input input(data, size);
  const std::size_t count = input.take<std::uint8_t>();
  const unsigned lanes = input.take<std::uint8_t>() % 8;
  fastlic::Vector<float> means(count);
  fastlic::Vector<float> scales(count);
  fastlic::Vector<std::int32_t> symbols(count);
  for (std::size_t i = 0; i < count; ++i) {
    means[i] = input.take<float>();
    scales[i] = input.take<float>();
    symbols[i] = input.take<std::int32_t>();
    // Near the mean mostly: arbitrary bits are escapes nearly always.
    if (symbols[i] % 4 != 0 && means[i] > -1e6f && means[i] < 1e6f) {
      symbols[i] = static_cast<std::int32_t>(means[i]) + symbols[i] % 50;
    }
  }
  using Symbols = fastlic::Vector<std::int32_t>;
  const auto decode = [&](const fastlic::Vector<std::uint8_t>& bytes) -> Symbols {
    Symbols out(count);
    try {
      gaussian_decode(bytes.data(), bytes.size(), means.data(), scales.data(), out.data(), count);
    } catch (const CorruptStream&) {
      return {};
    }
    return out;
  };
  const auto bytes = fuzz::on_every_isa([&] {
    return gaussian_encode(symbols.data(), means.data(), scales.data(), count, lanes == 7 ? 0 : 1u << lanes);
  });
  fuzz::require(fuzz::on_every_isa([&] { return decode(bytes); }) == symbols);

  fastlic::Vector<std::uint8_t> noise = input.rest();
  if (!noise.empty()) noise[0] = static_cast<std::uint8_t>((noise[0] & 0x0F) | 0x10);
  fuzz::on_every_isa([&] { return decode(noise); });
  return 0;
}

// Arbitrary bytes as a native stream, decoded in pieces: errors or bounded symbols, the same on every instruction set.
// What decodes cleanly must encode back to the same symbols. Output of int16 is that of int32 where all of it fits.
#include <algorithm>
#include <limits>

#include "fastlic/errors.hpp"
#include "fastlic/memory.hpp"
#include "fastlic/rans.hpp"
#include "harness.hpp"

namespace {

const fastlic::CdfTables& tables() {
  // Rows: narrow, two slots, wide with raw bits, far from zero, one slot with many raw bits.
  static const fastlic::Vector<std::int32_t> cdf = {0,    300,  3700, 4000, 4096, 0,    4095, 4096, 0,    1000, 2000,
                                                    3000, 4000, 4096, 0,    1,    4000, 4096, 0,    2048, 4096};
  static const fastlic::Vector<std::int32_t> lengths = {5, 3, 6, 4, 3};
  static const fastlic::Vector<std::int32_t> offsets = {-1, 0, -2, 100000, -3};
  static const fastlic::Vector<std::uint8_t> shifts = {0, 0, 3, 1, 16};
  static const fastlic::CdfTables instance(cdf, lengths, offsets, shifts, 12);
  return instance;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fastlic;
  fuzz::Input input(data, size);
  const std::size_t count = input.take<std::uint16_t>() % 1500;
  const std::size_t piece = 1 + input.take<std::uint8_t>();
  const unsigned lanes = 1u << input.take<std::uint8_t>() % 7;
  fastlic::Vector<std::uint8_t> indexes = input.take_bytes(count / 4);
  indexes.resize(count, static_cast<std::uint8_t>(count));
  for (std::uint8_t& index : indexes) index %= 5;
  fastlic::Vector<std::uint8_t> stream = input.rest();
  if (!stream.empty()) stream[0] &= 0x0F;

  const auto decode = [&]<typename Symbol>(Symbol) -> fastlic::Vector<Symbol> {
    fastlic::Vector<Symbol> out(count);
    try {
      RansDecoder decoder(stream.data(), stream.size(), tables());
      for (std::size_t at = 0; at < count; at += piece) {
        decoder.decode(indexes.data() + at, out.data() + at, std::min(piece, count - at));
      }
      decoder.finish();
    } catch (const CorruptStream&) {
      return {};
    }
    return out;
  };
  using Symbols = fastlic::Vector<std::int32_t>;
  const Symbols symbols = fuzz::on_every_isa([&] { return decode(std::int32_t{}); });
  const auto narrow = fuzz::on_every_isa([&] { return decode(std::int16_t{}); });
  using Limits = std::numeric_limits<std::int16_t>;
  const bool fits = std::all_of(symbols.begin(), symbols.end(),
                                [](std::int32_t s) { return s >= Limits::min() && s <= Limits::max(); });
  fuzz::require(fits ? Symbols(narrow.begin(), narrow.end()) == symbols : narrow.empty());
  if (symbols.empty()) return 0;

  const auto bytes =
      fuzz::on_every_isa([&] { return rans_encode(symbols.data(), indexes.data(), symbols.size(), tables(), lanes); });
  Symbols again(symbols.size());
  RansDecoder decoder(bytes.data(), bytes.size(), tables());
  decoder.decode(indexes.data(), again.data(), again.size());
  decoder.finish();
  fuzz::require(again == symbols);
  if (fits) {
    fuzz::require(rans_encode(narrow.data(), indexes.data(), narrow.size(), tables(), lanes) == bytes);
  }
  return 0;
}

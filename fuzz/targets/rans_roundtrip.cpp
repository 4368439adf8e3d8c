// Arbitrary symbols under arbitrary valid tables survive, as int32 and as int16, with the same bytes from every
// instruction set.
#include "fastlic/memory.hpp"
#include "fastlic/rans.hpp"
#include "harness.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fastlic;
  fuzz::Input input(data, size);
  const unsigned precision = 10 + input.take<std::uint8_t>() % 3;
  const std::size_t rows = 1 + input.take<std::uint8_t>() % 4;
  const unsigned lanes = input.take<std::uint8_t>() % 8;
  fastlic::Vector<std::int32_t> cdf;
  fastlic::Vector<std::int32_t> lengths;
  fastlic::Vector<std::int32_t> offsets;
  fastlic::Vector<std::uint8_t> shifts;
  for (std::size_t r = 0; r < rows; ++r) {
    const std::uint32_t total = 1u << precision;
    std::uint32_t slots = 2 + input.take<std::uint8_t>() % 255;
    offsets.push_back(input.take<std::int32_t>() >> (1 + input.take<std::uint8_t>() % 30));
    shifts.push_back(input.take<std::uint8_t>() % 17);
    std::uint32_t at = 0;
    cdf.push_back(0);
    for (std::uint32_t slot = 0; slot + 1 < slots; ++slot) {
      const std::uint32_t room = total - at - (slots - 1 - slot);  // each later slot needs one
      at += 1 + input.take<std::uint8_t>() % room;
      cdf.push_back(static_cast<std::int32_t>(at));
    }
    cdf.push_back(static_cast<std::int32_t>(total));
    lengths.push_back(static_cast<std::int32_t>(slots) + 1);
  }
  const CdfTables tables(cdf, lengths, offsets, shifts, precision);

  fastlic::Vector<std::int32_t> symbols;
  fastlic::Vector<std::uint8_t> indexes;
  while (input.left() > 0) {
    const auto control = input.take<std::uint8_t>();
    const std::uint8_t index = control % rows;
    // Near the window mostly, anywhere sometimes.
    const std::int64_t near = (std::int64_t{offsets[index]} + input.take<std::int8_t>()) * (1 << shifts[index]);
    const bool wild = control >= 240 || near != static_cast<std::int32_t>(near);
    symbols.push_back(wild ? input.take<std::int32_t>() : static_cast<std::int32_t>(near));
    indexes.push_back(index);
  }
  const unsigned wanted = lanes == 7 ? 0 : 1u << lanes;
  const auto bytes =
      fuzz::on_every_isa([&] { return rans_encode(symbols.data(), indexes.data(), symbols.size(), tables, wanted); });
  fuzz::on_every_isa([&] {
    fastlic::Vector<std::int32_t> out(symbols.size());
    RansDecoder decoder(bytes.data(), bytes.size(), tables);
    decoder.decode(indexes.data(), out.data(), out.size());
    decoder.finish();
    fuzz::require(out == symbols);
    return 0;
  });
  const fastlic::Vector<std::int16_t> narrow(symbols.begin(), symbols.end());
  const fastlic::Vector<std::int32_t> widened(narrow.begin(), narrow.end());
  const auto small =
      fuzz::on_every_isa([&] { return rans_encode(narrow.data(), indexes.data(), narrow.size(), tables, wanted); });
  fuzz::require(small == rans_encode(widened.data(), indexes.data(), widened.size(), tables, wanted));
  fuzz::on_every_isa([&] {
    fastlic::Vector<std::int16_t> out(narrow.size());
    RansDecoder decoder(small.data(), small.size(), tables);
    decoder.decode(indexes.data(), out.data(), out.size());
    decoder.finish();
    fuzz::require(out == narrow);
    return 0;
  });
  return 0;
}

// Arbitrary bytes as CompressAI streams, one alone and four in lock-step: the same symbols, and they encode again.
#include "fastlic/compressai_rans.hpp"
#include "fastlic/errors.hpp"
#include "harness.hpp"

namespace {

const fastlic::CompressAiTables& tables() {
  static const std::vector<std::int32_t> cdf = {0, 1, 65534, 65535, 65536, 0,     65535, 65536,
                                                0, 0, 0,     20000, 40000, 60000, 65536};
  static const std::vector<std::int32_t> lengths = {5, 3, 5};
  static const std::vector<std::int32_t> offsets = {-1, 7, -100000};
  static const fastlic::CompressAiTables instance(cdf, 5, lengths, offsets);
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

  std::vector<std::int32_t> alone(count);
  bool clean = false;
  bool decoded = false;
  try {
    CompressAiDecoder decoder(stream.data(), stream.size());
    decoder.decode(indexes.data(), alone.data(), count, tables());
    decoded = true;
    decoder.finish();
    clean = true;
  } catch (const CorruptStream&) {
  }

  std::vector<std::int32_t> together(4 * count);
  bool all_decoded = false;
  try {
    const CompressAiDecoder start(stream.data(), stream.size());
    std::vector<CompressAiDecoder> decoders(4, start);
    CompressAiDecoder* four[4];
    const std::uint8_t* four_indexes[4];
    std::int32_t* four_out[4];
    const std::size_t counts[4] = {count, count, count / 2, count};
    for (std::size_t s = 0; s < 4; ++s) {
      four[s] = &decoders[s];
      four_indexes[s] = indexes.data();
      four_out[s] = together.data() + s * count;
    }
    CompressAiDecoder::decode_four(four, four_indexes, four_out, counts, tables());
    all_decoded = true;
  } catch (const CorruptStream&) {
  }
  fuzz::require(all_decoded == decoded);
  if (decoded) fuzz::require(std::equal(alone.begin(), alone.end(), together.begin()));

  if (clean) {
    const auto bytes = compressai_encode(alone.data(), indexes.data(), count, tables());
    std::vector<std::int32_t> again(count);
    CompressAiDecoder decoder(bytes.data(), bytes.size());
    decoder.decode(indexes.data(), again.data(), count, tables());
    decoder.finish();
    fuzz::require(again == alone);
  }
  return 0;
}

// Arbitrary bytes as CompressAI streams, one alone and four in lock-step, with indexes of either type: the same
// symbols, and they encode again. Indexes that name no row are refused.
#include <algorithm>
#include <stdexcept>

#include "fastlic/compressai_rans.hpp"
#include "fastlic/errors.hpp"
#include "fastlic/memory.hpp"
#include "harness.hpp"

namespace {

const fastlic::CompressAiTables& tables() {
  static const fastlic::Vector<std::int32_t> cdf = {0, 1, 65534, 65535, 65536, 0,     65535, 65536,
                                                    0, 0, 0,     20000, 40000, 60000, 65536};
  static const fastlic::Vector<std::int32_t> lengths = {5, 3, 5};
  static const fastlic::Vector<std::int32_t> offsets = {-1, 7, -100000};
  static const fastlic::CompressAiTables instance(cdf, 5, lengths, offsets);
  return instance;
}

template <typename Index>
fastlic::Vector<std::int32_t> decoded_together(const fastlic::Vector<std::uint8_t>& stream,
                                               const fastlic::Vector<Index>& indexes) {
  using namespace fastlic;
  const std::size_t count = indexes.size();
  const CompressAiDecoder start(stream.data(), stream.size());
  fastlic::Vector<CompressAiDecoder> decoders(4, start);
  fastlic::Vector<std::int32_t> out(4 * count);
  CompressAiDecoder* four[4];
  const Index* four_indexes[4];
  std::int32_t* four_out[4];
  const std::size_t counts[4] = {count, count, count / 2, count};
  for (std::size_t s = 0; s < 4; ++s) {
    four[s] = &decoders[s];
    four_indexes[s] = indexes.data();
    four_out[s] = out.data() + s * count;
  }
  CompressAiDecoder::decode_four(four, four_indexes, four_out, counts, tables());
  return out;
}

// Whether indexes with one that is no row's are refused by everyone.
bool refused(const fastlic::Vector<std::int32_t>& indexes) {
  using namespace fastlic;
  const fastlic::Vector<std::int32_t> symbols(indexes.size());
  const auto stream =
      compressai_encode(symbols.data(), fastlic::Vector<std::uint8_t>(indexes.size()).data(), indexes.size(), tables());
  fastlic::Vector<std::int32_t> out(indexes.size());
  int count = 0;
  try {
    compressai_encode(symbols.data(), indexes.data(), indexes.size(), tables());
  } catch (const std::invalid_argument&) {
    ++count;
  }
  try {
    CompressAiDecoder(stream.data(), stream.size()).decode(indexes.data(), out.data(), out.size(), tables());
  } catch (const std::invalid_argument&) {
    ++count;
  }
  try {
    decoded_together(stream, indexes);
  } catch (const std::invalid_argument&) {
    ++count;
  } catch (const CorruptStream&) {  // symbols of other rows come first, and may not fit
    ++count;
  }
  return count == 3;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fastlic;
  fuzz::Input input(data, size);
  const std::size_t count = input.take<std::uint16_t>() % 700;
  fastlic::Vector<std::uint8_t> indexes = input.take_bytes(count / 4);
  indexes.resize(count, static_cast<std::uint8_t>(count));
  for (std::uint8_t& index : indexes) index %= 3;
  fastlic::Vector<std::uint8_t> stream = input.rest();
  stream.resize(stream.size() / 4 * 4);
  if (stream.size() >= 8) stream[7] &= 0x7F;

  fastlic::Vector<std::int32_t> alone(count);
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

  const fastlic::Vector<std::int32_t> wide(indexes.begin(), indexes.end());
  fastlic::Vector<std::int32_t> together;
  bool all_decoded = false;
  try {
    together = decoded_together(stream, indexes);
    all_decoded = true;
    fuzz::require(decoded_together(stream, wide) == together);
  } catch (const CorruptStream&) {
  }
  fuzz::require(all_decoded == decoded);
  if (decoded) fuzz::require(std::equal(alone.begin(), alone.end(), together.begin()));

  if (clean) {
    const auto bytes = compressai_encode(alone.data(), indexes.data(), count, tables());
    fastlic::Vector<std::int32_t> again(count);
    CompressAiDecoder decoder(bytes.data(), bytes.size());
    decoder.decode(indexes.data(), again.data(), count, tables());
    decoder.finish();
    fuzz::require(again == alone);
    fuzz::require(compressai_encode(alone.data(), wide.data(), count, tables()) == bytes);
  }
  if (count > 0 && count % 8 == 1) {
    fastlic::Vector<std::int32_t> hostile = wide;
    std::int32_t wrong = 3;
    std::memcpy(&wrong, data, std::min<std::size_t>(size, 4));
    hostile[static_cast<std::uint32_t>(wrong) % count] = wrong >= 0 && wrong < 3 ? -1 : wrong;
    fuzz::require(refused(hostile));
  }
  return 0;
}

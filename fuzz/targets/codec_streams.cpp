// Arbitrary bytes as a stream of one of four codecs, whose checksums and fingerprint the target mends where the first
// byte asks for it: an error, or every row of the image once.
#include <algorithm>
#include <atomic>
#include <memory>
#include <stdexcept>

#include "codecs.hpp"
#include "fastlic/codec/codec.hpp"
#include "fastlic/errors.hpp"
#include "fastlic/memory.hpp"
#include "harness.hpp"
#include "mending.hpp"

using namespace fastlic;

namespace {

constexpr codec::Limits kLimits{1 << 14, 1 << 28};

const codec::Codec& codec_of(unsigned kind) {
  static const Vector<std::unique_ptr<codec::Codec>> codecs = [] {
    Vector<std::unique_ptr<codec::Codec>> out;
    for (const auto& file : fuzz::kCodecs) out.push_back(std::make_unique<codec::Codec>(file));
    return out;
  }();
  return *codecs[kind % codecs.size()];
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input input(data, size);
  const unsigned kind = input.take<std::uint8_t>(), parts = input.take<std::uint8_t>() % 8;
  const codec::Codec& codec = codec_of(kind);
  Vector<std::uint8_t> stream = input.rest();
  if (kind >= 64 && stream.size() >= 16) {
    const auto& own = stream[4] > 1 ? codec.fingerprint() : codec.entropy_fingerprint();
    std::copy(own.begin(), own.end(), stream.begin() + 8);
    fuzz::mend(stream);
  }
  const auto isas = supported_isas();
  set_isa(isas[kind / 4 % isas.size()]);
  try {
    const codec::Codec::Stream checked = codec.check(stream, parts, 1, kLimits);
    const container::Header& header = checked.header;
    Vector<std::atomic<int>> rows(header.height);
    const nn::MapSize size{header.height, header.width};
    const auto take = [&](std::size_t row, const std::int16_t* rgb, std::size_t stride) {
      ++rows.at(row);
      for (std::size_t x = 0; x < header.width; ++x) {
        for (std::size_t c = 0; c < 3; ++c) fuzz::require(rgb[x * stride + c] >= 0 && rgb[x * stride + c] <= 255);
      }
    };
    codec.coder().decode(checked.sections, size, checked.region, header.quality, checked.parts, 1, take);
    fuzz::require(std::all_of(rows.begin(), rows.end(), [](const auto& count) { return count == 1; }));
    const unsigned channels = 1 + kind % 4;
    Vector<std::uint8_t> pixels(size.height * size.width * channels);
    codec.decode(checked, 1, channels, pixels.data(), size.width * channels);
    // A part of it, where the last byte says.
    const std::size_t where = stream.back();
    codec::Region region{where % size.height, where / 3 % size.width, {}};
    region.size = {1 + 7 * where % (size.height - region.top), 1 + 5 * where % (size.width - region.left)};
    const codec::Codec::Stream part = codec.check(stream, parts, 1, kLimits, region);
    Vector<std::uint8_t> some(region.size.height * region.size.width * channels);
    codec.decode(part, 1, channels, some.data(), region.size.width * channels);
    for (std::size_t y = 0; y < region.size.height; ++y) {
      const std::uint8_t* row = &pixels[((region.top + y) * size.width + region.left) * channels];
      fuzz::require(std::equal(row, row + region.size.width * channels, &some[y * region.size.width * channels]));
    }
  } catch (const CorruptStream&) {
  } catch (const codec::WrongCodec&) {
  } catch (const codec::OverLimit&) {
  } catch (const std::invalid_argument&) {
    fuzz::require(parts > codec.coder().previews());
  }
  return 0;
}

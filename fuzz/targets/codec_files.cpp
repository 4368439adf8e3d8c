// Arbitrary bytes as a codec file, whose digest the target mends where the first byte asks for it: an error in words,
// or a codec that encodes a small image and decodes the stream, the same on every instruction set.
#include <algorithm>
#include <stdexcept>

#include "fastlic/codec/codec.hpp"
#include "fastlic/errors.hpp"
#include "fastlic/memory.hpp"
#include "harness.hpp"

using namespace fastlic;

namespace {

constexpr codec::Limits kLimits{1 << 12, 1 << 28};

// SHA-256 of the file as it is with zeros in the digest's place, where there is such a place.
void mend(Vector<std::uint8_t>& file) {
  const String before = "\\\"sha256\\\": \\\"";
  const auto found = std::search(file.begin(), file.end(), before.begin(), before.end());
  if (file.end() - found < static_cast<std::ptrdiff_t>(before.size() + 64)) return;
  const auto place = found + static_cast<std::ptrdiff_t>(before.size());
  std::fill_n(place, 64, std::uint8_t{'0'});
  codec::Sha256 digest;
  digest.update(file);
  const String text = codec::hexadecimal(digest.finish());
  std::copy(text.begin(), text.end(), place);
}

Vector<std::uint8_t> pixels_of(const codec::Codec& codec, const Vector<std::uint8_t>& stream) {
  const codec::Codec::Stream checked = codec.check(stream, 0, 1, kLimits);
  const container::Header& header = checked.header;
  Vector<std::uint8_t> out(3 * std::size_t{header.height} * header.width);
  codec.decode(checked, 1, 3, out.data(), 3 * std::size_t{header.width});
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input input(data, size);
  const unsigned kind = input.take<std::uint8_t>();
  Vector<std::uint8_t> file = input.rest();
  if (kind >= 32) mend(file);
  try {
    const codec::Codec decoder(file, codec::Use::decoding);  // may take what the other refuses
  } catch (const std::invalid_argument&) {
  }
  try {
    const codec::Codec codec(file);
    if (codec.coder().memory({17, 20}, 1, true) > kLimits.memory) return 0;
    Vector<std::uint8_t> image(3 * 17 * 20);
    for (std::size_t i = 0; i < image.size(); ++i) image[i] = static_cast<std::uint8_t>(i * i / 7 + kind);
    const unsigned quality = codec.coder().qualities() > 0 ? codec::kQualitySteps : 0;
    const auto stream =
        fuzz::on_every_isa([&] { return codec.encode({image.data(), 17, 20, 60}, quality, 1, kLimits); });
    const auto pixels = fuzz::on_every_isa([&] { return pixels_of(codec, stream); });
    fuzz::require(pixels.size() == image.size());
    fuzz::require(pixels_of(codec::Codec(file, codec::Use::decoding), stream) == pixels);
  } catch (const std::invalid_argument&) {
  }
  return 0;
}

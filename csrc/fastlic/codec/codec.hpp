// A codec: a file's weights at work. Streams and codec files in, pixels out, and back (docs/format.md).
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <span>

#include "fastlic/codec/coder.hpp"
#include "fastlic/container.hpp"
#include "fastlic/errors.hpp"
#include "fastlic/memory.hpp"
#include "fastlic/plane.hpp"

namespace fastlic::codec {

// The stream was made with other weights.
struct WrongCodec : RuntimeError {
  using RuntimeError::RuntimeError;
};
// More than the caller allows.
struct OverLimit : RuntimeError {
  using RuntimeError::RuntimeError;
};

struct Limits {
  std::uint64_t pixels = 89'478'485;  // of an image; what padding makes of it may be twice that, or 65,536
  std::uint64_t memory = 0;           // by Coder::memory, and what alpha and metadata take beside; 0: any
};

// Safe to share between threads.
class Codec {
 public:
  // Each fault of the file is std::invalid_argument.
  explicit Codec(Input file, Use use = Use::everything);

  const String& name() const noexcept { return name_; }
  const String& family() const noexcept { return family_; }
  const Fingerprint& fingerprint() const noexcept { return fingerprint_; }
  // Of format version 1, for whoever asks: computed then, and kept.
  const Fingerprint& entropy_fingerprint() const;
  const Coder& coder() const noexcept { return *coder_; }
  Use use() const noexcept { return use_; }
  // Whether it decodes the streams that name this fingerprint, its own or a predecessor's.
  bool reads(const container::Header& header) const;

  // A stream that may be decoded: its sections and attachments are views of the bytes, which must stay as they are.
  struct Stream {
    container::Header header;
    Vector<container::Attachment> attachments;
    Vector<std::span<const std::uint8_t>> sections;
    unsigned parts;
    Region region;  // what is to be decoded
  };
  // All that can be told before anything is reserved. `parts`: a preview of so many, 0: all; `region`: a part of the
  // image, none: the whole. Throws CorruptStream, WrongCodec, OverLimit, or std::invalid_argument for parts that there
  // are not.
  Stream check(Input data, unsigned parts, unsigned threads, const Limits& limits,
               const std::optional<Region>& region = std::nullopt) const;
  // Into rows of pixels of the region that begin `stride` bytes apart, as so many channels, whatever the image has: 1
  // grey, 3 red, green and blue; 2 and 4 with alpha, 255 where the image has none. Throws CorruptStream unless the
  // stream holds exactly this image.
  void decode(const Stream& stream, unsigned threads, unsigned channels, std::uint8_t* pixels,
              std::size_t stride) const;
  // Pixels whose channels are one (Pixels::channel = 0) are grey. `alpha`: of the same size, or none. `worth`: as of
  // Coder. Throws OverLimit, or std::invalid_argument of a codec for decoding, for no such quality or worth, or
  // attachments that are not metadata in ascending order.
  Vector<std::uint8_t> encode(const Pixels& pixels, unsigned quality, unsigned threads, const Limits& limits,
                              const std::optional<plane::View<const std::uint8_t>>& alpha = std::nullopt,
                              std::span<const container::Attachment> metadata = {}, double worth = 1) const;

 private:
  // `more`: bytes that attachments take.
  void check_size(MapSize image, unsigned threads, bool encode, const Limits& limits, std::uint64_t more) const;
  bool serves(unsigned quality) const noexcept;

  Use use_;
  String name_, family_;
  Vector<Fingerprint> reads_;
  Fingerprint fingerprint_;
  nn::Arrays entropy_;
  Vector<nn::Buffer<std::uint8_t>> memory_;  // of those
  mutable std::once_flag asked_;
  mutable Fingerprint entropy_fingerprint_;
  std::unique_ptr<Coder> coder_;
};

}  // namespace fastlic::codec

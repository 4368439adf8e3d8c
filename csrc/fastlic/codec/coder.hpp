// What a family of models makes of a codec file: sections of a stream from pixels, and pixels from those.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "fastlic/codec/file.hpp"
#include "fastlic/memory.hpp"
#include "fastlic/nn/network.hpp"
#include "fastlic/nn/transform.hpp"

namespace fastlic::codec {

using nn::MapSize;
using Section = Vector<std::uint8_t>;
using Sections = std::span<const std::span<const std::uint8_t>>;

// Channel c, red, green or blue, of a pixel lies at data[row * stride + column * step + c * channel].
struct Pixels {
  const std::uint8_t* data;
  std::size_t height, width, stride, step = 3, channel = 1;

  std::uint8_t at(std::size_t row, std::size_t column, std::size_t c) const noexcept {
    return data[row * stride + column * step + c * channel];
  }
};

// A part of an image.
struct Region {
  std::size_t top = 0, left = 0;
  MapSize size;
};

// Gets a row of a part of an image, red, green and blue from 0 to 255, pixels `stride` numbers apart: each row once,
// from several threads at once.
using TakeRow = Function<void(std::size_t row, const std::int16_t* rgb, std::size_t stride)>;

constexpr unsigned kQualitySteps = 16;  // qualities are counted in sixteenths; 0: of a codec of one rate

class Coder : public Allocated {
 public:
  virtual ~Coder() = default;

  // Whole ones; 0: one rate.
  virtual unsigned qualities() const noexcept = 0;
  // A stream decodes from its first 1 to so many parts; 0: whole only.
  virtual unsigned previews() const noexcept = 0;
  // How many leading sections a preview of so many parts reads, or a whole image (0).
  virtual std::size_t sections(unsigned parts) const noexcept = 0;
  // What an image is coded as.
  virtual MapSize padded(MapSize image) const noexcept = 0;
  // An upper estimate of the bytes that a call takes beside pixels and streams.
  virtual std::uint64_t memory(MapSize image, unsigned threads, bool encode) const = 0;

  // `worth`: factor of what the codec takes a unit of squared error to be worth, where it has dead zones.
  virtual Vector<Section> encode(const Pixels& pixels, unsigned quality, double worth, unsigned threads) const = 0;
  // Throws CorruptStream if the sections are too short for an image of that size: what decode() reserves stays in
  // proportion to the bytes that came.
  virtual void check(Sections sections, MapSize image, unsigned parts) const = 0;
  // Of sections that check() let pass. Throws CorruptStream unless they hold exactly this image.
  // `region`: the part of the image that is taken.
  virtual void decode(Sections sections, MapSize image, const Region& region, unsigned quality, unsigned parts,
                      unsigned threads, const TakeRow& take) const = 0;
};

// Whether pixels of a Gaussian family, or of McQuic, depend on this array among the file's transforms.
bool decides_gaussian(std::string_view array);
bool decides_mcquic(std::string_view array);
// Whether encoding alone reads it.
bool encodes_gaussian(std::string_view array);
bool encodes_mcquic(std::string_view array);
// The same of any array of a file, by its whole name; of a family that is not known, none is.
bool is_of_encoding(std::string_view family, std::string_view array);

// Each fault is std::invalid_argument that says what is wrong.
// Scale and mean-scale hyperpriors, JAHP, and the MLIC family.
std::unique_ptr<Coder> read_gaussian(const File& file, Use use);
// McQuic.
std::unique_ptr<Coder> read_mcquic(const File& file, Use use);

// ---- what both need

// Bytes for a thread's stack and heap, and for what is small, in estimates of memory.
constexpr std::uint64_t kEach = std::uint64_t{1} << 19;

// Factors [qualities][channels]: f of a whole quality, f (g / f)^(k / 16) at k sixteenths towards the next one's g, by
// square roots and products (docs/transforms.md; twin: fastlic/integers/transforms.py, Gains).
class Gains {
 public:
  // std::invalid_argument unless the array is [qualities, channels] of positive floats.
  Gains(const nn::ArrayReader& arrays, const String& name, std::size_t channels);

  unsigned qualities() const noexcept { return static_cast<unsigned>(factors_.size() / channels_); }
  Vector<double> at(unsigned quality) const;  // [channels]

 private:
  std::size_t channels_;
  Vector<float> factors_;
};

// Refuses a network that does not multiply or divide sides as it should, by layers that all do the one or all the
// other: then the sides of every map that is a whole multiple follow. `side` and `out_side`: of the smallest map.
void require_scale(const String& name, const nn::Network& network, std::size_t side, std::size_t out_side);

// A map of integers, position by position.
struct Map {
  Vector<std::int32_t> values;  // [height][width][channels]
  MapSize size;
  std::size_t channels = 0;
};

// The output of a transform: of a map; of one whose last row and column are repeated up to a size, or of its magnitudes
// so; and of pixels, which are repeated or reflected as `rows` and `columns` say: the row and the column of the image
// that each of the network's input is.
Map run_map(const nn::Transform& transform, const Map& input, Team& team);
Map run_map(const nn::Transform& transform, const Map& input, MapSize size, bool magnitudes, Team& team);
Map run_map(const nn::Transform& transform, const Pixels& pixels, std::span<const std::size_t> rows,
            std::span<const std::size_t> columns, Team& team);
// What of a transform's input a part of its output depends on.
Region needed_of(const nn::Network& network, MapSize input, const Region& region);
// A part of the pixels of a map: of what the part depends on, no more than that is run.
void run_pixels(const nn::Transform& transform, const Map& input, const Region& region, const TakeRow& take,
                Team& team);

}  // namespace fastlic::codec

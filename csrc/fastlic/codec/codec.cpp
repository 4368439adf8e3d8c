#include "fastlic/codec/codec.hpp"

#include <algorithm>
#include <iterator>
#include <string_view>

#include "fastlic/errors.hpp"
#include "fastlic/memory.hpp"
#include "fastlic/parallel.hpp"

namespace fastlic::codec {
namespace {

constexpr std::uint64_t kPaddedPixels = 65'536;
constexpr double kMostWorth = 1000;

// Constructor arguments of models that a fingerprint leaves out: those that are what they are by default.
struct Default {
  std::string_view kind, name, value;
};
constexpr Default kDefaults[] = {
    {"hyperprior", "widths", "null"}, {"hyperprior", "qualities", "0"}, {"hyperprior", "sizes", "null"},
    {"mlic", "widths", "null"},       {"mlic", "qualities", "0"},       {"mlic", "slices", "null"},
    {"mlic", "sizes", "null"},        {"mlic", "generation", "2024"},   {"mlic", "blocks", "0"},
    {"mlic", "early", "false"},  // those of mcquic are tuples, which no list of a file equals
};

std::string_view kind_of(std::string_view family) {
  if (family == "scale" || family == "mean-scale" || family == "jahp") return "hyperprior";
  if (family == "mlic" || family == "mlic+" || family == "mlic++") return "mlic";
  return family == "mcquic" ? family : "";
}

void add(Blake2b& digest, const String& name, const nn::ArrayRef& array) {
  constexpr std::string_view types[] = {"|i1|(", "|u1|(", "<i2|(", "<i4|("};
  const auto put = [&](std::string_view text) { digest.update(bytes_of(text)); };
  put(name);
  put("|");
  put(types[static_cast<std::size_t>(array.type)]);
  for (std::size_t i = 0; i < array.shape.size(); ++i) {
    put(i > 0 ? ", " : "");
    put(to_string(array.shape[i]));
  }
  put(array.shape.size() == 1 ? ",)|" : ")|");
  digest.update({static_cast<const std::uint8_t*>(array.data), array.size() * nn::bytes_of(array.type)});
}

// Of format version 1 (docs/format.md, "Fingerprints").
Fingerprint entropy_fingerprint_of(const nn::Arrays& entropy) {
  Blake2b digest;
  for (const auto& [name, array] : entropy) add(digest, name, array);
  return digest.finish();
}

// Of format version 2.
Fingerprint fingerprint_of(const File& file) {
  const std::string_view kind = kind_of(file.family);
  const auto is_default = [&](std::string_view name, std::string_view value) {
    return std::any_of(std::begin(kDefaults), std::end(kDefaults),
                       [&](const Default& own) { return own.kind == kind && own.name == name && own.value == value; });
  };
  Json config;
  config.kind = Json::Kind::object;
  for (std::size_t i = 0; i < file.config.names.size(); ++i) {
    if (is_default(file.config.names[i], written(file.config.items[i], true))) continue;
    config.names.push_back(file.config.names[i]);
    config.items.push_back(file.config.items[i]);
  }
  Dictionary<String, nn::ArrayRef> arrays = file.entropy;
  for (const auto& [name, array] : file.transforms) {
    if (kind == "mcquic" ? decides_mcquic(name) : decides_gaussian(name)) arrays.emplace("transforms/" + name, array);
  }
  Blake2b digest;
  digest.update(bytes_of(file.family + "|" + written(config, true) + "|"));
  for (const auto& [name, array] : arrays) add(digest, name, array);
  return digest.finish();
}

void check_region(const Region& region, MapSize image) {
  const auto within = [](std::size_t first, std::size_t count, std::size_t size) {
    return count >= 1 && count <= size && first <= size - count;
  };
  if (within(region.top, region.size.height, image.height) && within(region.left, region.size.width, image.width)) {
    return;
  }
  const auto number = [](std::size_t value) { return to_string(value); };
  throw InvalidArgument("a region of " + number(region.size.height) + " x " + number(region.size.width) +
                        " (height x width) at row " + number(region.top) + ", column " + number(region.left) +
                        " does not lie in an image of " + number(image.height) + " x " + number(image.width));
}

}  // namespace

bool is_of_encoding(std::string_view family, std::string_view array) {
  constexpr std::string_view folder = "transforms/";
  if (!array.starts_with(folder)) return false;
  array.remove_prefix(folder.size());
  const std::string_view kind = kind_of(family);
  return !kind.empty() && (kind == "mcquic" ? encodes_mcquic(array) : encodes_gaussian(array));
}

Codec::Codec(Input data, Use use) : use_(use) {
  File file = read_file(data, use);
  const std::string_view kind = kind_of(file.family);
  if (kind.empty()) throw UnsupportedCodec("holds a '" + file.family + "' codec, which this fastlic does not know");
  if (file.transforms.empty()) {
    throw UnsupportedCodec("its transforms are floats; fastlic's Codec.with_integer_transforms makes integers of them");
  }
  name_ = file.name;
  family_ = file.family;
  reads_ = file.reads;
  parallel_for(2, kOpeningThreads, [&](std::size_t job) {
    if (job == 0) coder_ = kind == "mcquic" ? read_mcquic(file, use) : read_gaussian(file, use);
    if (job == 1) fingerprint_ = fingerprint_of(file);
  });
  entropy_ = std::move(file.entropy);
  Set<const void*> own;
  for (const auto& [name, array] : entropy_) own.insert(array.data);
  for (auto& memory : file.memory) {
    if (own.contains(memory.data())) memory_.push_back(std::move(memory));
  }
}

const Fingerprint& Codec::entropy_fingerprint() const {
  std::call_once(asked_, [&] { entropy_fingerprint_ = entropy_fingerprint_of(entropy_); });
  return entropy_fingerprint_;
}

bool Codec::reads(const container::Header& header) const {
  const auto is = [&](const Fingerprint& own) { return own == header.fingerprint; };
  if (header.version < 2) return is(entropy_fingerprint());
  return is(fingerprint_) || std::any_of(reads_.begin(), reads_.end(), is);
}

Codec::Stream Codec::check(Input data, unsigned parts, unsigned threads, const Limits& limits,
                           const std::optional<Region>& region) const {
  const container::Layout layout = container::parse(data);
  const container::Header& header = layout.header;
  if (!reads(header)) {
    const char* model = container::model_name(header.model);
    throw WrongCodec("the stream needs '" + (model != nullptr ? String(model) : to_string(header.model)) +
                     "' weights with fingerprint " + hexadecimal(header.fingerprint) + "; this codec is '" + name_ +
                     "' with " + hexadecimal(header.version < 2 ? entropy_fingerprint() : fingerprint_));
  }
  if (container::model_id(family_) != header.model) {
    throw WrongCodec("model id " + to_string(header.model) + " is not that of family '" + family_ + "'");
  }
  if (!serves(header.quality)) throw CorruptStream("the stream has a quality that its codec does not serve");
  if (parts > coder_->previews()) {
    throw InvalidArgument(coder_->previews() == 0 ? "codec '" + name_ + "' (" + family_ + ") has no previews"
                                                  : "parts must be 0 (all) to " + to_string(coder_->previews()) +
                                                        ", got " + to_string(parts));
  }
  const MapSize image{header.height, header.width};
  if (region) check_region(*region, image);
  std::uint64_t more = header.has_alpha() ? plane::memory(header.height, header.width, false) : 0;
  if (header.has_alpha() && region) more += std::uint64_t{header.height} * header.width;
  check_size(image, threads, false, limits, more);
  const std::size_t wanted = coder_->sections(parts), all = coder_->sections(0);
  if (layout.lengths.size() != all) {
    throw CorruptStream("this model's streams have " + to_string(all) + " sections, this one has " +
                        to_string(layout.lengths.size()));
  }
  Stream stream{header, container::attachments(layout, data),
                container::sections(layout, data, wanted < all ? std::optional(wanted) : std::nullopt),
                parts == coder_->previews() ? 0 : parts, region.value_or(Region{0, 0, image})};
  coder_->check(stream.sections, image, stream.parts);
  return stream;
}

void Codec::decode(const Stream& stream, unsigned threads, unsigned channels, std::uint8_t* pixels,
                   std::size_t stride) const {
  if (channels < 1 || channels > 4) throw InvalidArgument("channels must be 1 to 4");
  const container::Header& header = stream.header;
  const Region& region = stream.region;
  const auto [height, width] = region.size;
  // An image that was grey is grey again: what its coded colours have of a tint goes.
  const bool grey = header.is_grey() || channels < 3;
  const auto take = [&](std::size_t row, const std::int16_t* rgb, std::size_t step) {
    std::uint8_t* out = pixels + row * stride;
    for (std::size_t x = 0; x < region.size.width; ++x, rgb += step, out += channels) {
      if (!grey) {
        for (int c = 0; c < 3; ++c) out[c] = static_cast<std::uint8_t>(rgb[c]);
        continue;
      }
      out[0] = static_cast<std::uint8_t>(
          (19595 * std::uint32_t(rgb[0]) + 38470 * std::uint32_t(rgb[1]) + 7471 * std::uint32_t(rgb[2]) + 32768) >> 16);
      if (channels > 2) out[1] = out[2] = out[0];
    }
  };
  const MapSize image{header.height, header.width};
  coder_->decode(stream.sections, image, region, header.quality, stream.parts, threads, take);
  if (channels % 2 != 0) return;
  const plane::View<std::uint8_t> alpha{pixels + channels - 1, height, width, stride, channels};
  // Kinds ascend: alpha is the first.
  if (header.has_alpha() && height == image.height && width == image.width) {
    return plane::decode(stream.attachments.front().bytes, alpha);
  }
  if (header.has_alpha()) {
    Vector<std::uint8_t> whole(image.height * image.width);
    plane::decode(stream.attachments.front().bytes, {whole.data(), image.height, image.width, image.width, 1});
    for (std::size_t y = 0; y < height; ++y) {
      const std::uint8_t* from = &whole[(region.top + y) * image.width + region.left];
      for (std::size_t x = 0; x < width; ++x) alpha.at(y, x) = from[x];
    }
    return;
  }
  for (std::size_t y = 0; y < height; ++y) {
    for (std::size_t x = 0; x < width; ++x) alpha.at(y, x) = 255;
  }
}

Vector<std::uint8_t> Codec::encode(const Pixels& pixels, unsigned quality, unsigned threads, const Limits& limits,
                                   const std::optional<plane::View<const std::uint8_t>>& alpha,
                                   std::span<const container::Attachment> metadata, double worth) const {
  if (use_ == Use::decoding) throw InvalidArgument("codec '" + name_ + "' was opened for decoding alone");
  if (pixels.height < 1 || pixels.width < 1 || pixels.height > container::kMaxDimension ||
      pixels.width > container::kMaxDimension) {
    throw InvalidArgument("height and width must be 1 to " + to_string(container::kMaxDimension));
  }
  if (!serves(quality)) {
    const String most = to_string(coder_->qualities());
    throw InvalidArgument("codec '" + name_ + "' " +
                          (most == "0" ? "has one fixed rate: quality 0" : "serves qualities 1 to " + most));
  }
  if (!(worth > 0 && worth <= kMostWorth)) throw InvalidArgument("worth must be above 0 and at most 1000");
  std::uint64_t more = alpha ? plane::memory(pixels.height, pixels.width, true) : std::uint64_t{0};
  for (const container::Attachment& own : metadata)
    more += 2 * std::uint64_t{own.bytes.size()};  // in the stream, twice
  check_size({pixels.height, pixels.width}, threads, true, limits, more);
  const Vector<Section> sections = coder_->encode(pixels, quality, worth, threads);
  const Vector<std::span<const std::uint8_t>> views(sections.begin(), sections.end());
  container::Header header{};
  Vector<std::uint8_t> coded;
  Vector<container::Attachment> attachments;
  if (alpha) {
    coded = plane::encode(*alpha);
    attachments.push_back({container::kAlpha, coded});
  }
  attachments.insert(attachments.end(), metadata.begin(), metadata.end());
  header.channels = static_cast<std::uint8_t>((pixels.channel == 0 ? 1 : 3) + (alpha ? 1 : 0));
  header.version = container::version_of(header.channels, attachments.size());
  header.model = static_cast<std::uint8_t>(container::model_id(family_));
  header.quality = static_cast<std::uint8_t>(quality);
  header.fingerprint = fingerprint_;
  header.height = static_cast<std::uint32_t>(pixels.height);
  header.width = static_cast<std::uint32_t>(pixels.width);
  return container::pack(header, views, attachments);
}

bool Codec::serves(unsigned quality) const noexcept {
  const unsigned qualities = coder_->qualities();
  return qualities == 0 ? quality == 0 : quality >= kQualitySteps && quality <= kQualitySteps * qualities;
}

void Codec::check_size(MapSize image, unsigned threads, bool encode, const Limits& limits, std::uint64_t more) const {
  const String size = to_string(image.height) + " x " + to_string(image.width) + " (height x width)";
  const MapSize padded = coder_->padded(image);
  const auto area = [](MapSize own) { return std::uint64_t{own.height} * own.width; };
  if (area(image) > limits.pixels) {
    throw OverLimit("an image of " + size + " has more than the " + to_string(limits.pixels) + " pixels allowed");
  }
  if (area(padded) > kPaddedPixels && area(padded) / 2 > limits.pixels) {
    throw OverLimit("an image of " + size + " is so thin that it is coded as " + to_string(padded.height) + " x " +
                    to_string(padded.width) + ", more than twice the " + to_string(limits.pixels) + " pixels allowed");
  }
  if (limits.memory == 0) return;
  const std::uint64_t needed =
      more + coder_->memory(image, thread_count(threads, static_cast<std::size_t>(-1)), encode);
  if (needed > limits.memory) {
    throw OverLimit("an image of " + size + " takes up to " + to_string(needed) + " bytes of memory, more than the " +
                    to_string(limits.memory) + " allowed");
  }
}

}  // namespace fastlic::codec

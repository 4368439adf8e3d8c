#include "images.hpp"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>

#ifdef FLIC_PNG
#include <png.h>

#include <csetjmp>
#endif

namespace flic::command {
namespace {

constexpr std::uint64_t kMaxSide = (1u << 20) - 1;  // of .flic

using Input = std::span<const std::uint8_t>;

void check_size(std::uint64_t width, std::uint64_t height, std::uint64_t max_pixels) {
  const std::string size = std::to_string(height) + " x " + std::to_string(width) + " (height x width)";
  if (width < 1 || height < 1 || width > kMaxSide || height > kMaxSide) {
    throw Failure("an image of " + size + ": sides must be 1 to " + std::to_string(kMaxSide));
  }
  if (width * height > max_pixels) {
    throw Failure("an image of " + size + " has more than the " + std::to_string(max_pixels) + " pixels allowed");
  }
}

// ---- PPM and PGM

class PnmHead {
 public:
  explicit PnmHead(Input data) : data_(data) {}

  // White space and comments, then a decimal number.
  std::uint64_t number() {
    for (; at_ < data_.size() && (space(data_[at_]) || data_[at_] == '#'); ++at_) {
      if (data_[at_] == '#') {
        while (at_ < data_.size() && data_[at_] != '\n') ++at_;
        if (at_ == data_.size()) break;
      }
    }
    std::uint64_t value = 0;
    const std::size_t first = at_;
    for (; at_ < data_.size() && data_[at_] >= '0' && data_[at_] <= '9'; ++at_) {
      value = std::min<std::uint64_t>(10 * value + (data_[at_] - '0'), std::uint64_t{1} << 40);
    }
    if (at_ == first) throw Failure("damaged image: a number is missing in the head of a PPM or PGM");
    return value;
  }
  // What follows the single white space behind the head.
  Input rest() {
    if (at_ == data_.size() || !space(data_[at_]))
      throw Failure("damaged image: the head of a PPM or PGM does not end");
    return data_.subspan(at_ + 1);
  }

 private:
  static bool space(std::uint8_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

  Input data_;
  std::size_t at_ = 2;
};

Image read_pnm(Input data, std::uint64_t max_pixels) {
  PnmHead head(data);
  const std::uint64_t width = head.number(), height = head.number(), most = head.number();
  if (most != 255) {
    throw Failure("samples up to " + std::to_string(most) + ": images must have 8 bits per sample, 0 to 255");
  }
  check_size(width, height, max_pixels);
  Image image{
      static_cast<std::uint32_t>(width), static_cast<std::uint32_t>(height), data[1] == '6' ? 3u : 1u, {}, {}, {}, {}};
  const Input rest = head.rest();
  const std::uint64_t size = width * height * image.channels;
  if (rest.size() < size) {
    throw Failure("damaged image: " + std::to_string(size) + " bytes of pixels expected, got " +
                  std::to_string(rest.size()));
  }
  image.pixels.assign(rest.begin(), rest.begin() + static_cast<std::ptrdiff_t>(size));
  return image;
}

// ---- PNG

#ifdef FLIC_PNG

// libpng leaves by longjmp, past destructors: what it may leave lies here, outside of the functions that it returns to.
struct Png {
  png_structp png = nullptr;
  png_infop info = nullptr;
  bool lost_profile = false;
  bool writes = false;
  Input data;         // read
  Bytes out, pixels;  // written; read
  std::vector<png_bytep> rows;
  std::size_t at = 0;
  std::uint32_t width = 0, height = 0;
  unsigned channels = 0, bits = 0;
  std::string fault, text;  // XMP that is written

  Png() = default;
  Png(const Png&) = delete;
  Png& operator=(const Png&) = delete;
  ~Png() { writes ? png_destroy_write_struct(&png, &info) : png_destroy_read_struct(&png, &info, nullptr); }
};

constexpr const char* kXmpKey = "XML:com.adobe.xmp";

void on_error(png_structp png, png_const_charp message) {
  static_cast<Png*>(png_get_error_ptr(png))->fault = message;
  png_longjmp(png, 1);
}
// libpng leaves out profiles that are none of these pixels, and says so here.
void on_warning(png_structp png, png_const_charp message) {
  if (std::string_view(message).starts_with("iCCP")) static_cast<Png*>(png_get_error_ptr(png))->lost_profile = true;
}

void read_data(png_structp png, png_bytep to, std::size_t size) {
  Png& own = *static_cast<Png*>(png_get_io_ptr(png));
  if (size > own.data.size() - own.at) png_error(png, "the file ends too early");
  std::memcpy(to, own.data.data() + own.at, size);
  own.at += size;
}

void write_data(png_structp png, png_bytep from, std::size_t size) {
  Bytes& out = static_cast<Png*>(png_get_io_ptr(png))->out;
  bool full = false;
  try {
    out.insert(out.end(), from, from + size);
  } catch (const std::bad_alloc&) {
    full = true;  // no exception may cross libpng
  }
  if (full) png_error(png, "out of memory");
}

bool read_png_head(Png& own) {
  if (setjmp(png_jmpbuf(own.png))) return false;
  png_set_read_fn(own.png, &own, &read_data);
  png_set_user_limits(own.png, kMaxSide, kMaxSide);
  png_read_info(own.png, own.info);
  own.width = png_get_image_width(own.png, own.info);
  own.height = png_get_image_height(own.png, own.info);
  own.bits = png_get_bit_depth(own.png, own.info);
  png_set_expand(own.png);  // palettes, fewer bits, transparent colours
  png_set_interlace_handling(own.png);
  png_read_update_info(own.png, own.info);
  own.channels = png_get_channels(own.png, own.info);
  return true;
}

bool read_png_pixels(Png& own) {
  if (setjmp(png_jmpbuf(own.png))) return false;
  png_read_image(own.png, own.rows.data());
  png_read_end(own.png, own.info);  // text may follow the pixels
  return true;
}

// What libpng holds of the file's; it stays as long as `own` does.
struct PngMetadata {
  Input icc_profile, exif, xmp;
};

PngMetadata metadata_of(const Png& own) {
  PngMetadata out;
  png_charp name = nullptr;
  int method = 0;
  png_bytep bytes = nullptr;
  png_uint_32 size = 0;
  if (png_get_iCCP(own.png, own.info, &name, &method, &bytes, &size) != 0) out.icc_profile = {bytes, size};
#ifdef PNG_eXIf_SUPPORTED
  if (png_get_eXIf_1(own.png, own.info, &size, &bytes) != 0) out.exif = {bytes, size};
#endif
  png_textp texts = nullptr;
  int count = 0;
  png_get_text(own.png, own.info, &texts, &count);
  for (int i = 0; i < count; ++i) {
    if (std::string_view(texts[i].key) != kXmpKey) continue;
    const std::size_t length =
        texts[i].compression >= PNG_ITXT_COMPRESSION_NONE ? texts[i].itxt_length : texts[i].text_length;
    out.xmp = {reinterpret_cast<const std::uint8_t*>(texts[i].text), length};
  }
  return out;
}

// Where EXIF has its orientation, the low byte first or not; the byte, or null: none, or damaged.
std::uint8_t* orientation_of(Bytes& exif) {
  if (exif.size() < 8 || exif[0] != exif[1] || (exif[0] != 'I' && exif[0] != 'M')) return nullptr;
  const bool little = exif[0] == 'I';
  const auto number = [&](std::size_t at, std::size_t size) {
    std::size_t value = 0;
    for (std::size_t i = 0; i < size; ++i) value = value << 8 | exif[little ? at + size - 1 - i : at + i];
    return value;
  };
  constexpr std::size_t kEntry = 12, kOrientation = 0x0112, kShort = 3;
  const std::size_t directory = number(4, 4);
  if (directory > exif.size() - 2) return nullptr;
  const std::size_t count = number(directory, 2);
  for (std::size_t i = 0, at = directory + 2; i < count && at + kEntry <= exif.size(); ++i, at += kEntry) {
    if (number(at, 2) != kOrientation) continue;
    if (number(at + 2, 2) != kShort || number(at + 4, 4) != 1) return nullptr;
    const std::size_t value = number(at + 8, 2);
    return value >= 1 && value <= 8 ? &exif[little ? at + 8 : at + 9] : nullptr;
  }
  return nullptr;
}

// As EXIF numbers them: mirrored (2, 4), turned (3, 6, 8), both (5, 7).
void turn(Image& image, unsigned orientation) {
  const bool swaps = orientation >= 5;
  const bool from_right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool from_below = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  const std::size_t height = image.height, width = image.width, channels = image.channels;
  const Bytes given = std::move(image.pixels);
  image.pixels = Bytes(given.size());
  if (swaps) std::swap(image.height, image.width);
  std::uint8_t* out = image.pixels.data();
  for (std::size_t y = 0; y < image.height; ++y) {
    for (std::size_t x = 0; x < image.width; ++x, out += channels) {
      const std::size_t row = swaps ? x : y, column = swaps ? y : x;
      const std::size_t from =
          (from_below ? height - 1 - row : row) * width + (from_right ? width - 1 - column : column);
      std::copy_n(&given[from * channels], channels, out);
    }
  }
}

Image read_png(Input data, std::uint64_t max_pixels, Notes& notes) {
  Png own;
  own.data = data;
  own.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &own, &on_error, &on_warning);
  if (own.png != nullptr) own.info = png_create_info_struct(own.png);
  if (own.info == nullptr) throw std::bad_alloc();
  const auto damaged = [&] { return Failure("damaged image: " + own.fault); };
  if (!read_png_head(own)) throw damaged();
  if (own.bits > 8) throw Failure("more than 8 bits per sample: images must have 8; convert it first");
  check_size(own.width, own.height, max_pixels);
  const std::size_t channels = own.channels, row = std::size_t{own.width} * channels;
  own.pixels.resize(row * own.height);
  own.rows.resize(own.height);
  for (std::size_t y = 0; y < own.height; ++y) own.rows[y] = &own.pixels[y * row];
  if (!read_png_pixels(own)) throw damaged();
  const PngMetadata metadata = metadata_of(own);
  const auto bytes = [](Input input) { return Bytes(input.begin(), input.end()); };
  Image image{own.width,          own.height, own.channels, {}, bytes(metadata.icc_profile), bytes(metadata.exif),
              bytes(metadata.xmp)};
  // The space that a profile is of stands at byte 16: that of a grey palette's colours is RGB.
  const std::string_view space = image.channels < 3 ? "GRAY" : "RGB ";
  if (image.icc_profile.size() < 20 || std::memcmp(&image.icc_profile[16], space.data(), 4) != 0) {
    if (!image.icc_profile.empty() || own.lost_profile) {
      notes.push_back("colour profile not kept: it is not of these pixels");
    }
    image.icc_profile.clear();
  }
  const auto opaque = [&] {
    for (std::size_t i = channels - 1; i < own.pixels.size(); i += channels) {
      if (own.pixels[i] != 255) return false;
    }
    return true;
  };
  if (channels % 2 == 0 && opaque()) {
    const std::size_t count = own.pixels.size() / channels, kept = channels - 1;
    for (std::size_t i = 0; i < count; ++i) std::copy_n(&own.pixels[i * channels], kept, &own.pixels[i * kept]);
    own.pixels.resize(count * kept);
    --image.channels;
  }
  image.pixels = std::move(own.pixels);
  if (std::uint8_t* orientation = orientation_of(image.exif); orientation != nullptr && *orientation > 1) {
    turn(image, *orientation);
    *orientation = 1;
    notes.push_back("turned upright (EXIF)");
  }
  return image;
}

bool write_png_all(Png& own, int colour, const Image& image) {
  if (setjmp(png_jmpbuf(own.png))) return false;
  png_set_write_fn(own.png, &own, &write_data, nullptr);
  png_set_user_limits(own.png, kMaxSide, kMaxSide);
  // Time before size: a few per cent larger than at zlib's usual level, in a third of the time.
  png_set_compression_level(own.png, 3);
  png_set_filter(own.png, PNG_FILTER_TYPE_BASE, PNG_FILTER_SUB | PNG_FILTER_UP);
  png_set_IHDR(own.png, own.info, own.width, own.height, 8, colour, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
               PNG_FILTER_TYPE_DEFAULT);
  // libpng copies, and takes what is not const. A profile that it does not like is left out, which is no fault.
  const auto of = [](const Bytes& bytes) { return const_cast<png_bytep>(bytes.data()); };
  png_set_benign_errors(own.png, 1);
  if (!image.icc_profile.empty()) {
    png_set_iCCP(own.png, own.info, "icc", PNG_COMPRESSION_TYPE_BASE, of(image.icc_profile),
                 static_cast<png_uint_32>(image.icc_profile.size()));
  }
#ifdef PNG_eXIf_SUPPORTED
  if (!image.exif.empty()) {
    png_set_eXIf_1(own.png, own.info, static_cast<png_uint_32>(image.exif.size()), of(image.exif));
  }
#endif
  if (!own.text.empty()) {
    png_text text{};
    text.compression = PNG_ITXT_COMPRESSION_NONE;
    text.key = const_cast<png_charp>(kXmpKey);
    text.text = own.text.data();
    text.itxt_length = own.text.size();
    text.lang = text.lang_key = const_cast<png_charp>("");
    png_set_text(own.png, own.info, &text, 1);
  }
  png_write_info(own.png, own.info);
  png_write_image(own.png, own.rows.data());
  png_write_end(own.png, nullptr);
  return true;
}

Bytes write_png(const Image& image) {
  Png own;
  own.writes = true;
  own.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &own, &on_error, &on_warning);
  if (own.png != nullptr) own.info = png_create_info_struct(own.png);
  if (own.info == nullptr) throw std::bad_alloc();
  own.width = image.width;
  own.height = image.height;
  const std::size_t row = std::size_t{image.width} * image.channels;
  for (std::size_t y = 0; y < image.height; ++y) {
    own.rows.push_back(const_cast<png_bytep>(image.pixels.data() + y * row));  // libpng does not write there
  }
  own.text.assign(image.xmp.begin(), image.xmp.end());
  own.text.resize(std::min(own.text.size(), own.text.find('\0')));  // text of PNG ends there
  constexpr int kColours[] = {PNG_COLOR_TYPE_GRAY, PNG_COLOR_TYPE_GRAY_ALPHA, PNG_COLOR_TYPE_RGB,
                              PNG_COLOR_TYPE_RGB_ALPHA};
  if (!write_png_all(own, kColours[image.channels - 1], image)) throw Failure(own.fault);
  return std::move(own.out);
}

#endif

bool begins_with(Input data, std::string_view text) {
  return data.size() >= text.size() && std::memcmp(data.data(), text.data(), text.size()) == 0;
}

}  // namespace

bool has_png() noexcept {
#ifdef FLIC_PNG
  return true;
#else
  return false;
#endif
}

Image read_image(Input data, std::uint64_t max_pixels, [[maybe_unused]] Notes& notes) {
  if (begins_with(data, "P6") || begins_with(data, "P5")) return read_pnm(data, max_pixels);
  if (begins_with(data, "\x89PNG\r\n\x1a\n")) {
#ifdef FLIC_PNG
    return read_png(data, max_pixels, notes);
#else
    throw Failure("this flic was built without libpng: convert the PNG to PPM first");
#endif
  }
  throw Failure(has_png() ? "no image that flic reads: PNG, PPM (P6) or PGM (P5)"
                          : "no image that flic reads: PPM (P6) or PGM (P5)");
}

Bytes image_file(const Image& image, Format format) {
#ifdef FLIC_PNG
  if (format == Format::png) return write_png(image);
#endif
  const std::string head = (format == Format::pgm ? "P5\n" : "P6\n") + std::to_string(image.width) + " " +
                           std::to_string(image.height) + "\n255\n";
  Bytes out(head.begin(), head.end());
  out.insert(out.end(), image.pixels.begin(), image.pixels.end());
  return out;
}

}  // namespace flic::command

// The command flic, over flic.h alone: info, decode, encode.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#if defined(__linux__) && defined(__GLIBC__)  // which the headers above define
#include <malloc.h>
#include <sys/mman.h>
#endif

#include "files.hpp"
#include "flic.h"
#include "images.hpp"

namespace flic::command {
namespace {

constexpr const char* kUsage =
    "usage: flic info FILE...\n"
    "       flic decode IN.flic OUT.%s [options]\n"
    "       flic encode IN.%s OUT.flic [options]\n"
    "\n"
    "info describes .flic images and codec files. IN and OUT may be -, standard input and output; an image on "
    "standard\n"
    "output is PPM. OUT.pgm is grey. Images have 8 bits per sample. PNG keeps transparency, colour profile, EXIF and "
    "XMP.\n"
    "\n"
    "  -q, --quality Q      encode: 1 (smallest) to 8 (best) in steps of 1/16; default 4\n"
    "  -c, --codec NAME     weights: the name of a codec or the path of its file; default: what the stream names,\n"
    "                       jahp to encode\n"
    "      --strip          encode: leave out colour profile, EXIF and XMP\n"
    "      --parts N        decode: a preview of the first N parts of a stream (mlic++: slices, mcquic: levels)\n"
    "      --region WxH+X+Y decode: so many columns and rows, behind X columns and Y rows, alone\n"
    "  -t, --threads N      default: one per core; pixels and bytes do not depend on it\n"
    "      --max-pixels N   refuse larger images; default 89478485\n"
    "      --max-memory N   refuse what may take more bytes beside codec and pixels; N may end with K, M or G\n"
    "  -h, --help\n"
    "      --version\n"
    "\n"
    "Codec files, NAME.safetensors, are looked for within the command, in the folders of $FLIC_WEIGHTS (separated by\n"
    "colons), beside the command, in ../share/flic from there, and in %s.\n"
    "Exit status: 0 done, 1 failed, 2 wrong usage.\n";

struct Usage : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Arguments {
  std::string command;
  std::vector<std::string> files;
  std::optional<std::string> codec;
  std::optional<double> quality;
  bool strip = false;
  std::optional<flic_region> region;
  flic_options options{
      sizeof(flic_options), FLIC_RGB, 0, 0, 89'478'485, 0, nullptr, nullptr, nullptr, nullptr, nullptr};
};

// ---- arguments

std::uint64_t count_of(const std::string& option, const std::string& text, std::uint64_t most, bool sized = false) {
  std::string digits = text;
  std::uint64_t unit = 1;
  if (sized && !digits.empty()) {
    const auto found = std::string_view("KMG").find(static_cast<char>(digits.back() & ~0x20));
    if (found != std::string_view::npos) {
      unit = std::uint64_t{1} << 10 * (found + 1);
      digits.pop_back();
    }
  }
  std::uint64_t value = 0;
  bool good = !digits.empty() && digits.find_first_not_of("0123456789") == std::string::npos;
  for (std::size_t i = 0; good && i < digits.size(); ++i) {
    const auto digit = static_cast<std::uint64_t>(digits[i] - '0');
    good = digit <= most / unit && value <= (most / unit - digit) / 10;
    value = 10 * value + digit;
  }
  if (!good) throw Usage(option + " must be a number from 0 to " + std::to_string(most) + ", got '" + text + "'");
  return value * unit;
}

double quality_of(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !std::isfinite(value)) {
    throw Usage("--quality must be a number, got '" + text + "'");
  }
  return value;
}

flic_region region_of(const std::string& text) {
  flic_region out{};
  int end = 0;
  // scanf itself takes signs and white space before a number.
  const bool plain = text.find_first_not_of("0123456789x+") == std::string::npos && !text.starts_with('+') &&
                     text.find("++") == std::string::npos && text.find("x+") == std::string::npos;
  const bool good = std::sscanf(text.c_str(), "%9" SCNu32 "x%9" SCNu32 "+%9" SCNu32 "+%9" SCNu32 "%n", &out.width,
                                &out.height, &out.left, &out.top, &end) == 4;
  if (!plain || !good || static_cast<std::size_t>(end) != text.size()) {
    throw Usage("--region must be WxH+X+Y, such as 640x480+0+100, got '" + text + "'");
  }
  return out;
}

Arguments parsed(int count, char** given) {
  Arguments out;
  std::vector<std::string> rest(given + 1, given + count);
  bool options = true;  // until --
  for (std::size_t i = 0; i < rest.size(); ++i) {
    std::string own = rest[i];
    if (options && own == "--") {
      options = false;
      continue;
    }
    if (!options || own.size() < 2 || own[0] != '-') {
      out.command.empty() ? out.command = own : out.files.emplace_back(own);
      continue;
    }
    std::optional<std::string> value;
    if (const auto sign = own.find('='); own.starts_with("--") && sign != std::string::npos) {
      value = own.substr(sign + 1);
      own.resize(sign);
    }
    const auto take = [&]() -> std::string {
      if (value) return *value;
      if (i + 1 == rest.size()) throw Usage(own + " needs a value");
      return rest[++i];
    };
    const auto only = [&](const char* command) {
      if (out.command != command) throw Usage(own + " is an option of 'flic " + command + "'");
    };
    if (own == "-h" || own == "--help") {
      const char* image = has_png() ? "png|ppm" : "ppm";
      std::printf(kUsage, image, image, FLIC_FOLDER);
      std::exit(std::fflush(stdout) == 0 ? 0 : 1);
    } else if (own == "--version") {
      std::printf("flic %u.%u.%u\n", flic_version() / 10000, flic_version() / 100 % 100, flic_version() % 100);
      std::exit(std::fflush(stdout) == 0 ? 0 : 1);
    } else if (own == "-q" || own == "--quality") {
      only("encode");
      out.quality = quality_of(take());
    } else if (own == "--strip") {
      only("encode");
      out.strip = true;
    } else if (own == "-c" || own == "--codec") {
      out.codec = take();
    } else if (own == "--parts") {
      only("decode");
      out.options.parts = static_cast<std::uint32_t>(count_of(own, take(), UINT32_MAX));
    } else if (own == "--region") {
      only("decode");
      out.region = region_of(take());
    } else if (own == "-t" || own == "--threads") {
      out.options.threads = static_cast<std::uint32_t>(count_of(own, take(), UINT32_MAX));
    } else if (own == "--max-pixels") {
      out.options.max_pixels = count_of(own, take(), INT64_MAX);
      if (out.options.max_pixels == 0) throw Usage("--max-pixels must be at least 1");
    } else if (own == "--max-memory") {
      out.options.max_memory = count_of(own, take(), INT64_MAX, true);
    } else {
      throw Usage("there is no option " + own);
    }
  }
  if (out.command.empty()) throw Usage("a command is missing: info, decode or encode");
  if (out.command == "info") {
    if (out.files.empty()) throw Usage("flic info needs a file");
  } else if (out.command != "decode" && out.command != "encode") {
    throw Usage("there is no command '" + out.command + "': info, decode or encode");
  } else if (out.files.size() != 2) {
    throw Usage("flic " + out.command + " needs two files, IN and OUT");
  }
  return out;
}

// ---- codecs

struct Close {
  void operator()(flic_codec* codec) const { flic_codec_close(codec); }
};
using Codec = std::unique_ptr<flic_codec, Close>;

void check(const std::string& path, flic_status status, const flic_error& error) {
  if (status != FLIC_OK) throw Failure(path + ": " + error.message);
}

std::string hexadecimal(const std::uint8_t (&fingerprint)[FLIC_FINGERPRINT_BYTES]) {
  char out[2 * FLIC_FINGERPRINT_BYTES + 1];
  for (int i = 0; i < FLIC_FINGERPRINT_BYTES; ++i) std::snprintf(out + 2 * i, 3, "%02x", fingerprint[i]);
  return out;
}

// A codec that may be opened: a file, or bytes within the library.
struct Place {
  std::string name;  // "jahp"
  std::string path;  // for messages, too
  const void* data = nullptr;
  std::size_t size = 0;

  Codec open(bool decode_only) const {
    flic_open_options options = FLIC_OPEN_OPTIONS_INIT;
    options.decode_only = decode_only ? 1 : 0;
    flic_codec* codec = nullptr;
    flic_error error;
    const flic_status status = data != nullptr ? flic_codec_open_memory_with(data, size, &options, &codec, &error)
                                               : flic_codec_open_file_with(path.c_str(), &options, &codec, &error);
    if (status == FLIC_IO) throw Failure(error.message);  // has the path
    check(path, status, error);
    return Codec(codec);
  }

  // Whether the file says of itself that it is of another family: what needs not be opened. Its description is JSON
  // within JSON (docs/format.md).
  bool is_of_another(const std::string& family) const {
    constexpr std::size_t kHead = 4096;  // the description comes first
    std::string head;
    if (data != nullptr) {
      head.assign(static_cast<const char*>(data), std::min(size, kHead));
    } else {
      try {
        const Bytes bytes = read_beginning(path, kHead);
        head.assign(bytes.begin(), bytes.end());
      } catch (const Failure&) {
        return false;  // opening it will say why
      }
    }
    const std::string before = "\\\"family\\\": \\\"";
    const auto at = head.find(before);
    return at != std::string::npos && head.compare(at + before.size(), family.size() + 2, family + "\\\"") != 0;
  }
};

std::vector<std::string> folders() {
  std::vector<std::string> out;
  if (const char* named = std::getenv("FLIC_WEIGHTS"); named != nullptr) {
    for (std::string_view rest = named; !rest.empty();) {
      const auto end = std::min(rest.find(':'), rest.size());
      if (end > 0) out.emplace_back(rest.substr(0, end));
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
  }
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (!error) {
    out.push_back(self.parent_path().string());
    out.push_back((self.parent_path().parent_path() / "share" / "flic").string());
  }
  if (std::find(out.begin(), out.end(), FLIC_FOLDER) == out.end()) out.emplace_back(FLIC_FOLDER);
  return out;
}

std::vector<Place> places() {
  std::vector<Place> out;
  const char* name = nullptr;
  std::size_t size = 0;
  for (std::uint32_t i = 0; const void* data = flic_embedded(i, &name, &size); ++i) {
    out.push_back({name, std::string(name) + " (within flic)", data, size});
  }
  for (const std::string& folder : folders()) {
    std::error_code error;
    std::vector<Place> here;
    for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
      const std::filesystem::path& path = it->path();
      if (path.extension() == ".safetensors") here.push_back({path.stem().string(), path.string()});
    }
    std::sort(here.begin(), here.end(), [](const Place& a, const Place& b) { return a.path < b.path; });
    out.insert(out.end(), here.begin(), here.end());
  }
  return out;
}

std::string looked_in() {
  std::string out;
  for (const std::string& folder : folders()) out += (out.empty() ? "" : ", ") + folder;
  return out;
}

// A path, or the name of a codec at hand.
Codec codec_named(const std::string& name, bool decode_only) {
  if (name.find('/') != std::string::npos || name.ends_with(".safetensors")) return Place{name, name}.open(decode_only);
  for (const Place& place : places()) {
    if (place.name == name) return place.open(decode_only);
  }
  throw Failure("no codec '" + name + "' at hand: looked for " + name + ".safetensors in " + looked_in());
}

// For decoding.
Codec codec_for(const std::string& path, const flic_header& header) {
  const char* known = flic_model_name(header.model);
  const std::string family = known != nullptr ? known : "";
  std::vector<Place> all = places();
  // Opening takes longer than decoding a small image: the likeliest first.
  std::stable_partition(all.begin(), all.end(), [&](const Place& place) { return place.name == family; });
  std::string faults;
  for (const Place& place : all) {
    if (place.is_of_another(family)) continue;
    try {
      Codec codec = place.open(true);
      if (flic_codec_reads(codec.get(), &header) == 1) return codec;
    } catch (const Failure& failure) {
      faults += std::string("; ") + failure.what();
    }
  }
  throw Failure(path + ": needs a codec of family '" + (family.empty() ? std::to_string(header.model) : family) +
                "' with fingerprint " + hexadecimal(header.fingerprint) + ", which is not in " + looked_in() +
                ": name its file with --codec" + faults);
}

// ---- commands

void line(const char* label, const std::string& value) { std::printf("%-20s%s\n", label, value.c_str()); }

std::string number(double value) {
  char out[32];
  std::snprintf(out, sizeof out, "%g", value);
  return out;
}

void describe_stream(const flic_header& header, std::size_t size, const flic_metadata& metadata) {
  const char* name = flic_model_name(header.model);
  line("format version", std::to_string(header.version));
  line("model", name != nullptr ? name : std::to_string(header.model));
  line("fingerprint", hexadecimal(header.fingerprint));
  line("quality", header.quality > 0 ? number(header.quality) : "fixed");
  line("width", std::to_string(header.width));
  line("height", std::to_string(header.height));
  constexpr const char* kChannels[] = {"grey", "grey and alpha", "RGB", "RGB and alpha"};
  line("channels", kChannels[header.channels - 1]);
  const auto piece = [](const char* label, const flic_bytes& own) {
    if (own.size > 0) line(label, std::to_string(own.size) + " bytes");
  };
  piece("colour profile", metadata.icc_profile);
  piece("EXIF", metadata.exif);
  piece("XMP", metadata.xmp);
  line("bytes", std::to_string(size));
  line("bpp", number(8.0 * static_cast<double>(size) / header.width / header.height));
  line("framing bytes", std::to_string(header.framing_bytes));
  line("sections", std::to_string(header.sections));
}

void describe_codec(const std::string& path, const Bytes& data) {
  flic_codec* opened = nullptr;
  flic_error error;
  check(path, flic_codec_open_memory(data.data(), data.size(), &opened, &error), error);
  const Codec codec(opened);
  flic_codec_info info;
  check(path, flic_codec_get_info(codec.get(), &info, &error), error);
  line("codec", info.name);
  line("family", info.family);
  line("fingerprint", hexadecimal(info.fingerprint));
  line("entropy fingerprint", hexadecimal(info.entropy_fingerprint));
  line("qualities", info.qualities > 0 ? "1 to " + std::to_string(info.qualities) : "fixed");
  line("previews", info.previews > 0 ? "1 to " + std::to_string(info.previews) + " parts" : "none");
  line("bytes", std::to_string(data.size()));
}

int info(const Arguments& arguments) {
  int failed = 0;
  for (const std::string& path : arguments.files) {
    try {
      const Bytes data = read_whole(path);
      if (arguments.files.size() > 1)
        std::printf("%s%s:\n", &path == &arguments.files.front() ? "" : "\n", path.c_str());
      // The JSON behind a safetensors file's length begins with a brace.
      if (data.size() > 8 && data[8] == '{' && std::memcmp(data.data(), "FLIC", 4) != 0) {
        describe_codec(path, data);
      } else {
        flic_header header;
        flic_error error;
        check(path, flic_read_header(data.data(), data.size(), &header, &error), error);
        flic_metadata metadata;
        check(path, flic_read_metadata(data.data(), data.size(), &metadata, &error), error);
        describe_stream(header, data.size(), metadata);
      }
    } catch (const Failure& failure) {
      std::fflush(stdout);
      std::fprintf(stderr, "flic: %s\n", failure.what());
      failed = 1;
    }
  }
  return failed;
}

Format format_of(const std::string& path) {
  std::string ending = path == "-" ? ".ppm" : std::filesystem::path(path).extension().string();
  for (char& c : ending) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
  if (ending == ".ppm") return Format::ppm;
  if (ending == ".pgm") return Format::pgm;
  if (ending == ".png" && has_png()) return Format::png;
  if (ending == ".png") throw Usage("this flic was built without libpng: write " + path + " as .ppm");
  throw Usage("images are written as " + std::string(has_png() ? ".png, " : "") + ".ppm or .pgm, not as " + path);
}

std::uint32_t format_of_channels(unsigned channels) {
  constexpr std::uint32_t kFormats[] = {FLIC_GREY, FLIC_GREY_ALPHA, FLIC_RGB, FLIC_RGBA};
  return kFormats[channels - 1];
}

int decode(Arguments& arguments) {
  const std::string &from = arguments.files[0], &to = arguments.files[1];
  const Format format = format_of(to);
  flic_options& options = arguments.options;
  const Bytes data = read_whole(from);
  flic_header header;
  flic_error error;
  check(from, flic_read_header(data.data(), data.size(), &header, &error), error);
  // Before pixels of that size are reserved here.
  if (std::uint64_t{header.width} * header.height > options.max_pixels) {
    throw Failure(from + ": an image of " + std::to_string(header.height) + " x " + std::to_string(header.width) +
                  " (height x width) has more than the " + std::to_string(options.max_pixels) + " pixels allowed");
  }
  const Codec codec = arguments.codec ? codec_named(*arguments.codec, true) : codec_for(from, header);
  // PPM has no grey images, PGM no others.
  Image image{header.width, header.height, header.channels, {}, {}, {}, {}};
  if (arguments.region) {
    const flic_region& own = *arguments.region;
    // As flic_decode says it, but before pixels of that size are reserved here.
    if (std::uint64_t{own.left} + own.width > header.width || std::uint64_t{own.top} + own.height > header.height ||
        own.width == 0 || own.height == 0) {
      throw Failure(from + ": the region does not lie in an image of " + std::to_string(header.height) + " x " +
                    std::to_string(header.width) + " (height x width)");
    }
    image.width = own.width;
    image.height = own.height;
    options.region = &own;
  }
  if (format != Format::png) {
    if (header.channels % 2 == 0) std::fprintf(stderr, "flic: %s: transparency is left out: PNG has it\n", to.c_str());
    image.channels = format == Format::pgm ? 1 : 3;
  }
  flic_metadata metadata;
  check(from, flic_read_metadata(data.data(), data.size(), &metadata, &error), error);
  const auto taken = [](const flic_bytes& own) {
    const auto* first = static_cast<const std::uint8_t*>(own.data);
    return own.size > 0 ? Bytes(first, first + own.size) : Bytes();
  };
  image.icc_profile = taken(metadata.icc_profile);
  image.exif = taken(metadata.exif);
  image.xmp = taken(metadata.xmp);
  options.format = format_of_channels(image.channels);
  const std::size_t stride = std::size_t{image.width} * image.channels;
  image.pixels.resize(stride * image.height);
  check(from,
        flic_decode(codec.get(), data.data(), data.size(), &options, image.pixels.data(), image.pixels.size(), stride,
                    &error),
        error);
  write_whole(to, image_file(image, format));
  return 0;
}

int encode(Arguments& arguments) {
  const std::string &from = arguments.files[0], &to = arguments.files[1];
  flic_options& options = arguments.options;
  Image image;
  Notes notes;
  try {
    image = read_image(read_whole(from), options.max_pixels, notes);
  } catch (const Failure& failure) {
    const std::string fault = failure.what();
    throw Failure(fault.starts_with(from + ": ") ? fault : from + ": " + fault);
  }
  for (const std::string& note : notes) std::fprintf(stderr, "flic: %s: %s\n", from.c_str(), note.c_str());
  const Codec codec = codec_named(arguments.codec.value_or("jahp"), false);
  flic_error error;
  flic_codec_info info;
  check(from, flic_codec_get_info(codec.get(), &info, &error), error);
  const double quality = arguments.quality.value_or(info.qualities == 0 ? 0 : std::min(4u, info.qualities));
  options.format = format_of_channels(image.channels);
  const auto view = [](const Bytes& bytes) { return flic_bytes{bytes.data(), bytes.size()}; };
  const flic_metadata metadata{view(image.icc_profile), view(image.exif), view(image.xmp)};
  if (!arguments.strip) options.metadata = &metadata;
  std::uint8_t* stream = nullptr;
  std::size_t size = 0;
  const std::size_t stride = std::size_t{image.width} * image.channels;
  check(from,
        flic_encode(codec.get(), image.pixels.data(), image.width, image.height, stride, quality, &options, &stream,
                    &size, &error),
        error);
  const std::unique_ptr<std::uint8_t, void (*)(void*)> owned(stream, &flic_free);
  write_whole(to, {stream, size});
  return 0;
}

// A process that lives for one image spends a fifth of its time on page faults: its memory is one heap, the first part
// of which asks for large pages and none of which is given back.
void take_large_pages() {
#if defined(__linux__) && defined(__GLIBC__)
  constexpr std::size_t kHeap = std::size_t{64} << 20, kPage = std::size_t{2} << 20;
  // The largest that every glibc takes; without it large buffers would be mapped one by one.
  if (mallopt(M_MMAP_THRESHOLD, static_cast<int>(4 * 1024 * 1024 * sizeof(long))) == 0) return;
  mallopt(M_ARENA_MAX, 1);
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
  mallopt(M_TOP_PAD, static_cast<int>(kHeap));
  void* grown = std::malloc(kPage);  // more than what is there
  const auto last = reinterpret_cast<std::uintptr_t>(sbrk(0)) / kPage * kPage;
  if (last != 0 && grown != nullptr)
    madvise(reinterpret_cast<void*>(last - kHeap + kPage), kHeap - kPage, MADV_HUGEPAGE);
  std::free(grown);
  mallopt(M_TOP_PAD, static_cast<int>(kPage));
#endif
}

int run(int count, char** given) {
  take_large_pages();
  Arguments arguments = parsed(count, given);
  if (arguments.command == "info") return info(arguments);
  return arguments.command == "decode" ? decode(arguments) : encode(arguments);
}

}  // namespace
}  // namespace flic::command

int main(int count, char** arguments) {
  using namespace flic::command;
  const auto said = [](const char* text, int status) {
    std::fprintf(stderr, "flic: %s\n", text);
    return status;
  };
  try {
    const int status = run(count, arguments);
    if (std::fflush(stdout) != 0) return said(std::strerror(errno), 1);
    return status;
  } catch (const Usage& usage) {
    std::fprintf(stderr, "flic: %s\nflic --help tells more\n", usage.what());
    return 2;
  } catch (const std::bad_alloc&) {
    return said("out of memory", 1);
  } catch (const std::exception& error) {
    return said(error.what(), 1);
  }
}

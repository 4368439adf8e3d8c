// The C interface over fastlic/codec: every exception becomes a status and its words.
#include "flic.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

#include "fastlic/codec/codec.hpp"
#include "fastlic/errors.hpp"
#include "fastlic/memory.hpp"
#include "fastlic/parallel.hpp"
#include "fastlic/progress.hpp"
#ifdef FLIC_EMBEDDED
#include "libflic/embedded.hpp"
#endif

struct flic_codec : fastlic::Allocated {
  flic_codec(fastlic::codec::Input data, fastlic::codec::Use use, const fastlic::Resource& from)
      : codec(data, use), memory(from) {}

  fastlic::codec::Codec codec;
  fastlic::Resource memory;
};

namespace {

using fastlic::MemoryFrom;
using fastlic::Resource;
using fastlic::String;
using fastlic::to_string;
using fastlic::Vector;
using fastlic::codec::Codec;
using fastlic::codec::Limits;
using fastlic::codec::Pixels;
namespace container = fastlic::container;

constexpr std::uint64_t kMostFile = std::uint64_t{1} << 30;  // what never ends, ends here
// Where a codec file's JSON begins: what has no brace there, such as /dev/zero, is not read to its end.
constexpr std::size_t kBrace = 8;
// Before the bytes that flic_encode gives: how many flic_free frees.
constexpr std::size_t kSizeRoom = alignof(std::max_align_t);

struct Unreadable : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Stopped {};

// What a program wants to hear, as the core tells it.
std::function<void(double)> teller(const flic_options& options) {
  if (options.progress == nullptr) return {};
  return [tell = options.progress, user = options.user](double share) {
    if (tell(user, share) != 0) throw Stopped();
  };
}

flic_status say(flic_error* error, flic_status status, const char* message) {
  if (error != nullptr) {
    error->status = status;
    std::snprintf(error->message, sizeof error->message, "%s", message);
    // No half of a character at the end.
    std::size_t end = std::strlen(error->message);
    if (end + 1 == sizeof error->message) {
      while (end > 0 && (static_cast<unsigned char>(error->message[end - 1]) & 0xC0) == 0x80) --end;
      if (end > 0 && static_cast<unsigned char>(error->message[end - 1]) >= 0xC0) --end;
      error->message[end] = '\0';
    }
  }
  return status;
}

// misuse: what std::invalid_argument means here, the caller's fault or the codec file's.
template <typename Work>
flic_status guarded(flic_error* error, flic_status misuse, const Work& work) noexcept {
  try {
    work();
    return say(error, FLIC_OK, "");
  } catch (const Stopped&) {
    return say(error, FLIC_STOPPED, "stopped by progress of the options");
  } catch (const Unreadable& e) {
    return say(error, FLIC_IO, e.what());
  } catch (const fastlic::UnsupportedVersion& e) {
    return say(error, FLIC_UNSUPPORTED, e.what());
  } catch (const fastlic::CorruptStream& e) {
    return say(error, misuse == FLIC_CORRUPT_CODEC ? misuse : FLIC_CORRUPT_STREAM, e.what());
  } catch (const fastlic::codec::UnsupportedCodec& e) {
    return say(error, FLIC_UNSUPPORTED, e.what());
  } catch (const fastlic::codec::WrongCodec& e) {
    return say(error, FLIC_WRONG_CODEC, e.what());
  } catch (const fastlic::codec::OverLimit& e) {
    return say(error, FLIC_LIMIT, e.what());
  } catch (const std::invalid_argument& e) {
    return say(error, misuse, e.what());
  } catch (const std::bad_alloc&) {
    return say(error, FLIC_OUT_OF_MEMORY, "out of memory");
  } catch (const std::length_error&) {
    return say(error, FLIC_OUT_OF_MEMORY, "out of memory");
  } catch (const std::exception& e) {
    return say(error, FLIC_INTERNAL, e.what());
  } catch (...) {
    return say(error, FLIC_INTERNAL, "unknown");
  }
}

void require(bool good, std::string_view fault) {
  if (!good) throw fastlic::InvalidArgument(fault);
}

Resource resource_of(const flic_allocator& allocator) {
  require(allocator.allocate != nullptr && allocator.release != nullptr,
          "allocate and release of an allocator must not be NULL");
  return {allocator.allocate, allocator.release, allocator.user};
}

// Memory of a call. What threads keep from call to call is no program's: it goes before, and after.
class CallMemory {
 public:
  explicit CallMemory(const Resource& resource) noexcept : theirs_(resource.allocate != nullptr), from_(resource) {
    if (theirs_) fastlic::Kept::drop_all();
  }
  ~CallMemory() {
    if (theirs_) fastlic::Kept::drop_all();
  }
  CallMemory(const CallMemory&) = delete;
  CallMemory& operator=(const CallMemory&) = delete;

 private:
  bool theirs_;
  MemoryFrom from_;
};

// Memory of calls that have no codec: headers take up to 16 kB.
class StackMemory {
 public:
  Resource resource() noexcept {
    return {&StackMemory::take, [](void*, void*, std::size_t) {}, this};
  }

 private:
  static void* take(void* user, std::size_t size, std::size_t alignment) {
    auto* own = static_cast<StackMemory*>(user);
    const std::size_t begin = (own->used_ + alignment - 1) / alignment * alignment;
    if (begin > sizeof own->room_ || size > sizeof own->room_ - begin) return nullptr;
    own->used_ = begin + size;
    return own->room_ + begin;
  }

  alignas(64) std::byte room_[std::size_t{20} << 10];
  std::size_t used_ = 0;
};

// The part of `options` that a program knows which may be older than this.
template <typename Options>
Options known(const Options* options, Options own, std::size_t least, const char* fault) {
  if (options == nullptr) return own;
  require(options->struct_size >= least, fault);
  std::memcpy(&own, options, std::min(options->struct_size, sizeof own));
  own.struct_size = sizeof own;
  return own;
}

template <typename Read>
flic_status open_codec(const flic_open_options* options, flic_codec** codec, flic_error* error, const Read& read) {
  flic_open_options own = FLIC_OPEN_OPTIONS_INIT;
  Resource memory;
  const flic_status bad = guarded(error, FLIC_INVALID_ARGUMENT, [&] {
    own = known(options, own, offsetof(flic_open_options, allocator), "options begin with FLIC_OPEN_OPTIONS_INIT");
    require(own.reserved == 0, "reserved must be 0");
    if (own.allocator != nullptr) memory = resource_of(*own.allocator);
  });
  if (bad != FLIC_OK) return bad;
  return guarded(error, FLIC_CORRUPT_CODEC, [&] {
    const CallMemory from(memory);
    const auto use = own.decode_only != 0 ? fastlic::codec::Use::decoding : fastlic::codec::Use::everything;
    *codec = new flic_codec(read(), use, memory);
  });
}

fastlic::codec::Input input(const void* data, std::size_t size) {
  require(data != nullptr || size == 0, "data must not be NULL");
  return {static_cast<const std::uint8_t*>(data), size};
}

flic_options taken(const flic_options* options) {
  const flic_options own = known(options, flic_options FLIC_OPTIONS_INIT, offsetof(flic_options, format),
                                 "options begin with FLIC_OPTIONS_INIT");
  require(own.format <= FLIC_GREY_ALPHA, "format must be FLIC_RGB, FLIC_RGBA, FLIC_GREY or FLIC_GREY_ALPHA");
  return own;
}

Resource memory_of(const flic_codec& codec, const flic_options& options) {
  return options.allocator != nullptr ? resource_of(*options.allocator) : codec.memory;
}

Limits limits_of(const flic_options& options) {
  Limits limits;
  if (options.max_pixels != 0) limits.pixels = options.max_pixels;
  limits.memory = options.max_memory;
  return limits;
}

std::optional<fastlic::codec::Region> region_of(const flic_options& options) {
  if (options.region == nullptr) return {};
  const flic_region& own = *options.region;
  return fastlic::codec::Region{own.top, own.left, {own.height, own.width}};
}

unsigned channels_of(std::uint32_t format) {
  return format == FLIC_GREY ? 1 : format == FLIC_GREY_ALPHA ? 2 : format == FLIC_RGB ? 3 : 4;
}

void check_rows(const void* pixels, std::size_t width, std::size_t stride, std::uint32_t format) {
  require(pixels != nullptr, "pixels must not be NULL");
  const std::uint64_t least = std::uint64_t{width} * channels_of(format);
  require(stride >= least, "stride must be at least " + to_string(least) + " bytes, got " + to_string(stride));
}

Vector<container::Attachment> attachments_of(const flic_metadata* metadata) {
  Vector<container::Attachment> out;
  if (metadata == nullptr) return out;
  const auto add = [&](container::Kind kind, const flic_bytes& own, const char* name) {
    require(own.data != nullptr || own.size == 0, String(name) + " must not be NULL");
    if (own.size > 0) out.push_back({kind, {static_cast<const std::uint8_t*>(own.data), own.size}});
  };
  add(container::kIccProfile, metadata->icc_profile, "icc_profile");
  add(container::kExif, metadata->exif, "exif");
  add(container::kXmp, metadata->xmp, "xmp");
  return out;
}

Vector<std::uint8_t> read_file(const char* path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path, "rb"), &std::fclose);
  if (!file) throw Unreadable(std::string(path) + " cannot be opened: " + std::strerror(errno));
  // One byte more than a file says that it has tells that it ends there; pipes say nothing.
  std::size_t room = std::size_t{1} << 16, used = 0;
  if (std::fseek(file.get(), 0, SEEK_END) == 0) {
    const long end = std::ftell(file.get());
    if (end > 0 && static_cast<std::uint64_t>(end) < kMostFile)
      room = std::max(room, static_cast<std::size_t>(end) + 1);
    std::rewind(file.get());
  }
  Vector<std::uint8_t> data;
  while (true) {
    data.resize(room);
    used += std::fread(data.data() + used, 1, room - used, file.get());
    if (used < room || data[kBrace] != '{') break;
    if (room > kMostFile) throw Unreadable(std::string(path) + " has more than the 2^30 bytes of a codec file");
    room *= 2;
  }
  if (std::ferror(file.get()) != 0) throw Unreadable(std::string(path) + " cannot be read: " + std::strerror(errno));
  data.resize(used);
  return data;
}

}  // namespace

extern "C" {

uint32_t flic_version(void) { return FLIC_VERSION_MAJOR * 10000u + FLIC_VERSION_MINOR * 100u + FLIC_VERSION_PATCH; }

flic_status flic_read_header(const void* data, size_t size, flic_header* header, flic_error* error) {
  return guarded(error, FLIC_INVALID_ARGUMENT, [&] {
    require(header != nullptr, "header must not be NULL");
    StackMemory stack;
    const MemoryFrom from(stack.resource());
    const container::Layout layout = container::parse(input(data, size));
    flic_header own{};
    own.width = layout.header.width;
    own.height = layout.header.height;
    own.version = layout.header.version;
    own.model = layout.header.model;
    own.quality = layout.header.quality / static_cast<double>(fastlic::codec::kQualitySteps);
    std::copy(layout.header.fingerprint.begin(), layout.header.fingerprint.end(), own.fingerprint);
    own.sections = static_cast<uint32_t>(layout.lengths.size());
    own.framing_bytes = static_cast<uint32_t>(layout.framing);
    own.channels = layout.header.channels;
    *header = own;
  });
}

flic_status flic_read_metadata(const void* data, size_t size, flic_metadata* metadata, flic_error* error) {
  return guarded(error, FLIC_INVALID_ARGUMENT, [&] {
    require(metadata != nullptr, "metadata must not be NULL");
    StackMemory stack;
    const MemoryFrom from(stack.resource());
    const auto bytes = input(data, size);
    flic_metadata own{};
    for (const container::Attachment& attached : container::attachments(container::parse(bytes), bytes)) {
      const flic_bytes view{attached.bytes.data(), attached.bytes.size()};
      if (attached.kind == container::kIccProfile) own.icc_profile = view;
      if (attached.kind == container::kExif) own.exif = view;
      if (attached.kind == container::kXmp) own.xmp = view;
    }
    *metadata = own;
  });
}

const char* flic_model_name(uint32_t model) { return container::model_name(model); }

flic_status flic_codec_open_memory(const void* data, size_t size, flic_codec** codec, flic_error* error) {
  return flic_codec_open_memory_with(data, size, nullptr, codec, error);
}

flic_status flic_codec_open_file(const char* path, flic_codec** codec, flic_error* error) {
  return flic_codec_open_file_with(path, nullptr, codec, error);
}

flic_status flic_codec_open_memory_with(const void* data, size_t size, const flic_open_options* options,
                                        flic_codec** codec, flic_error* error) {
  if (codec == nullptr) return say(error, FLIC_INVALID_ARGUMENT, "codec must not be NULL");
  *codec = nullptr;
  if (data == nullptr) return say(error, FLIC_INVALID_ARGUMENT, "data must not be NULL");
  return open_codec(options, codec, error, [&] { return input(data, size); });
}

flic_status flic_codec_open_file_with(const char* path, const flic_open_options* options, flic_codec** codec,
                                      flic_error* error) {
  if (codec == nullptr) return say(error, FLIC_INVALID_ARGUMENT, "codec must not be NULL");
  *codec = nullptr;
  if (path == nullptr) return say(error, FLIC_INVALID_ARGUMENT, "path must not be NULL");
  return open_codec(options, codec, error, [&] { return read_file(path); });
}

const void* flic_embedded([[maybe_unused]] uint32_t index, const char** name, size_t* size) {
  if (name != nullptr) *name = nullptr;
  if (size != nullptr) *size = 0;
#ifdef FLIC_EMBEDDED
  const auto files = fastlic::embedded::files();
  if (index < files.size()) {
    const fastlic::embedded::File& file = files[index];
    if (name != nullptr) *name = file.name;
    if (size != nullptr) *size = static_cast<std::size_t>(file.end - file.begin);
    return file.begin;
  }
#endif
  return nullptr;
}

void flic_codec_close(flic_codec* codec) { delete codec; }

flic_status flic_codec_get_info(const flic_codec* codec, flic_codec_info* info, flic_error* error) {
  return guarded(error, FLIC_INVALID_ARGUMENT, [&] {
    require(codec != nullptr && info != nullptr, "codec and info must not be NULL");
    const Codec& own = codec->codec;
    info->name = own.name().c_str();
    info->family = own.family().c_str();
    std::copy(own.fingerprint().begin(), own.fingerprint().end(), info->fingerprint);
    std::copy(own.entropy_fingerprint().begin(), own.entropy_fingerprint().end(), info->entropy_fingerprint);
    info->qualities = own.coder().qualities();
    info->previews = own.coder().previews();
  });
}

int flic_codec_reads(const flic_codec* codec, const flic_header* header) {
  if (codec == nullptr || header == nullptr) return 0;
  container::Header own{};
  own.version = static_cast<std::uint8_t>(header->version);
  std::copy_n(header->fingerprint, own.fingerprint.size(), own.fingerprint.begin());
  return codec->codec.reads(own) ? 1 : 0;
}

uint64_t flic_memory_needed(const flic_codec* codec, uint32_t width, uint32_t height, uint32_t threads, int encode) {
  constexpr auto kNever = static_cast<std::uint64_t>(-1);  // more than any memory
  if (codec == nullptr || width > container::kMaxDimension || height > container::kMaxDimension) return kNever;
  if (encode != 0 && codec->codec.use() == fastlic::codec::Use::decoding) return kNever;
  const unsigned own = fastlic::thread_count(threads, static_cast<std::size_t>(-1));
  try {
    const CallMemory from(codec->memory);
    return codec->codec.coder().memory({std::max(height, 1u), std::max(width, 1u)}, own, encode != 0);
  } catch (const std::exception&) {
    return kNever;
  }
}

flic_status flic_decode(const flic_codec* codec, const void* data, size_t size, const flic_options* options,
                        uint8_t* pixels, size_t capacity, size_t stride, flic_error* error) {
  return guarded(error, FLIC_INVALID_ARGUMENT, [&] {
    require(codec != nullptr, "codec must not be NULL");
    const flic_options own = taken(options);
    const CallMemory from(memory_of(*codec, own));
    require(pixels != nullptr, "pixels must not be NULL");
    const Codec::Stream stream =
        codec->codec.check(input(data, size), own.parts, own.threads, limits_of(own), region_of(own));
    const std::size_t width = stream.region.size.width;
    check_rows(pixels, width, stride, own.format);
    const std::uint64_t rows = stream.region.size.height, last = std::uint64_t{width} * channels_of(own.format);
    require(capacity >= last && (capacity - last) / stride >= rows - 1,
            "capacity must be " + to_string(rows) + " rows of " + to_string(stride) + " bytes, got " +
                to_string(capacity) + " bytes");
    const fastlic::Progress watched(teller(own));
    codec->codec.decode(stream, own.threads, channels_of(own.format), pixels, stride);
  });
}

flic_status flic_encode(const flic_codec* codec, const uint8_t* pixels, uint32_t width, uint32_t height, size_t stride,
                        double quality, const flic_options* options, uint8_t** data, size_t* size, flic_error* error) {
  if (data != nullptr) *data = nullptr;
  return guarded(error, FLIC_INVALID_ARGUMENT, [&] {
    require(codec != nullptr && data != nullptr && size != nullptr, "codec, data and size must not be NULL");
    const flic_options own = taken(options);
    const CallMemory from(memory_of(*codec, own));
    require(own.region == nullptr, "region must be NULL to encode");
    check_rows(pixels, width, stride, own.format);
    const unsigned most = codec->codec.coder().qualities();
    require(quality >= 0 && quality <= most,
            most == 0 ? "codec has one fixed rate: quality 0" : "quality must be 1 to " + to_string(most));
    const auto sixteenths = static_cast<unsigned>(std::nearbyint(quality * fastlic::codec::kQualitySteps));
    const std::size_t channels = channels_of(own.format);
    const Pixels image{pixels, height, width, stride, channels, channels < 3 ? std::size_t{0} : 1};
    std::optional<fastlic::plane::View<const std::uint8_t>> alpha;
    if (channels % 2 == 0) alpha = {pixels + channels - 1, height, width, stride, channels};
    const fastlic::Progress watched(teller(own));
    const auto stream =
        codec->codec.encode(image, sixteenths, own.threads, limits_of(own), alpha, attachments_of(own.metadata));
    const std::size_t all = kSizeRoom + stream.size();
    auto* block = static_cast<uint8_t*>(fastlic::take_memory(all, alignof(std::max_align_t)));
    std::memcpy(block, &all, sizeof all);
    std::copy(stream.begin(), stream.end(), block + kSizeRoom);
    *data = block + kSizeRoom;
    *size = stream.size();
  });
}

void flic_free(void* data) {
  if (data == nullptr) return;
  auto* block = static_cast<uint8_t*>(data) - kSizeRoom;
  std::size_t all = 0;
  std::memcpy(&all, block, sizeof all);
  fastlic::free_memory(block, all, alignof(std::max_align_t));
}

}  // extern "C"

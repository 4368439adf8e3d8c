#include "fastlic/container.hpp"

#include <algorithm>
#include <iterator>
#include <limits>
#include <new>

#include "fastlic/crc32c.hpp"
#include "fastlic/errors.hpp"
#include "fastlic/memory.hpp"

namespace fastlic::container {
namespace {

using Bytes = std::span<const std::uint8_t>;

constexpr std::array<std::uint8_t, 4> kMagic = {'F', 'L', 'I', 'C'};
constexpr std::size_t kFixedBytes = 16;
// 5 bytes of 7 bits hold any length up to kMaxSectionBytes; a sixth could only be damage.
constexpr std::size_t kVarintMaxBytes = 5;
constexpr std::uint64_t kVarintEnd = std::uint64_t{1} << 7 * kVarintMaxBytes;

constexpr unsigned kAttached = 3;  // the version from which on there are channels and attachments

constexpr const char* kModels[] = {nullptr, "factorized", "mean-scale", "jahp",  // by their ids
                                   "mlic",  "mlic+",      "mlic++",     "mcquic", "scale"};

// A cursor that knows where the data ends and says what was missing there.
class Reader {
 public:
  explicit Reader(Bytes data) : data_(data) {}

  std::size_t position() const noexcept { return position_; }

  // `what` follows "inside": only an error makes text of it and `number`.
  Bytes take(std::size_t size, const char* what, std::size_t number = kNone) {
    if (size > data_.size() - position_) {
      throw CorruptStream("the data ends after " + to_string(data_.size()) + " bytes, inside " + text(what, number));
    }
    position_ += size;
    return data_.subspan(position_ - size, size);
  }

  std::uint32_t u32(const char* what, std::size_t number = kNone) {
    const Bytes b = take(4, what, number);
    return std::uint32_t{b[0]} | std::uint32_t{b[1]} << 8 | std::uint32_t{b[2]} << 16 | std::uint32_t{b[3]} << 24;
  }

  std::uint64_t varint(const char* what, std::size_t number = kNone) {
    std::uint64_t value = 0;
    for (std::size_t place = 0; place < kVarintMaxBytes; ++place) {
      const std::uint8_t byte = take(1, what, number)[0];
      value |= std::uint64_t{byte & 0x7Fu} << 7 * place;
      if (byte >= 0x80) continue;
      // One value, one spelling: a last byte of zero only lengthens the number.
      if (byte == 0 && place > 0) {
        throw CorruptStream(text(what, number) + ", at byte " + to_string(position_ - 1) +
                            ", is not in its shortest form");
      }
      return value;
    }
    throw CorruptStream(text(what, number) + ", before byte " + to_string(position_) + ", is longer than " +
                        to_string(kVarintMaxBytes) + " bytes");
  }

 private:
  static constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();

  static String text(const char* what, std::size_t number) {
    return number == kNone ? what : what + (" " + to_string(number));
  }

  Bytes data_;
  std::size_t position_ = 0;
};

// What is wrong with the values of a header, or nothing. Sides are wider here: a varint may claim more than 32 bits.
String fault(unsigned version, unsigned model, std::uint64_t height, std::uint64_t width, unsigned channels) {
  if (version < 1 || version > kVersion) return "format versions are 1 to 3, got " + to_string(version);
  if (model < 1) return "a model id is a number from 1 to 255, got " + to_string(model);
  if (std::min(height, width) < 1 || std::max(height, width) > kMaxDimension) {
    return "height and width must be 1 to " + to_string(kMaxDimension) + ", got " + to_string(height) + " x " +
           to_string(width) + " (height x width)";
  }
  if (channels < 1 || channels > 4) return "an image has 1 to 4 channels, got " + to_string(channels);
  if (channels != 3 && version < kAttached)
    return "format versions 1 and 2 have 3 channels, got " + to_string(channels);
  return {};
}

// What is wrong with attachments of these kinds, or nothing.
template <typename Entries>
String fault(const Header& header, const Entries& entries) {
  if (entries.size() > kMaxAttachments)
    return "a container holds up to 255 attachments, got " + to_string(entries.size());
  if (!entries.empty() && header.version < kAttached) return "format versions 1 and 2 have no attachments";
  unsigned last = 0;
  bool alpha = false;
  for (const auto& entry : entries) {
    if (entry.kind <= last) {
      return "kinds of attachments are numbers from 1 on that ascend, got " + to_string(entry.kind) + " after " +
             to_string(last);
    }
    last = entry.kind;
    alpha |= entry.kind == kAlpha;
  }
  if (alpha != header.has_alpha()) {
    return "an image of " + to_string(header.channels) + " channels has " + (alpha ? "an" : "no") + " alpha attached";
  }
  return {};
}

// `sum` and the lengths, all of at most 35 bits and few: 64 hold them, whatever a size_t has.
template <typename Entries>
std::uint64_t sum_of(std::uint64_t sum, const Entries& entries) {
  for (const auto& entry : entries) sum += entry.length;
  return sum;
}

void check_layout(const Layout& layout) {
  const auto long_one = [](std::uint64_t length) { return length >= kVarintEnd; };
  if (layout.lengths.size() != layout.checksums.size() || layout.lengths.size() > kMaxSections ||
      layout.attachments.size() > kMaxAttachments ||
      std::any_of(layout.lengths.begin(), layout.lengths.end(), long_one) ||
      std::any_of(layout.attachments.begin(), layout.attachments.end(),
                  [&](const Layout::Entry& entry) { return long_one(entry.length); })) {
    throw InvalidArgument("this layout is none that parse() gives");
  }
}

// The bytes from `start` on, their checksum verified. They are there.
Bytes verified(Bytes data, std::size_t start, std::uint64_t length, std::uint32_t checksum, const char* what,
               std::size_t number) {
  const Bytes own = data.subspan(start, static_cast<std::size_t>(length));
  if (crc32c(own.data(), own.size()) != checksum) {
    throw CorruptStream(String(what) + " " + to_string(number) + " (bytes " + to_string(start) + " to " +
                        to_string(start + own.size()) + ") fails its checksum");
  }
  return own;
}

void put_u32(Vector<std::uint8_t>& out, std::uint32_t value) {
  for (unsigned shift = 0; shift < 32; shift += 8) out.push_back(static_cast<std::uint8_t>(value >> shift));
}

void put_varint(Vector<std::uint8_t>& out, std::uint64_t value) {
  for (; value > 0x7F; value >>= 7) out.push_back(static_cast<std::uint8_t>(value | 0x80u));
  out.push_back(static_cast<std::uint8_t>(value));
}

}  // namespace

Layout parse(Bytes data) {
  if (data.empty()) throw CorruptStream("this is no fastlic data: it is empty");
  // Of less than four bytes those that are there decide: the beginning of a file is still one of ours.
  if (!std::equal(kMagic.begin(), kMagic.begin() + std::min(data.size(), kMagic.size()), data.begin())) {
    throw CorruptStream("this is no fastlic data: it does not begin with FLIC");
  }
  Reader reader(data);
  const Bytes fixed = reader.take(kFixedBytes, "the fixed fields");
  const unsigned version = fixed[4], model = fixed[5], count = fixed[7];
  // Before all else: another version may lay out everything after this byte in another way.
  if (version < 1 || version > kVersion) {
    const String text = "format version " + to_string(version) + "; this fastlic reads versions 1 to 3";
    if (version < 1) throw CorruptStream(text);
    throw UnsupportedVersion(text + "; a newer fastlic may read it: pip install --upgrade fastlic");
  }
  const std::uint64_t height = reader.varint("the height"), width = reader.varint("the width");
  Layout layout{};
  Header& header = layout.header;
  if (version >= kAttached) {
    header.channels = reader.take(1, "the channels")[0];
    const unsigned attached = reader.take(1, "the number of attachments")[0];
    layout.attachments.reserve(attached);
    for (unsigned i = 0; i < attached; ++i) {
      const std::uint8_t kind = reader.take(1, "the kind of attachment", i)[0];
      const std::uint64_t length = reader.varint("the length of attachment", i);
      layout.attachments.push_back({kind, length, reader.u32("the checksum of attachment", i)});
    }
  }
  layout.lengths.reserve(count);
  layout.checksums.reserve(count);
  for (unsigned i = 0; i < count; ++i) {
    layout.lengths.push_back(reader.varint("the length of section", i));
    layout.checksums.push_back(reader.u32("the checksum of section", i));
  }
  const std::size_t head = reader.position();
  const std::uint32_t expected = reader.u32("the header's checksum");
  if (crc32c(data.data(), head) != expected) {
    throw CorruptStream("the header (bytes 0 to " + to_string(head) + ") fails its checksum");
  }
  header.version = fixed[4];
  String wrong = fault(version, model, height, width, header.channels);
  if (wrong.empty()) wrong = fault(header, layout.attachments);
  if (!wrong.empty()) throw CorruptStream(wrong);
  if (count < 1 || count > kMaxSections) {
    throw CorruptStream("a container holds 1 to " + to_string(kMaxSections) + " sections, this one says " +
                        to_string(count));
  }
  header.model = fixed[5];
  header.quality = fixed[6];
  std::copy_n(fixed.begin() + 8, header.fingerprint.size(), header.fingerprint.begin());
  header.height = static_cast<std::uint32_t>(height);
  header.width = static_cast<std::uint32_t>(width);
  layout.framing = reader.position();
  return layout;
}

Vector<Bytes> sections(const Layout& layout, Bytes data, std::optional<std::size_t> count) {
  check_layout(layout);
  const Vector<std::uint64_t>& lengths = layout.lengths;
  const std::size_t wanted = std::min(count.value_or(lengths.size()), lengths.size());
  const std::uint64_t first = sum_of(layout.framing, layout.attachments);
  std::uint64_t end = first;
  for (std::size_t i = 0; i < wanted; ++i) end += lengths[i];
  if (data.size() < end) {
    throw CorruptStream("the sections end at byte " + to_string(end) + ", but only " + to_string(data.size()) +
                        " bytes are present");
  }
  if (data.size() > end && !count) {
    throw CorruptStream(to_string(data.size() - end) + " extra bytes follow the last section, which ends at " +
                        to_string(end));
  }
  Vector<Bytes> found;
  std::size_t start = static_cast<std::size_t>(first);
  for (std::size_t i = 0; i < wanted; ++i) {
    found.push_back(verified(data, start, lengths[i], layout.checksums[i], "section", i));
    start += found.back().size();
  }
  return found;
}

Vector<Attachment> attachments(const Layout& layout, Bytes data) {
  check_layout(layout);
  const std::uint64_t end = sum_of(layout.framing, layout.attachments);
  if (data.size() < end) {
    throw CorruptStream("the attachments end at byte " + to_string(end) + ", but only " + to_string(data.size()) +
                        " bytes are present");
  }
  Vector<Attachment> found;
  found.reserve(layout.attachments.size());
  std::size_t start = layout.framing;
  for (const Layout::Entry& entry : layout.attachments) {
    found.push_back({entry.kind, verified(data, start, entry.length, entry.checksum, "attachment", found.size())});
    start += found.back().bytes.size();
  }
  return found;
}

std::uint8_t version_of(unsigned channels, std::size_t attachments) noexcept {
  return channels == 3 && attachments == 0 ? 2 : kAttached;
}

Vector<std::uint8_t> pack(const Header& header, std::span<const Bytes> sections,
                          std::span<const Attachment> attachments) {
  String wrong = fault(header.version, header.model, header.height, header.width, header.channels);
  if (wrong.empty()) wrong = fault(header, attachments);
  if (!wrong.empty()) throw InvalidArgument(wrong);
  if (sections.empty() || sections.size() > kMaxSections) {
    throw InvalidArgument("a container holds 1 to " + to_string(kMaxSections) + " sections, got " +
                          to_string(sections.size()));
  }
  std::uint64_t size = kFixedBytes + 2 * kVarintMaxBytes + 2 + 4;
  const auto add = [&](Bytes bytes, const char* what) {
    if (bytes.size() > kMaxSectionBytes) {
      throw InvalidArgument(what + (" holds at most " + to_string(kMaxSectionBytes) + " bytes, got ") +
                            to_string(bytes.size()));
    }
    size += 1 + kVarintMaxBytes + 4 + bytes.size();
  };
  for (const Attachment& own : attachments) add(own.bytes, "an attachment");
  for (const Bytes section : sections) add(section, "a section");
  Vector<std::uint8_t> out;
  if (size > out.max_size()) throw std::bad_alloc();  // sections may share memory, and a size_t may have 32 bits
  out.reserve(static_cast<std::size_t>(size));
  const auto put = [&](const auto& bytes) {
    for (const std::uint8_t byte : bytes) out.push_back(byte);
  };
  const auto describe = [&](Bytes bytes) {
    put_varint(out, bytes.size());
    put_u32(out, crc32c(bytes.data(), bytes.size()));
  };
  put(kMagic);
  put(std::array{header.version, header.model, header.quality, static_cast<std::uint8_t>(sections.size())});
  put(header.fingerprint);
  put_varint(out, header.height);
  put_varint(out, header.width);
  if (header.version >= kAttached) {
    put(std::array{header.channels, static_cast<std::uint8_t>(attachments.size())});
    for (const Attachment& own : attachments) {
      out.push_back(own.kind);
      describe(own.bytes);
    }
  }
  for (const Bytes section : sections) describe(section);
  put_u32(out, crc32c(out.data(), out.size()));
  for (const Attachment& own : attachments) out.insert(out.end(), own.bytes.begin(), own.bytes.end());
  for (const Bytes section : sections) out.insert(out.end(), section.begin(), section.end());
  return out;
}

const char* model_name(unsigned id) noexcept { return id < std::size(kModels) ? kModels[id] : nullptr; }

unsigned model_id(std::string_view name) noexcept {
  for (unsigned id = 1; id < std::size(kModels); ++id) {
    if (name == kModels[id]) return id;
  }
  return 0;
}

}  // namespace fastlic::container

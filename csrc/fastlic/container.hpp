// The .flic container: the one place that lays out or reads its bytes (drawn in docs/format.md).
//
//     magic "FLIC" | version u8 | model u8 | quality u8 | sections u8 | fingerprint 8 bytes     16 bytes, fixed
//     height varint | width varint                                                              2..6 bytes
//     version 3: channels u8 | attachments u8 | per attachment: kind u8, length varint, CRC-32C of it u32
//     per section: length varint | CRC-32C of the section u32
//     CRC-32C of everything above u32
//     version 3: the attachments, back to back
//     the sections, back to back, up to the last byte of the data
//
// Version 2 differs from version 1 in what the fingerprint covers. All are read. Version 3 is written of images that
// have attachments or other channels than three, version 2 of others.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "fastlic/memory.hpp"

namespace fastlic::container {

inline constexpr unsigned kVersion = 3;                           // the last; what is read is 1..kVersion
inline constexpr std::uint32_t kMaxDimension = (1u << 20) - 1;    // pixels in height or width
inline constexpr std::size_t kMaxSections = 64;                   // at least one
inline constexpr std::uint64_t kMaxSectionBytes = 0xFFFFFFFFull;  // that are written; of an attachment, too
inline constexpr std::size_t kMaxAttachments = 255;

// What belongs to an image beside its coded colours. Of other kinds a later release may know.
enum Kind : std::uint8_t { kAlpha = 1, kIccProfile = 2, kExif = 3, kXmp = 4 };

struct Header {
  std::uint8_t version;
  std::uint8_t model;                       // 1..255; of ids that have no name the caller decides
  std::uint8_t quality;                     // in sixteenths, 0: a model of one rate
  std::array<std::uint8_t, 8> fingerprint;  // of the codec; in version 1 of its entropy integers
  std::uint32_t height, width;              // pixels, 1..kMaxDimension
  std::uint8_t channels = 3;                // of the image: 1 grey, 3 red, green and blue; and 2, 4 with alpha

  bool has_alpha() const noexcept { return channels % 2 == 0; }
  bool is_grey() const noexcept { return channels < 3; }
};

struct Attachment {
  std::uint8_t kind;
  std::span<const std::uint8_t> bytes;
};

struct Layout {
  Header header;
  Vector<std::uint64_t> lengths;  // bytes of each section, as the head claims them
  Vector<std::uint32_t> checksums;
  std::size_t framing;  // bytes of the head: all before the first attachment or section

  struct Entry {
    std::uint8_t kind;
    std::uint64_t length;
    std::uint32_t checksum;
  };
  Vector<Entry> attachments;  // kinds ascend
};

// The head, its checksum verified; the sections need not be there, and no more than 10 kB are reserved, whatever it
// claims. Throws UnsupportedVersion for a newer version, CorruptStream for all else.
Layout parse(std::span<const std::uint8_t> data);

// The sections of the data that `layout` was parsed of, their checksums verified, as views of it. `count`: so many
// leading ones alone, or all if there are fewer; what follows them may be damaged or missing. Throws CorruptStream.
Vector<std::span<const std::uint8_t>> sections(const Layout& layout, std::span<const std::uint8_t> data,
                                               std::optional<std::size_t> count = std::nullopt);

// The attachments, likewise; the sections need not be there.
Vector<Attachment> attachments(const Layout& layout, std::span<const std::uint8_t> data);

// The version that such an image is written in.
std::uint8_t version_of(unsigned channels, std::size_t attachments) noexcept;

// Throws std::invalid_argument for what parse() would refuse, std::bad_alloc for more than memory can hold.
Vector<std::uint8_t> pack(const Header& header, std::span<const std::span<const std::uint8_t>> sections,
                          std::span<const Attachment> attachments = {});

// Ids are part of the format: never renumbered, never reused. Unknown: nullptr, and 0.
const char* model_name(unsigned id) noexcept;
unsigned model_id(std::string_view name) noexcept;

}  // namespace fastlic::container

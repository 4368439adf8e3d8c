// The .flic container: the one place that lays out or reads its bytes (drawn in docs/format.md).
//
//     magic "FLIC" | version u8 | model u8 | quality u8 | sections u8 | fingerprint 8 bytes     16 bytes, fixed
//     height varint | width varint                                                              2..6 bytes
//     per section: length varint | CRC-32C of the section u32
//     CRC-32C of everything above u32
//     the sections, back to back, up to the last byte of the data
//
// Version 2 differs from version 1 in what the fingerprint covers. Both are read, version 2 is written.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace fastlic::container {

inline constexpr unsigned kVersion = 2;                           // what is written; what is read is 1..kVersion
inline constexpr std::uint32_t kMaxDimension = (1u << 20) - 1;    // pixels in height or width
inline constexpr std::size_t kMaxSections = 64;                   // at least one
inline constexpr std::uint64_t kMaxSectionBytes = 0xFFFFFFFFull;  // that are written

struct Header {
  std::uint8_t version;
  std::uint8_t model;                       // 1..255; of ids that have no name the caller decides
  std::uint8_t quality;                     // in sixteenths, 0: a model of one rate
  std::array<std::uint8_t, 8> fingerprint;  // of the codec; in version 1 of its entropy integers
  std::uint32_t height, width;              // pixels, 1..kMaxDimension
};

struct Layout {
  Header header;
  std::vector<std::uint64_t> lengths;  // bytes of each section, as the head claims them
  std::vector<std::uint32_t> checksums;
  std::size_t framing;  // bytes before the first section
};

// The head, its checksum verified; the sections need not be there, and nothing is allocated in proportion to what it
// claims. Throws UnsupportedVersion for a newer version, CorruptStream for all else.
Layout parse(std::span<const std::uint8_t> data);

// The sections of the data that `layout` was parsed of, their checksums verified, as views of it. `count`: so many
// leading ones alone, or all if there are fewer; what follows them may be damaged or missing. Throws CorruptStream.
std::vector<std::span<const std::uint8_t>> sections(const Layout& layout, std::span<const std::uint8_t> data,
                                                    std::optional<std::size_t> count = std::nullopt);

// Throws std::invalid_argument for what parse() would refuse, std::bad_alloc for more than memory can hold.
std::vector<std::uint8_t> pack(const Header& header, std::span<const std::span<const std::uint8_t>> sections);

// Ids are part of the format: never renumbered, never reused. Unknown: nullptr, and 0.
const char* model_name(unsigned id) noexcept;
unsigned model_id(std::string_view name) noexcept;

}  // namespace fastlic::container

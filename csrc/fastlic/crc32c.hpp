// CRC-32C (Castagnoli): the checksum of every container section.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fastlic {

// Checksum of bytes [data, data + size). Pass a previous result as `crc` to continue over a second piece.
std::uint32_t crc32c(const std::uint8_t* data, std::size_t size, std::uint32_t crc = 0) noexcept;

}  // namespace fastlic

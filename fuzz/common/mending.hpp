// Checksums of files that mutation has altered, so that what lies behind them is reached.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "fastlic/crc32c.hpp"
#include "fastlic/memory.hpp"

namespace fastlic::fuzz {

struct Field {
  std::uint64_t value;
  std::size_t end;
};

inline Field varint(std::span<const std::uint8_t> data, std::size_t at) {
  std::uint64_t value = 0;
  for (unsigned shift = 0; shift < 35 && at < data.size(); shift += 7) {
    const std::uint8_t byte = data[at++];
    value |= std::uint64_t{byte & 0x7Fu} << shift;
    if (byte < 0x80) break;
  }
  return {value, at};
}

inline void put(Vector<std::uint8_t>& data, std::size_t at, std::uint32_t value) {
  for (std::size_t i = 0; i < 4; ++i) data[at + i] = static_cast<std::uint8_t>(value >> 8 * i);
}

// Of a .flic file: checksums that fit what the bytes claim, as far as there are bytes.
inline void mend(Vector<std::uint8_t>& data) {
  if (data.size() < 16) return;
  struct Part {  // an attachment or a section
    std::uint64_t length;
    std::size_t checksum;
  };
  Vector<Part> parts;
  std::size_t at = varint(data, varint(data, 16).end).end;
  const auto take = [&](unsigned count, std::size_t before) {
    for (unsigned i = 0; i < count; ++i) {
      const Field length = varint(data, at + before);
      parts.push_back({length.value, length.end});
      at = length.end + 4;
    }
  };
  if (data[4] >= 3) {  // channels, and attachments, which begin with their kind
    const unsigned count = at + 1 < data.size() ? data[at + 1] : 0;
    at += 2;
    take(count, 1);
  }
  take(data[7], 0);
  if (at > data.size() || data.size() - at < 4) return;
  std::size_t start = at + 4;
  for (const Part& part : parts) {
    if (part.length > data.size() - start) break;
    const auto length = static_cast<std::size_t>(part.length);
    put(data, part.checksum, crc32c(data.data() + start, length));
    start += length;
  }
  put(data, at, crc32c(data.data(), at));
}

}  // namespace fastlic::fuzz

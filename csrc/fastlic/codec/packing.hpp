// Integer weights that lie in a codec file in fewer bits (docs/format.md, "Codec files").
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace fastlic::codec {

// The arrays of one type, int8 or int16, of a file. What comes from there may be damaged in any way.
struct Packed {
  unsigned bytes = 1;                            // of a value
  std::vector<std::vector<std::size_t>> shapes;  // in the order of coding
  std::span<const std::uint8_t> data, low;
  std::span<const std::int8_t> classes;
  std::size_t tables = 0;                     // rows of
  std::span<const std::uint8_t> frequencies;  // int16 [tables][symbols], little-endian
};

// The values of all arrays, one after the other. Throws std::invalid_argument for parts that are not valid or do not
// fit each other; what is reserved before stays in proportion to the bytes that came.
std::vector<std::int16_t> unpack(const Packed& packed);

}  // namespace fastlic::codec

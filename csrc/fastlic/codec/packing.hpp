// Integer weights that lie in a codec file in fewer bits (docs/format.md, "Codec files").
#pragma once

#include <cstdint>
#include <span>

#include "fastlic/memory.hpp"
#include "fastlic/nn/memory.hpp"

namespace fastlic::codec {

// The arrays of one type, int8 or int16, of a file. What comes from there may be damaged in any way.
struct Packed {
  unsigned bytes = 1;                  // of a value
  Vector<Vector<std::size_t>> shapes;  // in the order of coding
  std::span<const std::uint8_t> data;
  std::span<const std::int8_t> classes;
  std::span<const std::uint8_t> tables;  // int16, little-endian: frequencies
  std::size_t rows = 0;                  // tables
  // Since layout 5, int16 [rows][3]: first slot, raw bits, slots. Before, there are as many symbols in each table, and
  // low bits apart.
  std::span<const std::uint8_t> windows;
  bool categorical = false;  // layouts 2 to 4
  std::span<const std::uint8_t> low;
  std::size_t wanted = static_cast<std::size_t>(-1);  // so many arrays, the first ones, are unpacked
};

// The values of each array that is wanted, little-endian. Throws std::invalid_argument for parts that are not valid or
// do not fit each other; what is reserved before stays in proportion to the bytes that came.
Vector<nn::Buffer<std::uint8_t>> unpack(const Packed& packed);

}  // namespace fastlic::codec

// Scans of packed words, a kernel for each instruction set, and what a scan keeps of each row.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "fastlic/isa.hpp"

namespace fastlic::codebook {

// The words that may yet be nearest to one row: all whose score is within `slack` of the best so far.
struct Row {
  static constexpr std::size_t kRoom = 32;

  float slack = 0;
  float best = std::numeric_limits<float>::infinity();
  std::uint32_t count = 0;
  bool full = false;  // more words were that close than there is room for
  std::uint32_t words[kRoom];
  float scores[kRoom];

  // The bar once `least` has been seen: scores above it do not matter.
  float bar(float least) {
    if (least < best) best = least;
    return best + slack;
  }
  // Keep the words first + i for every bit i of `close`, whose scores are at most `bar`. Returns the bar from now on.
  float keep(const float* some, std::uint32_t first, std::uint64_t close, float bar);
};

// Tile of rows against consecutive panels of words.
struct Scan {
  const void* tile;     // float kernels: float [channel][row]; byte kernels: 4 bytes [channel / 4][row]
  std::size_t depth;    // channels, or groups of four
  const void* panels;   // the first panel
  const float* half;    // of its first word
  const void* start;    // what its sums begin with: `half`, or integers of byte kernels
  const float* scale;   // byte kernels: [row], what one unit of the integer product is worth
  std::uint32_t first;  // index of its first word
  std::size_t count;    // panels
  Row* rows;
  float* bars;  // [row], the value of keep() so far
};

struct Kernel {
  std::size_t rows;   // of a tile
  std::size_t words;  // of a panel
  bool bytes;
  void (*scan)(const Scan& scan);
};

const Kernel& kernel(Isa isa) noexcept;

}  // namespace fastlic::codebook

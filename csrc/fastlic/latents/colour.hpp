// Positions of a map that are coded together: one colour of a checkerboard, or all of them.
#pragma once

#include <algorithm>
#include <cstddef>

#include "fastlic/memory.hpp"

namespace fastlic::latents {

// Positions (row, column) with (row + column) % 2 == parity.
struct Colour {
  std::size_t parity;

  // The first column of a row; the others follow two apart.
  std::size_t first(std::size_t row) const noexcept { return (row + parity) % 2; }
  std::size_t count(std::size_t row, std::size_t width) const noexcept { return (width - first(row) + 1) / 2; }
  // How many lie in the rows above `row`.
  std::size_t before(std::size_t row, std::size_t width) const noexcept {
    return row / 2 * width + (row % 2 != 0 ? count(0, width) : 0);
  }
  Colour other() const noexcept { return {1 - parity}; }
};

// Positions of rows row, row + row_step, ... (every row or every second one): those of one colour, or all.
struct Region {
  Colour colour{0};
  bool all = true;  // both colours
  std::size_t row = 0, row_step = 1;

  static Region of(Colour colour, std::size_t row = 0, std::size_t row_step = 1) {
    return {colour, false, row, row_step};
  }
  // Its first row that is not above `from`.
  std::size_t begin(std::size_t from) const noexcept {
    return row + (std::max(from, row) - row + row_step - 1) / row_step * row_step;
  }
  std::size_t first(std::size_t r) const noexcept { return all ? 0 : colour.first(r); }
  std::size_t count(std::size_t r, std::size_t width) const noexcept { return all ? width : colour.count(r, width); }
  std::size_t step() const noexcept { return all ? 1 : 2; }
  std::size_t positions(std::size_t height, std::size_t width) const noexcept {
    const std::size_t rows = height > row ? (height - row - 1) / row_step + 1 : 0;
    if (all) return rows * width;
    return row_step == 1 ? colour.before(height, width) - colour.before(row, width) : rows * count(row, width);
  }
  // Of rows from `from` on and above `to`, in raster order.
  Vector<std::size_t> list(std::size_t from, std::size_t to, std::size_t width) const {
    Vector<std::size_t> out;
    for (std::size_t r = begin(from); r < to; r += row_step) {
      for (std::size_t c = first(r); c < width; c += step()) out.push_back(r * width + c);
    }
    return out;
  }
};

}  // namespace fastlic::latents

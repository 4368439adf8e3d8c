// Weights as the GEMM kernels read them, and the kernels' job description.
//
// A packed matrix is depth x columns of int8, cut into panels of 32 columns; a panel is stored pair by pair of depth,
//
//     panel p, pair k:  b[2k][32p], b[2k+1][32p], b[2k][32p+1], b[2k+1][32p+1], ...    64 bytes, one cache line
//
// so that one line, widened to int16, is the operand of two 512-bit (four 256-bit) multiply-adds of int16 pairs.
// Activations stay int16: their 12 bits would need two u8 planes, whose two byte dot products cost as much as one of int16.
// Weights stay int8 in memory: half the cache traffic, for one widening per up to 14 rows.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fastlic/engine/memory.hpp"

namespace fastlic::engine {

struct PackedMatrix {
  std::size_t depth = 0;    // even
  std::size_t columns = 0;  // multiple of kPanel
  Buffer<std::int8_t> data;

  PackedMatrix() = default;
  PackedMatrix(std::size_t rows, std::size_t cols)
      : depth(rows + rows % 2), columns(padded(cols)), data(depth * columns) {}

  void set(std::size_t k, std::size_t column, std::int8_t value) noexcept {
    const std::size_t panel = column / kPanel;
    data[panel * kPanel * depth + (k / 2) * 2 * kPanel + 2 * (column % kPanel) + k % 2] = value;
  }

  const std::int8_t* panel(std::size_t index) const noexcept { return data.data() + index * kPanel * depth; }
};

// out[r][c] = start[r][c] + sum over k of a[r][k] * b[k][c], exact in int32 by the bound proven when the model was read.
struct GemmJob {
  const std::int16_t* a;                // [rows][a_stride], depth values used
  std::size_t a_stride;
  std::size_t rows;
  const PackedMatrix* b;
  const std::int32_t* const* start;     // [rows] pointers to [columns]
  std::int32_t* out;                    // [rows][columns]
};

}  // namespace fastlic::engine

// Weights as the GEMM kernels read them, and the kernels' job description.
//
// A packed matrix is depth x columns, cut into panels of 32 columns; a panel is stored pair by pair of depth,
//
//     panel p, pair k:  b[2k][32p], b[2k+1][32p], b[2k][32p+1], b[2k+1][32p+1], ...
//
// so that 64 values, widened to int16, are the operand of two 512-bit (four 256-bit) multiply-adds of int16 pairs.
// On vectors activations stay int16: their 12 bits would need two u8 planes, whose two byte dot products cost as much
// as one of int16; tiles.hpp splits them. Weights of 8 bits stay int8 in memory: half the cache traffic, for one
// widening per up to 14 rows. Transformed weights (winograd.hpp) and those of more bits are int16.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fastlic/nn/memory.hpp"

namespace fastlic::nn {

template <typename Weight>
struct Packed {
  std::size_t depth = 0;    // even
  std::size_t columns = 0;  // multiple of kPanel
  Shared<Weight> data;

  Packed() = default;
  Packed(std::size_t rows, std::size_t cols) : depth(rows + rows % 2), columns(padded(cols)), data(depth * columns) {}

  std::size_t offset(std::size_t k, std::size_t column) const noexcept {
    return column / kPanel * kPanel * depth + k / 2 * 2 * kPanel + 2 * (column % kPanel) + k % 2;
  }
  void set(std::size_t k, std::size_t column, Weight value) noexcept { data[offset(k, column)] = value; }
};

using PackedMatrix = Packed<std::int8_t>;
using WideMatrix = Packed<std::int16_t>;

// out[r][c] = start[r][c] + sum over k of a[r][k] * b[k][c]. Sums wrap modulo 2^32; where they are results themselves,
// the bound proven when the model was read says that they never do.
template <typename Weight>
struct GemmJob {
  const std::int16_t* a;  // [rows][a_stride], `depth` values used
  std::size_t a_stride;
  std::size_t rows;
  const Weight* b;  // whole panels of a packed matrix
  std::size_t depth;
  std::size_t columns;               // of these panels, a multiple of kQuarterPanel
  const std::int32_t* const* start;  // [rows] pointers to [columns], in whole half panels
  std::int32_t* out;                 // [rows][out_stride]; whole panels of it may be written
  std::size_t out_stride;
  // Not 0, which takes kernels of tiles.hpp: a is two planes of bytes, so many bytes apart, low ones first, with rows
  // a_stride bytes apart. Up to 15 rows beyond the last one, and 63 bytes, may be read.
  std::size_t plane_bytes = 0;
};

inline GemmJob<std::int8_t> job_of(const std::int16_t* a, std::size_t a_stride, std::size_t rows, const PackedMatrix& b,
                                   const std::int32_t* const* start, std::int32_t* out) {
  return {a, a_stride, rows, b.data.data(), b.depth, b.columns, start, out, b.columns};
}

}  // namespace fastlic::nn

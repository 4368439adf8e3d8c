// Products on AMX's tiles, of 16 rows of 64 bytes. A number of 16 bits is two bytes there, a high one with the sign and
// a low one without; all products of bytes are summed apart and put together modulo 2^32, so the sums are those of
// other kernels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fastlic/nn/kernels.hpp"

namespace fastlic::nn {

// AVX-512's with VNNI, but for products, and for inputs of Winograd's transform, which are planes of bytes.
const Kernels& tile_kernels() noexcept;

// Whether products of the sizes that layers have are quicker on tiles than on vectors: measured, in less than 1 ms.
bool tiles_pay();

// Keeps this thread's tiles ready between products, which otherwise each see to that: for as long as it lives.
class ReadyTiles {
 public:
  explicit ReadyTiles(const Kernels& kernels) noexcept;
  ~ReadyTiles();
  ReadyTiles(const ReadyTiles&) = delete;
  ReadyTiles& operator=(const ReadyTiles&) = delete;

 private:
  bool own_ = false;  // whether it was this one that made them ready
};

// Bytes that a thread keeps for a product, 0 where vectors make it.
std::uint64_t tile_scratch(std::size_t rows, std::size_t depth);

// Multiplies numbers of 16 bits for so many steps of 16 x 16 x 64 products each: for rooflines.
void tile_products(int steps);

}  // namespace fastlic::nn

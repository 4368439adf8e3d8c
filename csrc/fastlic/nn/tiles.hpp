// Products on AMX's tiles, of 16 rows of 64 bytes. A number of 16 bits is two bytes there, a high one with the sign and
// a low one without; all products of bytes are summed apart and put together modulo 2^32, so the sums are those of
// other kernels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fastlic/nn/kernels.hpp"

namespace fastlic::nn {

#ifdef FASTLIC_TILES

// AVX-512's with VNNI, except products, and inputs of Winograd's transform, which are planes of bytes. If tiles are not
// allowed, without exception.
const Kernels& tile_kernels() noexcept;

// Whether a product as wide as those of smaller layers is quicker on tiles than on vectors: measured, in less than 1
// ms.
bool tiles_pay();

// Multiplies numbers of 8 by numbers of 16 bits for so many steps of 2 x 16 x 16 x 64 products: for rooflines.
void tile_products(int steps);

#endif

// While one lives, this thread's tiles stay configured, where `kernels` have them. Without one, each product configures
// and releases them.
class ReadyTiles {
 public:
  explicit ReadyTiles(const Kernels& kernels) noexcept;
  ~ReadyTiles();
  ReadyTiles(const ReadyTiles&) = delete;
  ReadyTiles& operator=(const ReadyTiles&) = delete;

 private:
  bool own_ = false;  // whether it was this one that configured them
};

// Bytes that a thread keeps for a product, 0 where there are no tiles.
std::uint64_t tile_scratch(std::size_t rows, std::size_t depth) noexcept;

}  // namespace fastlic::nn

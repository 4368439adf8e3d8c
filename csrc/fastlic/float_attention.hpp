// Attention of heads within square windows of a channels-last float map, shifted windows included: no window is ever
// copied out, no matrix of scores written to memory.
#pragma once

#include <cstddef>
#include <limits>
#include <span>

namespace fastlic {

struct Windows {
  std::size_t images, height, width;  // of the map, whole windows
  std::size_t side;                   // of a window, which has side * side places
  std::size_t heads, depth;           // channels are heads * depth
  // The map is rolled up and left by so much before it is cut into windows; places of the last row or column of windows
  // that were no neighbours before see each other's scores reduced by `apart`.
  std::size_t shift = 0;
  float apart = -std::numeric_limits<float>::infinity();
  float scale = 1.0f;  // of products of queries and keys
};

// qkv: [images][height][width][3][heads][depth], queries, keys and values. out: [images][height][width][heads][depth].
// bias: [heads][side * side][side * side], queries first, added to scores. mask: [count][side * side][side * side],
// added as well, that of window i, counted through all images, being number i % count; or empty. Sums are float32;
// threads: 0 means one per core. Throws std::invalid_argument if sizes do not fit each other.
void float_attention(std::span<const float> qkv, std::span<float> out, std::span<const float> bias,
                     std::span<const float> mask, const Windows& windows, unsigned threads);

}  // namespace fastlic

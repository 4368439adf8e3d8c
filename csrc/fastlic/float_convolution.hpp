// Convolutions of channels-last float maps with about a third of the products: Winograd's F(4x4, 3x3) (Winograd 1980;
// Lavin and Gray 2016), a kernel of 3x3 taps on a tile of 6x6 inputs. One of 5x5 with a stride of 2, plain or
// transposed, is four of 3x3, 3x2, 2x3 and 2x2 taps.
#pragma once

#include <cstddef>
#include <span>

namespace fastlic {

enum class Stride { one, down, up };  // down: every second position; up: transposed, two outputs for an input

struct MapConvolution {
  std::size_t images, height, width;  // of the map that is read
  std::size_t inputs, outputs;        // channels
  Stride stride;
};

// x: [images][height][width][inputs]. out: [images][rows][columns][outputs], of the map's size, half of it (rounded
// up), or twice. weight: [outputs][inputs][side][side], of transposed ones [inputs][outputs][side][side], where side is
// 3, or 5 with a stride; beyond the map's edges stand zeros. inputs are a multiple of 16. bias: [outputs], or empty.
// Sums are float32. threads: 0 means one per core. Throws std::invalid_argument if sizes do not fit each other.
void float_convolution(std::span<const float> x, std::span<float> out, std::span<const float> weight,
                       std::span<const float> bias, const MapConvolution& map, unsigned threads);

}  // namespace fastlic

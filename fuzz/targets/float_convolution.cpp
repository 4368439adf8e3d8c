// Arbitrary floats through convolutions by Winograd's transform: on two threads as on one, bit for bit; near to the
// definition on every instruction set.
#include <cmath>
#include <stdexcept>

#include "fastlic/float_convolution.hpp"
#include "fastlic/memory.hpp"
#include "harness.hpp"

namespace {

using Map = fastlic::MapConvolution;
using Floats = fastlic::Vector<float>;

struct Size {
  std::size_t rows, columns;
};

Size made(const Map& map) {
  if (map.stride == fastlic::Stride::up) return {2 * map.height, 2 * map.width};
  if (map.stride == fastlic::Stride::down) return {(map.height + 1) / 2, (map.width + 1) / 2};
  return {map.height, map.width};
}

// Each output, and the sum of the magnitudes that it is made of.
void near_to_definition(const Map& map, const Floats& x, const Floats& weight, const Floats& bias, const Floats& out) {
  const bool up = map.stride == fastlic::Stride::up;
  const std::size_t side = map.stride == fastlic::Stride::one ? 3 : 5, by = map.stride == fastlic::Stride::one ? 1 : 2;
  const auto [rows, columns] = made(map);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::size_t o = i % map.outputs, column = i / map.outputs % columns, row = i / map.outputs / columns % rows;
    const std::size_t image = i / map.outputs / columns / rows;
    double sum = bias[o], magnitude = std::abs(bias[o]);
    for (std::size_t tap = 0; tap < side * side; ++tap) {
      // Where the tap lies; of transposed ones twice that place.
      std::size_t r = (up ? row - tap / side : by * row + tap / side - side / 2) + (up ? side / 2 : 0);
      std::size_t c = (up ? column - tap % side : by * column + tap % side - side / 2) + (up ? side / 2 : 0);
      if (up) {
        if (r % 2 != 0 || c % 2 != 0) continue;
        r /= 2, c /= 2;
      }
      if (r >= map.height || c >= map.width) continue;
      for (std::size_t k = 0; k < map.inputs; ++k) {
        const double value = x[((image * map.height + r) * map.width + c) * map.inputs + k];
        const double own = value * weight[(up ? k * map.outputs + o : o * map.inputs + k) * side * side + tap];
        sum += own;
        magnitude += std::abs(own);
      }
    }
    fastlic::fuzz::require(std::abs(out[i] - sum) <= 1e-3 + 1e-4 * magnitude);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fastlic;
  fuzz::Input input(data, size);
  const auto kind = input.take<std::uint8_t>();
  const auto number = [&](std::size_t below) { return input.take<std::uint8_t>() % below; };
  Map map = {number(3), number(12), number(12), 16 * number(3), number(20), static_cast<Stride>(kind % 3)};
  const bool odd = kind % 64 == 63, sane = (kind & 64) != 0;  // sizes that do not fit; numbers that have a bound
  if (odd) map.inputs += 1 + number(15);
  const std::size_t side = map.stride == Stride::one ? 3 : 5;
  const auto floats = [&](std::size_t count) {
    Floats out(count);
    for (float& value : out) value = sane ? static_cast<float>(input.take<std::int8_t>()) / 16 : input.take<float>();
    return out;
  };
  const Floats weight = floats(map.inputs * map.outputs * side * side), bias = floats(map.outputs);
  const Floats x = floats(map.images * map.height * map.width * map.inputs);
  const auto [rows, columns] = made(map);
  bool refused = false;
  for (const Isa isa : supported_isas()) {
    set_isa(isa);
    Floats out(map.images * rows * columns * map.outputs), threaded(out.size());
    try {
      float_convolution(x, out, weight, bias, map, 1);
    } catch (const std::invalid_argument&) {
      refused = true;
      continue;
    }
    fuzz::require(!refused && map.inputs > 0 && map.outputs > 0 && !odd);
    if (kind % 16 == 0) {
      float_convolution(x, threaded, weight, bias, map, 2);
      fuzz::require(out.empty() || std::memcmp(out.data(), threaded.data(), out.size() * sizeof(float)) == 0);
    }
    if (sane) near_to_definition(map, x, weight, bias, out);
  }
  return 0;
}

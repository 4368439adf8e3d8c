// Arbitrary bytes as a coded alpha plane of a small size: an error, or samples whose own bytes decode to them again.
// Arbitrary samples come back, whatever steps and strides they have.
#include <algorithm>

#include "fastlic/errors.hpp"
#include "fastlic/memory.hpp"
#include "fastlic/plane.hpp"
#include "harness.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fastlic;
  fuzz::Input input(data, size);
  const bool encodes = input.take<std::uint8_t>() % 2 == 0;
  const std::size_t height = input.take<std::uint8_t>() % 33, width = input.take<std::uint8_t>() % 65;
  const std::size_t step = 1 + input.take<std::uint8_t>() % 4, stride = step * width + input.take<std::uint8_t>() % 5;
  fastlic::Vector<std::uint8_t> memory(height * stride + 1, 0xA5), again(memory);
  const plane::View<std::uint8_t> samples{memory.data(), height, width, stride, step};
  const plane::View<std::uint8_t> found{again.data(), height, width, stride, step};
  if (encodes) {
    const std::uint8_t levels = input.take<std::uint8_t>();  // few of them make repetitions likely
    for (std::size_t y = 0; y < height; ++y) {
      for (std::size_t x = 0; x < width; ++x) samples.at(y, x) = input.take<std::uint8_t>() | levels;
    }
  } else {
    try {
      plane::decode(input.rest(), samples);
    } catch (const CorruptStream&) {
      return 0;
    }
  }
  const fastlic::Vector<std::uint8_t> coded = plane::encode({memory.data(), height, width, stride, step});
  plane::decode(coded, found);
  fuzz::require(memory == again);  // samples, and what lies between them
  return 0;
}

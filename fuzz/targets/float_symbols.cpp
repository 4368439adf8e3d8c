// Arbitrary floats as bounds of scales, scales, inputs and means: refused, or what counting and rounding give.
#include <cmath>
#include <limits>
#include <stdexcept>

#include "fastlic/float_symbols.hpp"
#include "fastlic/memory.hpp"
#include "harness.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fastlic;
  fuzz::Input input(data, size);
  const auto kind = input.take<std::uint8_t>();
  const float least = input.take<float>();
  fastlic::Vector<float> bounds(kind % 64);
  float last = 0;
  for (float& bound : bounds) {  // any, or ascending
    bound = kind < 64 ? input.take<float>() : last + static_cast<float>(input.take<std::uint8_t>()) / 64;
    last = bound;
  }
  fastlic::Vector<float> scales(input.left() / 4), means(scales.size());
  for (float& scale : scales) scale = input.take<float>();
  for (std::size_t i = 0; i < means.size(); ++i) means[i] = scales[means.size() - 1 - i];
  fastlic::Vector<std::int32_t> out(scales.size());
  try {
    const ScaleSearch search(bounds, least);
    search(scales.data(), scales.size(), out.data());
    for (std::size_t i = 0; i < scales.size(); ++i) {
      const float scale = scales[i] < least ? least : scales[i];
      std::int32_t below = 0;
      for (const float bound : bounds) below += std::isnan(scale) || bound < scale ? 1 : 0;
      fuzz::require(out[i] == below);
    }
  } catch (const std::invalid_argument&) {
  }
  for (const float* subtracted : {static_cast<const float*>(nullptr), static_cast<const float*>(means.data())}) {
    const bool good = round_differences(scales.data(), subtracted, scales.size(), out.data());
    bool expected = true;
    for (std::size_t i = 0; i < scales.size(); ++i) {
      const float value = std::nearbyint(subtracted == nullptr ? scales[i] : scales[i] - subtracted[i]);
      const bool fits = std::abs(value) < 2147483648.0f;
      expected = expected && fits;
      if (fits) fuzz::require(out[i] == static_cast<std::int32_t>(value));
    }
    fuzz::require(good == expected);
  }
  return 0;
}

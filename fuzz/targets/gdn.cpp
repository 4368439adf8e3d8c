// Arbitrary floats through GDN and its inverse: in place as elsewhere and on two threads as on one, bit for bit; near
// to the definition on every instruction set.
#include <cmath>
#include <stdexcept>

#include "fastlic/gdn.hpp"
#include "fastlic/memory.hpp"
#include "harness.hpp"

namespace {

// Whether two results are the same, NaNs included.
bool same(const fastlic::Vector<float>& a, const fastlic::Vector<float>& b) {
  return a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fastlic;
  fuzz::Input input(data, size);
  const auto kind = input.take<std::uint8_t>();
  const std::size_t channels = input.take<std::uint8_t>() % 40, rows = input.take<std::uint8_t>() % 20;
  const std::size_t extra = kind % 64 == 63 ? 1 : 0;  // sizes that do not fit
  const bool sane = (kind & 64) != 0, inverse = kind >= 128;
  const auto floats = [&](std::size_t count) {
    fastlic::Vector<float> out(count);
    for (float& value : out) value = sane ? static_cast<float>(input.take<std::int8_t>()) / 16 : input.take<float>();
    return out;
  };
  fastlic::Vector<float> beta = floats(channels), gamma = floats(channels * channels + extra);
  const fastlic::Vector<float> x = floats(rows * channels);
  if (sane) {
    for (float& value : beta) value = std::abs(value) + 1e-3f;
    for (float& value : gamma) value = std::abs(value);
  }
  bool refused = false;
  for (const Isa isa : supported_isas()) {
    set_isa(isa);
    fastlic::Vector<float> out(x.size()), in_place = x, threaded(x.size());
    try {
      gdn(x, out, beta, gamma, inverse, 1);
    } catch (const std::invalid_argument&) {
      refused = true;
      continue;
    }
    fuzz::require(!refused && channels > 0 && extra == 0);
    gdn(in_place, in_place, beta, gamma, inverse, 1);
    fuzz::require(same(out, in_place));
    if (kind % 16 == 0) {
      gdn(x, threaded, beta, gamma, inverse, 2);
      fuzz::require(same(out, threaded));
    }
    for (std::size_t i = 0; sane && i < out.size(); ++i) {
      double norm = beta[i % channels];
      for (std::size_t j = 0; j < channels; ++j) {
        const double value = x[i / channels * channels + j];
        norm += double{gamma[i % channels * channels + j]} * value * value;
      }
      const double expected = inverse ? x[i] * std::sqrt(norm) : x[i] / std::sqrt(norm);
      fuzz::require(std::abs(out[i] - expected) <= 1e-4 * std::abs(expected));
    }
  }
  return 0;
}

// Arbitrary floats as codebooks and vectors: refused, or the word that a search through all of them finds, on every
// instruction set, through any strides and on two threads.
#include <cmath>
#include <limits>
#include <stdexcept>

#include "fastlic/codebook/codebook.hpp"
#include "fastlic/memory.hpp"
#include "harness.hpp"

namespace {

using namespace fastlic;

// Half of the inputs have floats of few bits: such words lie at equal distances.
Vector<float> floats(fuzz::Input& input, std::size_t count, bool coarse) {
  Vector<float> out(count);
  for (float& value : out) value = coarse ? static_cast<float>(input.take<std::int8_t>()) / 8 : input.take<float>();
  return out;
}

std::int64_t nearest(const float* words, std::size_t k, std::size_t d, const float* x, std::ptrdiff_t stride) {
  double best = std::numeric_limits<double>::infinity();
  std::int64_t index = 0;
  for (std::size_t word = 0; word < k; ++word) {
    double distance = 0;
    for (std::size_t i = 0; i < d; ++i) {
      const double difference = double{x[static_cast<std::ptrdiff_t>(i) * stride]} - words[word * d + i];
      distance += difference * difference;
    }
    if (distance < best) {
      best = distance;
      index = static_cast<std::int64_t>(word);
    }
  }
  return index;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input input(data, size);
  const auto kind = input.take<std::uint8_t>();
  const std::size_t m = kind % 3, k = input.take<std::uint8_t>(), d = input.take<std::uint8_t>() % 40;
  const std::size_t n = input.take<std::uint8_t>() % 40;
  const bool coarse = (kind & 64) == 0;
  const Vector<float> words = floats(input, m * k * d, coarse), x = floats(input, n * m * d, coarse);
  const auto signed_of = [](std::size_t value) { return static_cast<std::ptrdiff_t>(value); };
  // Channels last, or rows last.
  const codebook::Codebooks::Strides strides = (kind & 128) == 0
                                                   ? codebook::Codebooks::Strides{signed_of(m * d), signed_of(d), 1}
                                                   : codebook::Codebooks::Strides{1, signed_of(d * n), signed_of(n)};
  const auto search = [&]() -> Vector<std::int64_t> {
    Vector<std::int64_t> out(n * m, -1);
    try {
      const codebook::Codebooks books(words.data(), m, k, d, active_isa());
      books.nearest(x.data(), n, strides, out.data(), kind % 16 == 0 ? 2 : 1);
    } catch (const std::invalid_argument&) {
      return {-1};
    }
    return out;
  };
  const auto found = fuzz::on_every_isa(search);
  if (found == Vector<std::int64_t>{-1}) {
    bool finite = m > 0 && k > 0 && d > 0;
    for (const float value : words) finite = finite && std::isfinite(value);
    for (const float value : x) finite = finite && std::isfinite(value);
    fuzz::require(!finite);
    return 0;
  }
  for (std::size_t i = 0; i < n * m; ++i) {
    const std::size_t row = i / m, group = i % m;
    const float* vector = x.data() + signed_of(row) * strides.rows + signed_of(group) * strides.groups;
    fuzz::require(found[i] == nearest(&words[group * k * d], k, d, vector, strides.channels));
  }
  return 0;
}

// Codes of one level under a context model: rANS with the frequencies that the words around give. Positions in raster
// order, at each of them group after group; words outside of the image have number `words`.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fastlic/codes/model.hpp"
#include "fastlic/memory.hpp"

namespace fastlic::codes {

struct Size {
  std::size_t height, width;
};

// What words cost: the squared distance to a vector, its terms taken and summed in double in channel order, and a price
// times the bits of a word.
struct Costs {
  const float* vectors;  // [height][width][groups][channels]
  const float* words;    // [groups][words][channels]
  const float* prices;   // [height][width][groups]
  std::size_t channels;
};

// Safe to share between threads. Codes are [groups][height][width].
class Context {
 public:
  explicit Context(const nn::Arrays& arrays) : model_(arrays) {}

  const Model& model() const noexcept { return model_; }

  // Throws std::invalid_argument for codes that are no words. `work`: what Progress is told of all codes, as rows are
  // done.
  Vector<std::uint8_t> encode(const std::int32_t* codes, Size size, unsigned threads, double work = 0) const;
  // out[i]: the frequency that codes[i] is coded with, of 2^precision.
  void frequencies(const std::int32_t* codes, Size size, std::uint32_t* out, unsigned threads) const;
  // Codes in coding order: at each place the word of least cost, given the words chosen before it. Bits count from
  // those of the likeliest word, in whole 2^-8 as logits do. Of equals the lowest index.
  void choose(const Costs& costs, Size size, std::int32_t* out) const;
  // Throws CorruptStream. `work` as of encode.
  void decode(const std::uint8_t* data, std::size_t bytes, Size size, std::int32_t* out, double work = 0) const;

 private:
  Model model_;
};

}  // namespace fastlic::codes

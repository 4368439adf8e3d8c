// The context model of codebook indexes, parsed and proven once: after the constructor nothing can overflow or read out
// of bounds, whatever file the arrays came from. Arithmetic and names: fastlic/entropy/code_context.py, docs/stream.md.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fastlic/memory.hpp"
#include "fastlic/nn/arrays.hpp"
#include "fastlic/nn/fixed.hpp"
#include "fastlic/nn/layer.hpp"

namespace fastlic::codes {

using nn::Buffer;
using nn::kPanel;
using nn::Layer;
using nn::Offset;
using nn::PackedMatrix;
using nn::padded;
using nn::Requantiser;

constexpr std::size_t kMinWords = 2, kMaxWords = 65536;
constexpr std::size_t kMaxGroups = 256, kMaxDepth = 256, kMaxWidth = 4096;
constexpr int kReach = 8;                 // rows and columns to the furthest position that is looked at
constexpr unsigned kActivationBits = 12;  // of hidden layers
constexpr unsigned kMaxLogitBits = 21;
constexpr unsigned kLogitFraction = 8;  // logits count 2^-8 bits
constexpr unsigned kMaxPrecision = 24;
constexpr unsigned kWeightBits = 20;         // the likeliest word weighs 2^20,
constexpr unsigned kProductBits = 52;        // and products of weights with the rate are at most 2^52
constexpr std::int32_t kNever = -(1 << 26);  // logit of what is no word: it weighs nothing

// Layers of one group. The first one's products with words of earlier rows are taken for all groups at once.
struct Group {
  PackedMatrix beside;  // [words of the same row, then of earlier groups][width]
  Requantiser requantiser;
  Layer second, last;
};

struct Model {
  explicit Model(const nn::Arrays& arrays);

  std::size_t groups, words, depth;
  unsigned precision;               // frequencies sum to 2^precision
  Vector<Offset> above, beside;     // positions that are looked at: in earlier rows, and in the same one
  Vector<std::int8_t> embeddings;   // [groups][words + 1][depth]
  std::size_t width;                // padded, of the first layers
  PackedMatrix of_above;            // [words of earlier rows][groups * width]
  Buffer<std::int32_t> first_bias;  // [groups * width]
  Vector<Group> of;
  Buffer<std::int32_t> table;  // [256]: 2^20 2^(-i/256)

  const std::int8_t* embedding(std::size_t group, std::uint32_t word) const noexcept {
    return &embeddings[(group * (words + 1) + word) * depth];
  }
};

}  // namespace fastlic::codes

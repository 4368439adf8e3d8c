// Global and local attention of the MLIC family as integers: what its networks consist of, as fastlic/entropy/mlic
// defines them.
#pragma once

#include <array>
#include <cstdint>

#include "fastlic/nn/layer.hpp"
#include "fastlic/nn/network.hpp"

namespace fastlic::attention {

using nn::Buffer;
using nn::kActivation;
using nn::kPanel;
using nn::Layer;
using nn::padded;
using nn::Requantiser;
using nn::TailLines;

constexpr std::int32_t kScore = 32767;   // 16 bits: scores, sums of two activations
constexpr std::int32_t kWeight = 32767;  // largest softmax weight
constexpr unsigned kValueBits = 8;       // of weighted means below the values' unit
constexpr unsigned kReciprocalBits = 40;
constexpr std::size_t kReciprocalTokens = 64;
constexpr std::size_t kMaxLocalDims = 64;  // of one head of local context
constexpr std::size_t kWindow = 5, kTokens = kWindow * kWindow, kLocalHeads = 2, kIntraHeads = 2;
constexpr std::size_t kLocalReach = 2;  // keys that softmax attention leaves to local context
constexpr std::size_t kTanhEntries = 4096;
// Residual prediction is added to a latent after it was clipped, by at most an int8: |y| <= kLatentLimit + this.
constexpr std::int32_t kResidueLimit = 128;

struct Tables {
  // One entry more than is used: gathering instructions read 32 bits.
  Buffer<std::uint16_t> exp;  // exp[last] is 0 and serves everything beyond
  std::int32_t last = 0;
  TailLines tail;
  Buffer<std::int8_t> tanh;  // [4096]
};

struct Attention {
  std::size_t channels = 0, heads = 0;
  nn::Network key, value;
  nn::Network query;  // with attention itself, a step Outside, and all that follows it
  Requantiser score;  // per head; softmax attention only
  Requantiser attended;
};

struct LocalAttention {
  Layer qkv;
  Requantiser score, attended, output;
  Buffer<std::int32_t> bias;  // [2][25 queries][kPanel keys]
  std::array<std::int64_t, 2> epsilon{};
  Layer fusion;  // [25 * padded(C)] -> out, one row per window
  Layer proj;
  Layer mlp_in, mlp_out;
};

}  // namespace fastlic::attention

// The integer entropy model of the MLIC family, parsed and proven once: after the constructor nothing can overflow or
// read out of bounds, whatever file the arrays came from. Arithmetic and array names are those of
// fastlic/entropy/mlic/model.py and fastlic/entropy/checkerboard.
//
// All activations of a position that several networks read lie in one row of memory,
//
//     [ local | intra | inter | channel | hyper scales | hyper means | slice 0 | slice 1 | ... ]
//
// each block padded to whole panels. Every network of the model reads a contiguous piece of it: nothing is ever
// concatenated. The first slice has no channel context; its early context, if the model has one, takes that block.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "fastlic/cdf_tables.hpp"
#include "fastlic/nn/arrays.hpp"
#include "fastlic/engine/model.hpp"
#include "fastlic/nn/layer.hpp"

namespace fastlic::mlic {

using nn::Buffer;
using nn::kPanel;
using nn::padded;
using nn::Requantiser;
using nn::Depthwise;
using nn::kActivation;
using nn::Layer;
using nn::Stack;
using nn::TailLines;

constexpr std::int32_t kScore = 32767;          // 16 bits: scores, sums of two activations
constexpr std::int32_t kWeight = 32767;         // largest softmax weight
constexpr unsigned kValueBits = 8;              // of weighted means below the values' unit
constexpr unsigned kReciprocalBits = 40;
constexpr std::size_t kReciprocalTokens = 64;
constexpr std::size_t kMaxLocalDims = 64;  // of one head of local context
constexpr std::size_t kWindow = 5, kTokens = kWindow * kWindow, kLocalHeads = 2, kIntraHeads = 2;
constexpr std::size_t kLocalReach = 2;          // keys that softmax attention leaves to local context
constexpr std::size_t kTanhEntries = 4096;
// Residual prediction is added to a latent after it was clipped, by at most an int8: |y| <= kLatentLimit + this.
constexpr std::int32_t kResidueLimit = 128;
constexpr std::size_t kMaxSlices = 64;

struct Tables {
  // One entry more than is used: gathering instructions read 32 bits.
  Buffer<std::uint16_t> exp;  // exp[last] is 0 and serves everything beyond
  std::int32_t last = 0;
  TailLines tail;
  Buffer<std::int8_t> tanh;  // [4096]
};

struct Projection {
  Layer mix;
  Depthwise spread;
};

struct Mlp {
  Layer in;
  Depthwise spread;
  Layer out;
};

struct Attention {
  std::size_t channels = 0, heads = 0;
  Projection query, key, value;
  Requantiser score;  // per head; softmax attention only
  Requantiser attended;
  Layer reprojection;
  Mlp mlp;
  Layer skip;            // inter
  Requantiser residual;  // intra
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

// One slice's networks.
struct Slice {
  Stack channel;
  Stack early;  // of the first slice, or empty: what its anchors in even rows tell about those in odd rows
  Attention inter, intra;
  LocalAttention local;
  Stack stacked;                             // MLIC's local context
  std::array<Stack, 2> parameters, residual;  // anchors, others
  Stack refined;                             // parameters of anchors behind the early context
  Requantiser input;                         // from latents to activations
};

enum class Family { mlic = 0, mlic_plus = 1, mlic_plus_plus = 2 };

// Where the blocks of a row begin.
struct Blocks {
  std::size_t local = 0, intra = 0, inter = 0, channel = 0, hyper = 0, means = 0, slices = 0, size = 0;
  std::size_t slice = 0;  // size of one
};

struct Model {
  Model(const nn::Arrays& arrays, std::shared_ptr<const CdfTables> z, std::shared_ptr<const CdfTables> y);

  Family family;
  std::shared_ptr<const CdfTables> z_tables, y_tables;
  double z_fewest_bits, y_fewest_bits;  // of the cheapest symbol of any row
  std::vector<std::int32_t> z_median;   // [N]
  Requantiser z_input;
  Stack hyper;
  std::vector<Slice> slices;
  nn::Thresholds thresholds;
  Tables tables;
  Blocks blocks;

  std::size_t hyper_channels() const noexcept { return z_median.size(); }
  std::size_t latent_channels() const noexcept { return slices.size() * slice_channels; }
  bool linear() const noexcept { return family == Family::mlic_plus_plus; }
  bool has_inter() const noexcept { return family != Family::mlic; }
  bool has_early() const noexcept { return !slices[0].early.empty(); }
  std::size_t slice_channels = 0;
};

}  // namespace fastlic::mlic

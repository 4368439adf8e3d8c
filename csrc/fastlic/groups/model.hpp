// The integer entropy model of channel groups and checkerboards, parsed and proven once: after the constructor nothing
// can overflow or read out of bounds, whatever file the arrays came from. Arithmetic and array names are those of
// fastlic/entropy/groups/model.py.
//
// All activations of a position lie in one row of memory,
//
//     [ ... | context | channel | hyper | group 0 | group 1 | ... ]
//
// each block padded to whole panels. Context and channel are those of the group in flight and end where the hyperprior
// begins, whatever their size: parameter networks read a contiguous piece, which begins behind the context for anchors.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "fastlic/cdf_tables.hpp"
#include "fastlic/nn/arrays.hpp"
#include "fastlic/engine/model.hpp"
#include "fastlic/nn/layer.hpp"

namespace fastlic::groups {

using nn::Requantiser;
using nn::Layer;
using nn::Stack;

constexpr std::size_t kMaxGroups = 64;

struct Group {
  std::size_t channels = 0;
  std::size_t first = 0;  // channel of the latent
  bool board = false;     // anchors first, then the others; or all positions in one pass
  std::size_t parity = 0;  // (row + column) % 2 of anchors
  Requantiser input;       // from latents to activations

  // The earlier groups that the channel context reads, as offsets in a row and sizes; `packed` if they do not lie side
  // by side from group 0 on.
  struct Piece {
    std::size_t offset, size;
  };
  std::vector<Piece> reads;
  bool packed = false;
  Stack channel;  // empty for the first group
  Layer context;  // boards only
  // Of anchors, or of all positions, and of the positions that know the context.
  Stack parameters, informed;

  // Where in a row things begin.
  std::size_t own = 0, channel_block = 0, context_block = 0;

  std::size_t passes() const noexcept { return board ? 2 : 1; }
};

struct Model {
  Model(const nn::Arrays& arrays, std::shared_ptr<const CdfTables> z, std::shared_ptr<const CdfTables> y);

  std::shared_ptr<const CdfTables> z_tables, y_tables;
  double z_fewest_bits, y_fewest_bits;  // of the cheapest symbol of any row
  std::vector<std::int32_t> z_median;   // [N]
  Requantiser z_input;
  Stack hyper;
  // From activations of y to z in units of 2^-6, for encoders only; empty where z comes from elsewhere.
  Stack analysis;
  Requantiser y_input;
  std::vector<Group> groups;
  nn::Thresholds thresholds;
  nn::TailLines tail;
  std::size_t hyper_block = 0, row = 0;  // where the hyperprior begins, and the size of a row

  std::size_t hyper_channels() const noexcept { return z_median.size(); }
  std::size_t latent_channels() const noexcept { return groups.back().first + groups.back().channels; }
  std::size_t passes() const noexcept {
    std::size_t sum = 0;
    for (const Group& group : groups) sum += group.passes();
    return sum;
  }
};

}  // namespace fastlic::groups

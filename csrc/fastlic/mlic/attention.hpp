// Global and local attention.
#pragma once

#include "fastlic/nn/convolve.hpp"
#include "fastlic/mlic/kernels.hpp"
#include "fastlic/mlic/model.hpp"

namespace fastlic::mlic {

using nn::Plane;
using nn::Source;
using nn::Target;

// What a run of the model computes with.
struct Tools : nn::Tools {
  const Kernels& own;
  const Tables& tables;
};

inline Tools tools_for(Isa isa, const Tables& tables, Team& team) {
  return {{nn::kernels(isa), tables.tail, team}, kernels(isa), tables};
}

// Columns of one parity in one row, from `first` on, every second one. Anchors have an odd row + column.
struct Parity {
  bool anchors;
  std::size_t first(std::size_t row) const noexcept { return (row + (anchors ? 1 : 0)) % 2; }
  std::size_t count(std::size_t row, std::size_t width) const noexcept { return (width - first(row) + 1) / 2; }
};

// Memory of one run, shared by all slices.
struct Workspace {
  Plane stack[2];
  Plane mixed, query, key, value, attended, projected, hidden, spread, sum;
};

// Attention over all earlier slices.
void inter_context(const Attention& net, bool linear, const Source& decoded, const Target& out, Workspace& work,
                   const Tools& tools);

// Attention inside a slice: others of the previous slice ask its anchors about the current one's.
// previous_others, previous_anchors: the previous slice with the other parity zeroed.
void intra_context(const Attention& net, bool linear, const Source& previous_others, const Source& previous_anchors,
                   const Source& current_anchors, const Target& out, Workspace& work, const Tools& tools);

// Windows of anchors around every other position. latent: [positions][channels] in units of 2^-6, zero but at anchors.
void local_context(const LocalAttention& net, const std::int32_t* latent, std::size_t channels, const Target& out,
                   Workspace& work, const Tools& tools);

}  // namespace fastlic::mlic

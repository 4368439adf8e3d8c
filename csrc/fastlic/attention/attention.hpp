// Global and local attention.
#pragma once

#include "fastlic/attention/kernels.hpp"
#include "fastlic/attention/model.hpp"
#include "fastlic/latents/colour.hpp"
#include "fastlic/nn/convolve.hpp"

namespace fastlic::attention {

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

constexpr latents::Colour kAnchors{1};

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

// A group's channels of a latent in units of 2^-6, position by position, `stride` apart.
struct Latents {
  const std::int32_t* data;
  std::size_t stride, channels;
};

// Windows of anchors around every other position. Of the latents, only those of anchors are read.
void local_context(const LocalAttention& net, const Latents& latents, const Target& out, Workspace& work,
                   const Tools& tools);

}  // namespace fastlic::attention

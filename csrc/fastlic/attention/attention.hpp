// Global and local attention.
#pragma once

#include "fastlic/attention/kernels.hpp"
#include "fastlic/attention/model.hpp"
#include "fastlic/latents/colour.hpp"
#include "fastlic/nn/convolve.hpp"
#include "fastlic/nn/network.hpp"

namespace fastlic::attention {

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

// What a run keeps for each position of the map in the course of one context; all slices share it.
class Workspace {
 public:
  // Room for so many numbers; what was there is lost.
  std::int16_t* kept(std::size_t size) {
    if (kept_.size() < size) {
      kept_ = {};  // before there is more
      kept_ = Buffer<std::int16_t>(size);
    }
    return kept_.data();
  }

 private:
  Buffer<std::int16_t> kept_;
};

// Attention over all earlier slices. `room`: a map of as many channels where keys may lie until `out` is written.
void inter_context(const Attention& net, bool linear, const Source& decoded, const Target& out,
                   const std::optional<Target>& room, Workspace& work, const Tools& tools);

// Attention inside a slice: others of the previous slice ask its anchors about the current one's.
// current: of positions that are no anchors all is zero.
void intra_context(const Attention& net, bool linear, const Source& previous, const Source& current, const Target& out,
                   Workspace& work, const Tools& tools);

// A group's channels of a latent in units of 2^-6, position by position, `stride` apart.
struct Latents {
  const std::int32_t* data;
  std::size_t stride, channels;
};

// Windows of anchors around every other position. Of the latents, only those of anchors are read.
void local_context(const LocalAttention& net, const Latents& latents, const Target& out, Workspace& work,
                   const Tools& tools);

}  // namespace fastlic::attention

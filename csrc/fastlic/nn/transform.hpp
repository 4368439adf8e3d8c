// A transform of integers: a network, and what brings latents to its input. docs/transforms.md defines both.
#pragma once

#include <cstdint>
#include <optional>

#include "fastlic/memory.hpp"
#include "fastlic/nn/network.hpp"

namespace fastlic::nn {

struct Transform {
  Network network;
  std::optional<Requantiser> entry;  // from latents; none for pixels, which enter as they are
};

// Arrays name.entry.*, if there are any, and those of the network. Faults are std::invalid_argument.
Transform read_transform(const ArrayReader& arrays, const String& name);

// The same weights with other requantisers at the ends, name.entry.* and name.exit.*: those of one quality.
Transform with_ends(const Transform& transform, const ArrayReader& arrays, const String& name);

// The feed of a map of latents, int32 [height][width][channels], rows `next` positions apart, which must outlive it.
Function<void(std::size_t, std::int16_t*, std::size_t)> latents_feed(const Transform& transform,
                                                                     const std::int32_t* latents, std::size_t width,
                                                                     std::size_t next, Isa isa);

}  // namespace fastlic::nn

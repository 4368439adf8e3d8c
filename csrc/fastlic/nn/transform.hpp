// A transform of integers: a network, and what brings latents to its input. docs/transforms.md defines both.
#pragma once

#include <optional>
#include <string>

#include "fastlic/nn/network.hpp"

namespace fastlic::nn {

struct Transform {
  Network network;
  std::optional<Requantiser> entry;  // from latents; none for pixels, which enter as they are
};

// Arrays name.entry.*, if there are any, and those of the network. Faults are std::invalid_argument.
Transform read_transform(const ArrayReader& arrays, const std::string& name);

// The same weights with other requantisers at the ends, name.entry.* and name.exit.*: those of one quality.
Transform with_ends(const Transform& transform, const ArrayReader& arrays, const std::string& name);

// A row of latents, int32 [width][channels], as the first value of a network with an entry.
void enter(const Transform& transform, const std::int32_t* latents, std::size_t width, std::int16_t* out,
           std::size_t stride, Isa isa);

}  // namespace fastlic::nn

#include "fastlic/nn/transform.hpp"

#include <algorithm>
#include <utility>

#include "fastlic/memory.hpp"

namespace fastlic::nn {
namespace {

constexpr std::int32_t kPixelLimit = 255;

// Any of its arrays; reading it says which of them are missing.
bool has_requantiser(const ArrayReader& arrays, const String& prefix) {
  const auto has = [&](const char* name) { return arrays.has(prefix + name); };
  return has(".multiplier") || has(".negative") || has(".shift") || has(".bits");
}

}  // namespace

Transform read_transform(const ArrayReader& arrays, const String& name) {
  const String entry = name + ".entry";
  Transform out;
  Value input{0, kPixelLimit};
  if (has_requantiser(arrays, entry)) {
    out.entry = read_requantiser(arrays, entry, arrays.int32s(entry + ".multiplier").size(), kMaxActivationBits);
    input = {out.entry->channels, out.entry->limit};
  }
  out.network = read_network(arrays, name, input);
  require(!out.entry || out.entry->channels == out.network.input().channels, entry,
          "serves another number of channels than are read");
  return out;
}

Transform with_ends(const Transform& transform, const ArrayReader& arrays, const String& name) {
  const String entry = name + ".entry", exit = name + ".exit";
  Transform out = transform;
  if (has_requantiser(arrays, entry)) {
    require(transform.entry.has_value(), entry, "has no place before pixels");
    Requantiser own = read_requantiser(arrays, entry, transform.entry->channels, kMaxActivationBits);
    require(own.limit == transform.entry->limit, entry, "has other bits");
    out.entry = std::move(own);
  }
  if (has_requantiser(arrays, exit)) out.network = with_exit(transform.network, arrays, exit);
  return out;
}

Function<void(std::size_t, std::int16_t*, std::size_t)> latents_feed(const Transform& transform,
                                                                     const std::int32_t* latents, std::size_t width,
                                                                     std::size_t next, Isa isa) {
  return [&entry = *transform.entry, latents, width, next, isa](std::size_t row, std::int16_t* to, std::size_t stride) {
    std::int16_t* activations = scratch<std::int16_t>(padded(entry.channels));  // rows of `to` may have no room for all
    for (std::size_t x = 0; x < width; ++x) {
      activate(latents + (row * next + x) * entry.channels, entry, activations, kernels(isa));
      std::copy_n(activations, entry.channels, to + x * stride);
    }
  };
}

}  // namespace fastlic::nn

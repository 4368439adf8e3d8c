#include "fastlic/nn/transform.hpp"

#include <algorithm>
#include <utility>

#include "fastlic/memory.hpp"
#include "fastlic/parallel.hpp"

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

void enter(const Transform& transform, const std::int32_t* latents, std::size_t width, std::int16_t* out,
           std::size_t stride, Isa isa) {
  const Requantiser& entry = *transform.entry;
  const std::size_t channels = entry.channels, columns = padded(channels);
  thread_local Scratch<Buffer<std::int32_t>> kept_values;
  thread_local Scratch<Buffer<std::int16_t>> kept_activations;
  auto& values = kept_values.values;
  auto& activations = kept_activations.values;
  values.assign(columns, 0);
  activations.resize(columns);
  for (std::size_t x = 0; x < width; ++x) {
    std::copy_n(latents + x * channels, channels, values.begin());
    kernels(isa).requantise16(values.data(), entry, {0, columns}, activations.data());
    std::copy_n(activations.data(), channels, out + x * stride);
  }
}

void run(const Transform& transform, MapSize size, std::size_t band, const RowEnds& ends, Isa isa, Team& team) {
  const auto each = [&](Rows rows, const auto& map, const auto& function) {
    parallel_for(rows.last - rows.first, team,
                 [&](std::size_t i) { function(rows.first + i, map.at(rows.first + i, 0), map.stride); });
  };
  const Ends whole{[&](Rows rows, const Target& map) { each(rows, map, ends.feed); },
                   [&](Rows rows, const Source& map) { each(rows, map, ends.take); },
                   [&](Rows rows, const View<const std::int32_t>& map) { each(rows, map, ends.take_wide); }};
  run(transform.network, size, band, whole, isa, team);
}

Function<void(std::size_t, std::int16_t*, std::size_t)> latents_feed(const Transform& transform,
                                                                     const std::int32_t* latents, std::size_t width,
                                                                     std::size_t next, Isa isa) {
  return [&transform, latents, width, next, isa](std::size_t row, std::int16_t* to, std::size_t stride) {
    enter(transform, latents + row * next * transform.entry->channels, width, to, stride, isa);
  };
}

}  // namespace fastlic::nn

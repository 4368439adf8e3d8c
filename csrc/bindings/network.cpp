// fastlic._native: transforms of integers. Images and latents come in and go out channel by channel, as torch has them.
#include "fastlic/nn/network.hpp"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "array_refs.hpp"
#include "arrays.hpp"
#include "fastlic/parallel.hpp"
#include "registry.hpp"

namespace fastlic::bindings {
namespace {

using Bytes = Array<std::uint8_t>;
using Int32s = Array<std::int32_t>;
using nn::MapSize;
using nn::Network;
using nn::Rows;

struct Transform {
  Network network;
  std::optional<nn::Requantiser> entry;  // from latents; none for pixels
};

std::shared_ptr<Transform> make(const py::dict& arrays, const std::string& name) {
  const ArrayRefs refs(arrays);
  const nn::ArrayReader reader(refs.refs());
  const std::string entry = name + ".entry";
  auto out = std::make_shared<Transform>();
  if (reader.has(entry + ".multiplier")) {
    const std::size_t channels = reader.int32s(entry + ".multiplier").size();
    out->entry = nn::read_requantiser(reader, entry, channels, nn::kMaxActivationBits);
  }
  out->network = nn::read_network(reader, name, out->entry ? out->entry->limit : 255);
  if (out->entry && out->entry->channels != out->network.input().channels) {
    throw std::invalid_argument("integer network: '" + entry + "' serves another number of channels than are read");
  }
  return out;
}

// The same weights with other requantisers at its ends: those of one quality.
std::shared_ptr<Transform> vary(const Transform& base, const py::dict& changes, const std::string& name) {
  const ArrayRefs refs(changes);
  const nn::ArrayReader reader(refs.refs());
  auto out = std::make_shared<Transform>(base);
  const std::string entry = name + ".entry", exit = name + ".exit";
  if (reader.has(entry + ".multiplier")) {
    if (!base.entry) throw std::invalid_argument("integer network: '" + entry + "' has no place before pixels");
    nn::Requantiser own = nn::read_requantiser(reader, entry, base.entry->channels, nn::kMaxActivationBits);
    if (own.limit != base.entry->limit) throw std::invalid_argument("integer network: '" + entry + "' has other bits");
    out->entry = std::move(own);
  }
  if (reader.has(exit + ".multiplier")) out->network = nn::with_exit(base.network, reader, exit);
  return out;
}

// Channels of one row, position by position.
template <typename From, typename To>
void interleave(const From* map, std::size_t channels, std::size_t plane, std::size_t width, std::size_t row, To* to,
                std::size_t stride) {
  for (std::size_t c = 0; c < channels; ++c) {
    const From* from = map + c * plane + row * width;
    for (std::size_t x = 0; x < width; ++x) to[x * stride + c] = static_cast<To>(from[x]);
  }
}

template <typename From, typename To>
void separate(const From* from, std::size_t stride, std::size_t channels, std::size_t plane, std::size_t width,
              std::size_t count, std::size_t row, To* map) {
  for (std::size_t c = 0; c < channels; ++c) {
    To* to = map + c * plane + row * width;
    for (std::size_t x = 0; x < count; ++x) to[x] = static_cast<To>(from[x * stride + c]);
  }
}

template <typename In, typename Out>
Array<Out> run_on(const Transform& transform, const Array<In>& x,
                  std::optional<std::pair<std::size_t, std::size_t>> crop, Threads threads, std::size_t band) {
  const Network& network = transform.network;
  if (x.ndim() != 3 || x.shape(1) < 1 || x.shape(2) < 1) {
    throw py::value_error("a map must be [channels, height, width], of at least one position");
  }
  const std::size_t channels = network.input().channels, out_channels = network.output().channels;
  require_equal(static_cast<std::size_t>(x.shape(0)), channels, "channels of the map and of what the network reads");
  const MapSize size{static_cast<std::size_t>(x.shape(1)), static_cast<std::size_t>(x.shape(2))};
  const MapSize whole = nn::output_size(network, size);
  const MapSize out_size = crop ? MapSize{crop->first, crop->second} : whole;
  if (out_size.height < 1 || out_size.width < 1 || out_size.height > whole.height || out_size.width > whole.width) {
    throw py::value_error("the network's output is " + std::to_string(whole.height) + " x " +
                          std::to_string(whole.width) + ", nothing larger can be asked for");
  }
  Array<Out> out({out_channels, out_size.height, out_size.width});
  Call call;
  const In* from = call.in(x, "x").data();
  Out* to = out.mutable_data();
  const std::size_t plane = size.height * size.width, out_plane = out_size.height * out_size.width;
  const auto unlocked = call.unlock();
  Team team(threads.count);
  const nn::Kernels& kernels = nn::kernels(active_isa());
  const auto feed = [&](Rows rows, const nn::Target& map) {
    parallel_for(rows.last - rows.first, team, [&](std::size_t i) {
      const std::size_t row = rows.first + i;
      if (!transform.entry) return interleave(from, channels, plane, size.width, row, map.at(row, 0), map.stride);
      const std::size_t padded = nn::padded(channels);
      thread_local nn::Buffer<std::int32_t> values;
      thread_local nn::Buffer<std::int16_t> activations;
      values.assign(padded * size.width, 0);
      activations.resize(padded);
      interleave(from, channels, plane, size.width, row, values.data(), padded);
      for (std::size_t column = 0; column < size.width; ++column) {
        kernels.requantise16(&values[column * padded], *transform.entry, {0, padded}, activations.data());
        std::copy_n(activations.data(), channels, map.at(row, column));
      }
    });
  };
  const auto take = [&](Rows rows, const auto& map) {
    parallel_for(rows.last - rows.first, team, [&](std::size_t i) {
      const std::size_t row = rows.first + i;
      if (row >= out_size.height) return;
      separate(map.at(row, 0), map.stride, out_channels, out_plane, out_size.width, out_size.width, row, to);
    });
  };
  nn::run(network, size, band, {feed, take, take}, active_isa(), team);
  return out;
}

py::array run(const Transform& transform, const py::array& x, std::optional<std::pair<std::size_t, std::size_t>> crop,
              Threads threads, std::size_t band) {
  const bool pixels = transform.network.output().limit <= 255 && nn::never_negative(transform.network);
  const auto to = [&](const auto& map) -> py::array {
    if (pixels) return run_on<std::decay_t<decltype(*map.data())>, std::uint8_t>(transform, map, crop, threads, band);
    return run_on<std::decay_t<decltype(*map.data())>, std::int32_t>(transform, map, crop, threads, band);
  };
  if (transform.entry) {
    if (!py::isinstance<Int32s>(x)) throw py::type_error("this network reads latents: int32, C-contiguous");
    return to(py::reinterpret_borrow<Int32s>(x));
  }
  if (!py::isinstance<Bytes>(x)) throw py::type_error("this network reads pixels: uint8, C-contiguous");
  return to(py::reinterpret_borrow<Bytes>(x));
}

}  // namespace

FASTLIC_BINDINGS(network) {
  py::class_<Transform, std::shared_ptr<Transform>>(module, "Transform")
      .def(py::init(&make), py::arg("arrays"), py::arg("name"))
      .def("vary", &vary, py::arg("changes"), py::arg("name"))
      .def("run", &run, py::arg("x"), py::arg("crop"), py::arg("threads"), py::arg("band") = 0);
}

}  // namespace fastlic::bindings

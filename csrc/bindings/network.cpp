// fastlic._native: transforms of integers. Pixels come in and go out channel by channel, latents position by position.
#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "array_refs.hpp"
#include "arrays.hpp"
#include "fastlic/nn/transform.hpp"
#include "fastlic/parallel.hpp"
#include "registry.hpp"

namespace fastlic::bindings::of_network {
namespace {

using Bytes = Array<std::uint8_t>;
using Int32s = Array<std::int32_t>;
using nn::MapSize;
using nn::Network;
using nn::Transform;

std::shared_ptr<Transform> make(const py::dict& arrays, const String& name) {
  const ArrayRefs refs(arrays);
  return std::make_shared<Transform>(nn::read_transform(nn::ArrayReader(refs.refs()), name));
}

std::shared_ptr<Transform> vary(const Transform& base, const py::dict& changes, const String& name) {
  const ArrayRefs refs(changes);
  return std::make_shared<Transform>(nn::with_ends(base, nn::ArrayReader(refs.refs()), name));
}

// A map as Python has it: pixels channel by channel, latents position by position.
template <typename T>
struct Map {
  T* data;
  std::size_t channels, width, plane;  // plane: positions

  static constexpr bool kPixels = sizeof(T) == 1;

  // Pixels of one row, position by position, `stride` apart.
  void read(std::size_t row, std::int16_t* to, std::size_t stride) const {
    for (std::size_t c = 0; c < channels; ++c) {
      const T* from = data + c * plane + row * width;
      for (std::size_t x = 0; x < width; ++x) to[x * stride + c] = static_cast<std::int16_t>(from[x]);
    }
  }
  template <typename From>
  void write(std::size_t row, const From* from, std::size_t stride) const {
    if constexpr (kPixels) {
      for (std::size_t c = 0; c < channels; ++c) {
        T* to = data + c * plane + row * width;
        for (std::size_t x = 0; x < width; ++x) to[x] = static_cast<T>(from[x * stride + c]);
      }
    } else {
      T* to = data + row * width * channels;
      for (std::size_t x = 0; x < width; ++x) std::copy_n(from + x * stride, channels, to + x * channels);
    }
  }
};

template <typename T>
std::array<std::size_t, 3> shape_of(const Array<T>& x) {  // channels, height, width
  const auto at = [&](int axis) { return static_cast<std::size_t>(x.shape(axis)); };
  return sizeof(T) == 1 ? std::array{at(0), at(1), at(2)} : std::array{at(2), at(0), at(1)};
}

template <typename In, typename Out>
Array<Out> run_on(const Transform& transform, const Array<In>& x,
                  std::optional<std::pair<std::size_t, std::size_t>> crop, Threads threads, std::size_t band) {
  const Network& network = transform.network;
  if (x.ndim() != 3 || x.size() == 0) {
    throw py::value_error("pixels must be [channels, height, width] and latents [height, width, channels], not empty");
  }
  const auto [own, height, width] = shape_of(x);
  const std::size_t channels = network.input().channels, out_channels = network.output().channels;
  require_equal(own, channels, "channels of the map and of what the network reads");
  const MapSize size{height, width};
  const MapSize whole = nn::output_size(network, size);
  const MapSize out_size = crop ? MapSize{crop->first, crop->second} : whole;
  if (out_size.height < 1 || out_size.width < 1 || out_size.height > whole.height || out_size.width > whole.width) {
    throw py::value_error("the network's output is " + std::to_string(whole.height) + " x " +
                          std::to_string(whole.width) + ", nothing larger can be asked for");
  }
  using Shape = std::vector<std::size_t>;
  Array<Out> out(sizeof(Out) == 1 ? Shape{out_channels, out_size.height, out_size.width}
                                  : Shape{out_size.height, out_size.width, out_channels});
  Call call;
  const Map<const In> from{call.in(x, "x").data(), channels, width, height * width};
  const Map<Out> to{out.mutable_data(), out_channels, out_size.width, out_size.height * out_size.width};
  const auto unlocked = call.unlock();
  Team team(threads.count);
  const Isa isa = active_isa();
  const auto take = [&](std::size_t row, const auto* values, std::size_t stride) {
    if (row < out_size.height) to.write(row, values, stride);
  };
  nn::RowEnds ends{{}, take, take};
  if constexpr (Map<const In>::kPixels) {
    ends.feed = [&](std::size_t row, std::int16_t* values, std::size_t stride) { from.read(row, values, stride); };
  } else {
    ends.feed = nn::latents_feed(transform, from.data, width, width, isa);
  }
  nn::run(network, size, band, ends, isa, team);
  return out;
}

py::array run(const Transform& transform, const py::array& x, std::optional<std::pair<std::size_t, std::size_t>> crop,
              Threads threads, std::size_t band) {
  const bool pixels = nn::ends_with_pixels(transform.network);
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

}  // namespace fastlic::bindings::of_network

// fastlic._native: the fused engine of channel groups and checkerboards. Arrays come in and go out position by position,
// channels innermost.
#include "fastlic/groups/engine.hpp"

#include <pybind11/stl.h>

#include <memory>

#include "engines.hpp"
#include "registry.hpp"

namespace fastlic::bindings {
namespace {

using groups::Engine;

// z symbols and y of one image, as Python sees them.
struct Maps {
  Int32s z, y;

  Maps(const Engine& engine, Size size)
      : z({size.hyper_height(), size.hyper_width(), engine.model().hyper_channels()}),
        y({size.height, size.width, engine.model().latent_channels()}) {}
  groups::Outputs outputs() { return {z.mutable_data(), y.mutable_data()}; }
};

py::list analyse_many(const Engine& engine, const std::vector<Int32s>& y, Threads threads) {
  struct Image {
    Size size;
    const std::int32_t* y;
    std::int32_t* z_out;
  };
  std::vector<Image> images;
  std::vector<Int32s> z;
  Call call;
  for (const Int32s& map : y) {
    if (map.ndim() != 3 || map.shape(0) < 1 || map.shape(1) < 1) throw py::value_error("y must be [height, width, M]");
    require_equal(static_cast<std::size_t>(map.shape(2)), engine.model().latent_channels(), "channels of y and its model");
    const Size size{static_cast<std::size_t>(map.shape(0)), static_cast<std::size_t>(map.shape(1))};
    Int32s& out = z.emplace_back(
        std::vector<std::size_t>{size.hyper_height(), size.hyper_width(), engine.model().hyper_channels()});
    images.push_back({size, call.in(map, "y", images.size()).data(), out.mutable_data()});
  }
  for_images(call, images, threads, [&](const Image& image, unsigned inner) {
    engine.analyse(image.y, image.size, image.z_out, inner);
  });
  py::list result;
  for (const Int32s& map : z) result.append(map);
  return result;
}

py::list encode_many(const Engine& engine, const std::vector<Int32s>& z, const std::vector<Int32s>& y,
                     Threads threads) {
  require_equal(z.size(), y.size(), "lists z and y");
  struct Image {
    Size size;
    const std::int32_t *z, *y;
    groups::Outputs out;
    std::vector<engine::Bytes> sections;
  };
  std::vector<Image> images;
  std::vector<Maps> maps;
  Call call;
  for (std::size_t i = 0; i < z.size(); ++i) {
    const Size size = checked_size(engine, z[i], y[i], 2);  // narrower ones lack anchors
    Maps& own = maps.emplace_back(engine, size);
    images.push_back({size, call.in(z[i], "z", i).data(), call.in(y[i], "y", i).data(), own.outputs(), {}});
  }
  for_images(call, images, threads, [&](Image& image, unsigned inner) {
    image.sections = engine.encode(image.z, image.y, image.size, image.out, inner);
  });
  py::list result;
  for (std::size_t i = 0; i < images.size(); ++i) {
    py::list sections;
    for (const engine::Bytes& section : images[i].sections) sections.append(to_bytes(section));
    result.append(py::make_tuple(sections, maps[i].z, maps[i].y));
  }
  return result;
}

py::list decode_many(const Engine& engine, const std::vector<std::vector<py::buffer>>& streams,
                     const std::vector<std::pair<std::size_t, std::size_t>>& sizes, Threads threads) {
  require_equal(streams.size(), sizes.size(), "lists of streams and sizes");
  struct Image {
    Size size;
    std::vector<std::span<const std::uint8_t>> sections;
    groups::Outputs out;
  };
  Call call;
  std::vector<std::vector<py::buffer_info>> buffers(streams.size());
  std::vector<Image> images;
  std::vector<Maps> maps;
  for (std::size_t i = 0; i < streams.size(); ++i) {
    std::vector<std::span<const std::uint8_t>> sections;
    for (const py::buffer& section : streams[i]) buffers[i].push_back(section.request());
    for (const py::buffer_info& info : buffers[i]) sections.push_back(call.bytes(info, "streams", i));
    const Size size{sizes[i].first, sizes[i].second};
    engine.check_sizes(sections, size);
    images.push_back({size, std::move(sections), maps.emplace_back(engine, size).outputs()});
  }
  for_images(call, images, threads, [&](const Image& image, unsigned inner) {
    engine.decode(image.sections, image.size, image.out, inner);
  });
  py::list result;
  for (const Maps& own : maps) result.append(py::make_tuple(own.z, own.y));
  return result;
}

}  // namespace

FASTLIC_BINDINGS(groups_engine) {
  py::class_<Engine, std::shared_ptr<Engine>>(module, "GroupsEngine")
      .def(py::init(&make_engine<Engine>), py::arg("arrays"), py::arg("z_tables").none(false),
           py::arg("y_tables").none(false))
      .def("analyse_many", &analyse_many, py::arg("y").noconvert(), py::arg("threads"))
      .def("encode_many", &encode_many, py::arg("z").noconvert(), py::arg("y").noconvert(), py::arg("threads"))
      .def("decode_many", &decode_many, py::arg("streams"), py::arg("sizes"), py::arg("threads"));
}

}  // namespace fastlic::bindings

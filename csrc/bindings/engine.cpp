// fastlic._native: the fused entropy engine. Arrays come in and go out position by position, channels innermost.
#include "fastlic/engine/engine.hpp"

#include <pybind11/stl.h>

#include <memory>

#include "engines.hpp"
#include "registry.hpp"

namespace fastlic::bindings {
namespace {

using engine::Engine;

std::shared_ptr<Engine> vary(const Engine& base, const py::dict& changes, std::shared_ptr<const CdfTables> z_tables,
                             std::shared_ptr<const CdfTables> y_tables) {
  return std::make_shared<Engine>(base, ArrayRefs(changes).refs(), std::move(z_tables), std::move(y_tables));
}

Int32s empty_map(std::size_t height, std::size_t width, std::size_t channels) {
  return Int32s({height, width, channels});
}

py::list encode_many(const Engine& engine, const std::vector<Int32s>& z, const std::vector<Int32s>& y,
                     const std::vector<Int32s>& zones, Threads threads) {
  require_equal(z.size(), y.size(), "lists z and y");
  const ZoneLists zones_of(engine, zones, y.size());
  Call call;
  struct Image {
    Size size;
    engine::Target target;
    std::int32_t *z_out, *y_out;
    Engine::Encoded bytes;
  };
  std::vector<Image> images;
  std::vector<std::pair<Int32s, Int32s>> outputs;
  for (std::size_t i = 0; i < z.size(); ++i) {
    const Size size = checked_size(engine, z[i], y[i], 1);
    auto& [z_out, y_out] = outputs.emplace_back(empty_map(z[i].shape(0), z[i].shape(1), z[i].shape(2)),
                                                empty_map(size.height, size.width, y[i].shape(2)));
    const engine::Target target{call.in(z[i], "z", i).data(), call.in(y[i], "y", i).data(), zones_of[i]};
    images.push_back({size, target, z_out.mutable_data(), y_out.mutable_data(), {}});
  }
  for_images(call, images, threads, [&](Image& image, unsigned inner) {
    image.bytes = engine.encode(image.target, image.size, image.z_out, image.y_out, inner);
  });
  py::list result;
  for (std::size_t i = 0; i < images.size(); ++i) {
    result.append(
        py::make_tuple(to_bytes(images[i].bytes.z), to_bytes(images[i].bytes.y), outputs[i].first, outputs[i].second));
  }
  return result;
}

py::tuple symbols(const Engine& engine, const Int32s& z, const Int32s& y, const std::vector<Int32s>& zones,
                  Threads threads) {
  const Size size = checked_size(engine, z, y, 1);
  const ZoneLists zones_of(engine, zones, 1);
  Call call;
  const engine::Target target{call.in(z, "z").data(), call.in(y, "y").data(), zones_of[0]};
  Engine::Symbols out;
  {
    const auto unlocked = call.unlock();
    out = engine.symbols(target, size, threads.count);
  }
  const auto count = static_cast<py::ssize_t>(out.symbols.size());
  return py::make_tuple(Array<std::uint8_t>(count, out.indexes.data()), Int32s(count, out.symbols.data()));
}

py::list decode_many(const Engine& engine, const std::vector<py::buffer>& z, const std::vector<py::buffer>& y,
                     const std::vector<std::pair<std::size_t, std::size_t>>& sizes, Threads threads) {
  struct Image {
    Streams streams;
    std::int32_t *z_out, *y_out;
  };
  Call call;
  std::vector<py::buffer_info> buffers;
  std::vector<Image> images;
  std::vector<std::pair<Int32s, Int32s>> outputs;
  const auto& model = engine.model();
  for (const Streams& streams : checked_streams(engine, z, y, sizes, buffers, call)) {
    const Size& size = streams.size;
    auto& [z_out, y_out] =
        outputs.emplace_back(empty_map(size.hyper_height(), size.hyper_width(), model.hyper_channels()),
                             empty_map(size.height, size.width, model.latent_channels()));
    images.push_back({streams, z_out.mutable_data(), y_out.mutable_data()});
  }
  for_images(call, images, threads, [&](const Image& image, unsigned inner) {
    engine.decode(image.streams.z, image.streams.y, image.streams.size, image.z_out, image.y_out, inner);
  });
  py::list result;
  for (const auto& [z_out, y_out] : outputs) result.append(py::make_tuple(z_out, y_out));
  return result;
}

}  // namespace

FASTLIC_BINDINGS(engine) {
  py::class_<Engine, std::shared_ptr<Engine>>(module, "EntropyEngine")
      .def(py::init(&make_engine<Engine>), py::arg("arrays"), py::arg("z_tables").none(false),
           py::arg("y_tables").none(false))
      .def("encode_many", &encode_many, py::arg("z").noconvert(), py::arg("y").noconvert(),
           py::arg("zones").noconvert(), py::arg("threads"))
      .def("vary", &vary, py::arg("changes"), py::arg("z_tables").none(false), py::arg("y_tables").none(false))
      .def("symbols", &symbols, py::arg("z").noconvert(), py::arg("y").noconvert(), py::arg("zones").noconvert(),
           py::arg("threads"))
      .def("decode_many", &decode_many, py::arg("z"), py::arg("y"), py::arg("sizes"), py::arg("threads"))
      .def_property_readonly("hyper_channels", [](const Engine& e) { return e.model().hyper_channels(); })
      .def_property_readonly("latent_channels", [](const Engine& e) { return e.model().latent_channels(); })
      .def_property_readonly("contextual", [](const Engine& e) { return e.model().contextual; });
}

}  // namespace fastlic::bindings

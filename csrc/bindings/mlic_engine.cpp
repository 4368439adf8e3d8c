// fastlic._native: the fused engine of the MLIC family. Arrays come in and go out position by position, channels
// innermost.
#include "fastlic/mlic/engine.hpp"

#include <pybind11/stl.h>

#include <algorithm>
#include <memory>

#include "engines.hpp"
#include "fastlic/mlic/attention.hpp"
#include "registry.hpp"

namespace fastlic::bindings {
namespace {

using mlic::Engine;

// z symbols, y and its symbols of one image, as Python sees them.
struct Maps {
  Int32s z, y, symbols;

  Maps(const Engine& engine, Size size)
      : z({size.hyper_height(), size.hyper_width(), engine.model().hyper_channels()}),
        y({size.height, size.width, engine.model().latent_channels()}),
        symbols({size.height, size.width, engine.model().latent_channels()}) {}
  mlic::Outputs outputs() { return {z.mutable_data(), y.mutable_data(), symbols.mutable_data()}; }
};

py::list encode_many(const Engine& engine, const std::vector<Int32s>& z, const std::vector<Int32s>& y,
                     const std::vector<Int32s>& zones, Threads threads) {
  require_equal(z.size(), y.size(), "lists z and y");
  const ZoneLists zones_of(engine, zones, y.size());
  Call call;
  struct Image {
    Size size;
    engine::Target target;
    mlic::Outputs out;
    Engine::Encoded bytes;
  };
  std::vector<Image> images;
  std::vector<Maps> maps;
  for (std::size_t i = 0; i < z.size(); ++i) {
    const Size size = checked_size(engine, z[i], y[i], 2);  // narrower ones lack anchors
    Maps& own = maps.emplace_back(engine, size);
    const engine::Target target{call.in(z[i], "z", i).data(), call.in(y[i], "y", i).data(), zones_of[i]};
    images.push_back({size, target, own.outputs(), {}});
  }
  for_images(call, images, threads, [&](Image& image, unsigned inner) {
    image.bytes = engine.encode(image.target, image.size, image.out, inner);
  });
  py::list result;
  for (std::size_t i = 0; i < images.size(); ++i) {
    result.append(py::make_tuple(to_bytes(images[i].bytes.z), to_bytes(images[i].bytes.y), maps[i].z, maps[i].y,
                                 maps[i].symbols));
  }
  return result;
}

py::list decode_many(const Engine& engine, const std::vector<py::buffer>& z, const std::vector<py::buffer>& y,
                     const std::vector<std::pair<std::size_t, std::size_t>>& sizes, std::size_t slices,
                     Threads threads) {
  struct Image {
    Streams streams;
    mlic::Outputs out;
  };
  Call call;
  std::vector<py::buffer_info> buffers;
  std::vector<Image> images;
  std::vector<Maps> maps;
  for (const Streams& streams : checked_streams(engine, z, y, sizes, buffers, call)) {
    images.push_back({streams, maps.emplace_back(engine, streams.size).outputs()});
  }
  for_images(call, images, threads, [&](const Image& image, unsigned inner) {
    engine.decode(image.streams.z, image.streams.y, image.streams.size, slices, image.out, inner);
  });
  py::list result;
  for (const Maps& own : maps) result.append(py::make_tuple(own.z, own.y, own.symbols));
  return result;
}

std::pair<std::size_t, std::size_t> checked_map(const Int32s& map, const char* name) {
  if (map.shape(0) < 1 || map.shape(1) < 1) throw py::value_error(std::string(name) + " must have at least one position");
  return {static_cast<std::size_t>(map.shape(0)), static_cast<std::size_t>(map.shape(1))};
}

// One context alone, for timing and comparison. latent: [height, width, channels of a slice] in units of 2^-6, zero but
// at anchors; the result [height, width, outputs] means something at the other positions only.
Array<std::int16_t> local_context(const Engine& engine, std::size_t slice, const Int32s& latent, Threads threads) {
  const mlic::Model& model = engine.model();
  if (slice >= model.slices.size() || model.family == mlic::Family::mlic) {
    throw py::value_error("no such slice with local attention");
  }
  if (latent.ndim() != 3) throw py::value_error("latent must be [height, width, channels]");
  require_equal(static_cast<std::size_t>(latent.shape(2)), model.slice_channels, "channels of latent and slice");
  const auto [h, w] = checked_map(latent, "latent");
  const std::vector<std::int32_t> values = copied(latent);  // read several times
  const mlic::LocalAttention& net = model.slices[slice].local;
  const std::size_t columns = net.proj.columns();
  Array<std::int16_t> out({h, w, columns});
  std::fill_n(out.mutable_data(), out.size(), std::int16_t{0});  // anchors stay so
  const mlic::Target target{out.mutable_data(), columns, h, w};
  {
    const auto unlocked = Call().unlock();
    const Isa isa = active_isa();
    mlic::Workspace work;
    Team team(threads.count);
    const mlic::Tools tools = mlic::tools_for(isa, model.tables, team);
    mlic::local_context(net, values.data(), model.slice_channels, target, work, tools);
  }
  return out;
}

// Attention over earlier slices alone. decoded: activations [height, width, channels of all slices before `slice`].
Array<std::int16_t> inter_context(const Engine& engine, std::size_t slice, const Int32s& decoded, Threads threads) {
  const mlic::Model& model = engine.model();
  if (slice < 1 || slice >= model.slices.size() || !model.has_inter()) {
    throw py::value_error("no such slice with attention over earlier ones");
  }
  if (decoded.ndim() != 3) throw py::value_error("decoded must be [height, width, channels]");
  const std::size_t c = model.slice_channels, block = model.blocks.slice;
  require_equal(static_cast<std::size_t>(decoded.shape(2)), slice * c, "channels of decoded and earlier slices");
  const auto [h, w] = checked_map(decoded, "decoded");
  const std::vector<std::int32_t> values = copied(decoded);
  nn::Buffer<std::int16_t> rows(h * w * slice * block);
  for (std::size_t i = 0; i < h * w * slice; ++i) {
    for (std::size_t k = 0; k < c; ++k) {
      const std::int32_t value = values[i * c + k];
      if (std::abs(std::int64_t{value}) > mlic::kActivation) throw py::value_error("activations have 12 bits");
      rows[i * block + k] = static_cast<std::int16_t>(value);
    }
  }
  const mlic::Attention& net = model.slices[slice].inter;
  const std::size_t columns = net.mlp.out.columns();
  Array<std::int16_t> out({h, w, columns});
  const mlic::Target target{out.mutable_data(), columns, h, w};
  {
    const auto unlocked = Call().unlock();
    const Isa isa = active_isa();
    mlic::Workspace work;
    Team team(threads.count);
    const mlic::Tools tools = mlic::tools_for(isa, model.tables, team);
    mlic::inter_context(net, model.linear(), {rows.data(), slice * block, h, w}, target, work, tools);
  }
  return out;
}

}  // namespace

FASTLIC_BINDINGS(mlic_engine) {
  py::class_<Engine, std::shared_ptr<Engine>>(module, "MlicEngine")
      .def(py::init(&make_engine<Engine>), py::arg("arrays"), py::arg("z_tables").none(false),
           py::arg("y_tables").none(false))
      .def("encode_many", &encode_many, py::arg("z").noconvert(), py::arg("y").noconvert(),
           py::arg("zones").noconvert(), py::arg("threads"))
      .def("decode_many", &decode_many, py::arg("z"), py::arg("y"), py::arg("sizes"), py::arg("slices"),
           py::arg("threads"))
      .def("local_context", &local_context, py::arg("slice"), py::arg("latent").noconvert(), py::arg("threads"))
      .def("inter_context", &inter_context, py::arg("slice"), py::arg("decoded").noconvert(), py::arg("threads"));
}

}  // namespace fastlic::bindings

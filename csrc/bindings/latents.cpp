// fastlic._native: the fused engines of latent models. Arrays come in and go out position by position, channels
// innermost.
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "array_refs.hpp"
#include "arrays.hpp"
#include "fastlic/attention/attention.hpp"
#include "fastlic/latents/engine.hpp"
#include "fastlic/parallel.hpp"
#include "registry.hpp"

namespace fastlic::bindings::of_latents {
namespace {

using latents::Bytes;
using latents::Engine;
using latents::Outputs;
using latents::Size;
using latents::Target;
using Int32s = Array<std::int32_t>;
using Int16s = Array<std::int16_t>;
using Tables = std::shared_ptr<const CdfTables>;

std::shared_ptr<Engine> make(const std::string& kind, const py::dict& arrays, Tables z, Tables y) {
  const std::map<std::string, decltype(&latents::read_groups)> readers = {
      {"wavefront", latents::read_gaussian}, {"groups", latents::read_groups}, {"slices", latents::read_slices}};
  const auto found = readers.find(kind);
  if (found == readers.end()) throw py::value_error("kind must be wavefront, groups or slices, got '" + kind + "'");
  return std::make_shared<Engine>(found->second(ArrayRefs(arrays).refs(), std::move(z), std::move(y)));
}

std::shared_ptr<Engine> vary(const Engine& base, const py::dict& changes, Tables z, Tables y) {
  return std::make_shared<Engine>(latents::vary(base.model(), ArrayRefs(changes).refs(), std::move(z), std::move(y)));
}

// ---- what Python hands over and gets back

// One image's latents on their way out, as far as they are asked for.
struct Maps {
  Int32s z;
  std::optional<Int32s> y, symbols;  // symbols: where y is more than these and their means

  Maps(const Engine& engine, Size size, bool latents, bool with_symbols)
      : z({size.hyper_height(), size.hyper_width(), engine.model().hyper_channels()}) {
    const std::vector<std::size_t> shape = {size.height, size.width, engine.model().latent_channels};
    if (latents) y.emplace(shape);
    if (with_symbols && engine.model().residual) symbols.emplace(shape);
  }
  Outputs outputs() {
    return {z.mutable_data(), y ? y->mutable_data() : nullptr, symbols ? symbols->mutable_data() : nullptr};
  }
};

std::string channels_first(const std::array<std::size_t, 3>& shape) {
  return "[" + std::to_string(shape[2]) + ", " + std::to_string(shape[0]) + ", " + std::to_string(shape[1]) + "]";
}

// Refuses a map [height, width, channels] unless `good`; in words, as callers have them, channels come first.
template <class Good>
std::array<std::size_t, 3> shape_of(const Int32s& map, const char* name, const std::string& wanted, Good good) {
  if (map.ndim() != 3) throw py::value_error(std::string(name) + " must be [height, width, channels]");
  const auto at = [&](int axis) { return static_cast<std::size_t>(map.shape(axis)); };
  const std::array shape{at(0), at(1), at(2)};
  if (good(shape)) return shape;
  throw py::value_error(std::string(name) + " must be " + wanted + ", got " + channels_first(shape));
}

Size size_of(const Engine& engine, const Int32s& y, std::size_t least_width) {
  const std::size_t m = engine.model().latent_channels;
  const auto [height, width, _] =
      shape_of(y, "y", "[" + std::to_string(m) + ", h, w], h at least 1 and w at least " + std::to_string(least_width),
               [&](const auto& shape) { return shape[0] >= 1 && shape[1] >= least_width && shape[2] == m; });
  return {height, width};
}

// One image to encode.
struct Image {
  Image(const Engine& engine, const Int32s& z, const Int32s& y, const std::optional<Int32s>& rounding, Call& call,
        std::size_t item)
      : size(size_of(engine, y, engine.model().least_width)) {
    const std::array wanted{size.hyper_height(), size.hyper_width(), engine.model().hyper_channels()};
    shape_of(z, "z", channels_first(wanted) + " for this y", [&](const auto& shape) { return shape == wanted; });
    if (rounding) {
      require_equal(static_cast<std::size_t>(rounding->size()), engine.model().y_tables->rows(),
                    "zones and rows of tables");
      zones = copied(*rounding);
    }
    const auto z_data = call.in(z, "z", item), y_data = call.in(y, "y", item);
    target = {z_data.data(), y_data.data(), rounding ? zones.data() : nullptr};
  }
  Image(Image&&) = default;  // moved, not copied: the target refers to the zones

  Size size;
  std::vector<std::int32_t> zones;
  Target target{};
};

// f(image, threads) for each image without Python's lock: one image per thread; a single image may use them all.
template <class Function>
void for_images(Call& call, std::size_t images, Threads threads, Function f) {
  const auto unlocked = call.unlock();
  const unsigned inner = images == 1 ? threads.count : 1;
  parallel_for(images, threads.count, [&](std::size_t i) { f(i, inner); });
}

py::list encode_many(const Engine& engine, const std::vector<Int32s>& z, const std::vector<Int32s>& y,
                     const std::vector<std::optional<Int32s>>& zones, bool latents, Threads threads) {
  require_equal(z.size(), y.size(), "lists z and y");
  require_equal(zones.size(), y.size(), "lists zones and y");
  Call call;
  std::vector<Image> images;
  std::vector<Maps> maps;
  std::vector<Outputs> out;
  std::vector<Vector<Bytes>> sections(y.size());
  for (std::size_t i = 0; i < y.size(); ++i) {
    images.emplace_back(engine, z[i], y[i], zones[i], call, i);
    out.push_back(maps.emplace_back(engine, images.back().size, latents, latents).outputs());
  }
  for_images(call, images.size(), threads, [&](std::size_t i, unsigned inner) {
    sections[i] = engine.encode(images[i].target, images[i].size, out[i], inner);
  });
  py::list result;
  for (std::size_t i = 0; i < images.size(); ++i) {
    py::list bytes;
    for (const Bytes& section : sections[i]) bytes.append(to_bytes(section));
    result.append(py::make_tuple(bytes, maps[i].z, maps[i].y, maps[i].symbols));
  }
  return result;
}

py::list decode_many(const Engine& engine, const std::vector<std::vector<py::buffer>>& streams,
                     const std::vector<std::pair<std::size_t, std::size_t>>& sizes, std::size_t groups,
                     bool with_symbols, Threads threads) {
  require_equal(streams.size(), sizes.size(), "lists of streams and sizes");
  Call call;
  std::vector<std::vector<py::buffer_info>> buffers(streams.size());  // Python lends the bytes as long as they live
  std::vector<std::vector<std::span<const std::uint8_t>>> sections(streams.size());
  std::vector<Maps> maps;
  std::vector<Outputs> out;
  const auto size = [&](std::size_t i) { return Size{sizes[i].first, sizes[i].second}; };
  for (std::size_t i = 0; i < streams.size(); ++i) {
    for (const py::buffer& section : streams[i]) buffers[i].push_back(section.request());
    for (const py::buffer_info& info : buffers[i]) sections[i].push_back(call.bytes(info, "streams", i));
    engine.check_sizes(sections[i], size(i));  // before outputs of that size are reserved
    out.push_back(maps.emplace_back(engine, size(i), true, with_symbols).outputs());
  }
  for_images(call, streams.size(), threads,
             [&](std::size_t i, unsigned inner) { engine.decode(sections[i], size(i), groups, out[i], inner); });
  py::list result;
  for (const Maps& own : maps) result.append(py::make_tuple(own.z, own.y, own.symbols));
  return result;
}

std::vector<Int32s> analyse_many(const Engine& engine, const std::vector<Int32s>& y, Threads threads) {
  Call call;
  std::vector<Size> sizes;
  std::vector<const std::int32_t*> from;
  std::vector<Int32s> z;
  std::vector<std::int32_t*> to;
  for (const Int32s& map : y) {
    const Size size = sizes.emplace_back(size_of(engine, map, 1));
    from.push_back(call.in(map, "y", from.size()).data());
    z.emplace_back(std::vector<std::size_t>{size.hyper_height(), size.hyper_width(), engine.model().hyper_channels()});
    to.push_back(z.back().mutable_data());
  }
  for_images(call, y.size(), threads,
             [&](std::size_t i, unsigned inner) { engine.analyse(from[i], sizes[i], to[i], inner); });
  return z;
}

py::tuple symbols(const Engine& engine, const Int32s& z, const Int32s& y, const std::optional<Int32s>& zones,
                  Threads threads) {
  Call call;
  const Image image(engine, z, y, zones, call, Call::kSingle);
  Engine::Symbols out;
  {
    const auto unlocked = call.unlock();
    out = engine.symbols(image.target, image.size, threads.count);
  }
  const auto count = static_cast<py::ssize_t>(out.symbols.size());
  return py::make_tuple(Array<std::uint8_t>(count, out.indexes.data()), Int32s(count, out.symbols.data()));
}

// ---- attention alone, for timing and comparison

// The step of that kind in a group.
template <class Step>
const Step& step_of(const Engine& engine, std::size_t group, const char* what) {
  const auto& groups = engine.model().groups;
  for (std::size_t i = 0; group < groups.size() && i < groups[group].steps.size(); ++i) {
    if (const Step* step = std::get_if<Step>(&groups[group].steps[i])) return *step;
  }
  throw py::value_error(std::string("no such group with ") + what);
}

// f(values, out, work, tools) fills `out`, [height, width, columns], from a map of that many channels.
template <class Function>
Int16s context_of(const Engine& engine, const Int32s& map, std::size_t channels, std::size_t columns, Threads threads,
                  Function f) {
  const auto [h, w, _] = shape_of(map, "maps", "[" + std::to_string(channels) + ", h, w], of at least one position",
                                  [&](const auto& shape) { return shape[0] * shape[1] > 0 && shape[2] == channels; });
  const std::vector<std::int32_t> values = copied(map);  // read several times
  Int16s out({h, w, columns});
  std::fill_n(out.mutable_data(), out.size(), std::int16_t{0});  // what is not written stays so
  const nn::Target target{out.mutable_data(), columns, h, w};
  const auto unlocked = Call().unlock();
  attention::Workspace work;
  Team team(threads.count);
  f(values, target, work, attention::tools_for(active_isa(), engine.model().tables, team));
  return out;
}

// latent: [height, width, channels of a group] in units of 2^-6; the result means something at positions that are no
// anchors only.
Int16s local_context(const Engine& engine, std::size_t group, const Int32s& latent, Threads threads) {
  const auto& net = step_of<latents::LocalContext>(engine, group, "local attention").net;
  const std::size_t channels = engine.model().groups[group].channels;
  return context_of(engine, latent, channels, net.proj.columns(), threads,
                    [&](const auto& values, const auto& out, auto& work, const auto& tools) {
                      attention::local_context(net, {values.data(), channels, channels}, out, work, tools);
                    });
}

// decoded: activations [height, width, channels of all groups before this one].
Int16s inter_context(const Engine& engine, std::size_t group, const Int32s& decoded, Threads threads) {
  const auto& net = step_of<latents::InterContext>(engine, group, "attention over earlier ones").net;
  const std::size_t channels = engine.model().groups[group].channels, block = nn::padded(channels);
  return context_of(engine, decoded, group * channels, nn::padded(net.query.output().channels), threads,
                    [&](const auto& values, const auto& out, auto& work, const auto& tools) {
                      nn::Buffer<std::int16_t> rows(values.size() / channels * block);
                      for (std::size_t i = 0; i < values.size(); ++i) {
                        if (std::abs(std::int64_t{values[i]}) > nn::kActivation) {
                          throw std::invalid_argument("activations have 12 bits");
                        }
                        rows[i / channels * block + i % channels] = static_cast<std::int16_t>(values[i]);
                      }
                      const nn::Source source{rows.data(), group * block, out.height, out.width};
                      attention::inter_context(net, engine.model().linear, source, out, std::nullopt, work, tools);
                    });
}

}  // namespace

FASTLIC_BINDINGS(latents) {
  py::class_<Engine, std::shared_ptr<Engine>>(module, "LatentEngine")
      .def(py::init(&make), py::arg("kind"), py::arg("arrays"), py::arg("z_tables").none(false),
           py::arg("y_tables").none(false))
      .def("vary", &vary, py::arg("changes"), py::arg("z_tables").none(false), py::arg("y_tables").none(false))
      .def("encode_many", &encode_many, py::arg("z").noconvert(), py::arg("y").noconvert(),
           py::arg("zones").noconvert(), py::arg("latents"), py::arg("threads"))
      .def("decode_many", &decode_many, py::arg("streams"), py::arg("sizes"), py::arg("groups"), py::arg("symbols"),
           py::arg("threads"))
      .def("analyse_many", &analyse_many, py::arg("y").noconvert(), py::arg("threads"))
      .def("symbols", &symbols, py::arg("z").noconvert(), py::arg("y").noconvert(), py::arg("zones").noconvert(),
           py::arg("threads"))
      .def("local_context", &local_context, py::arg("slice"), py::arg("latent").noconvert(), py::arg("threads"))
      .def("inter_context", &inter_context, py::arg("slice"), py::arg("decoded").noconvert(), py::arg("threads"))
      .def_property_readonly("groups",
                             [](const Engine& e) { return std::max<std::size_t>(e.model().groups.size(), 1); });
}

}  // namespace fastlic::bindings::of_latents

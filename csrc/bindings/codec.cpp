// fastlic._native: codec files, and codecs that need no more than numpy. Pixels are [height, width, channels].
#include "fastlic/codec/codec.hpp"

#include <pybind11/stl.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "arrays.hpp"
#include "attached.hpp"
#include "fastlic/codec/packing.hpp"
#include "fastlic/progress.hpp"
#include "registry.hpp"

namespace fastlic::bindings::of_codec {
namespace {

using codec::Codec;
using Pixels = Array<std::uint8_t>;

void translate(std::exception_ptr pointer) {
  const auto raise = [](const char* name, const std::exception& error) {
    const py::object type = py::module_::import("fastlic.errors").attr(name);
    py::set_error(type, error.what());
  };
  try {
    if (pointer) std::rethrow_exception(pointer);
  } catch (const codec::WrongCodec& error) {
    raise("ModelMismatchError", error);
  } catch (const codec::OverLimit& error) {
    raise("PixelLimitError", error);
  }
}

template <typename T>
py::array array_of(const Vector<std::size_t>& shape, const void* data) {
  return py::array_t<T>(py::array::ShapeContainer(shape.begin(), shape.end()), static_cast<const T*>(data));
}

py::dict dictionary(const nn::Arrays& arrays) {
  py::dict out;
  for (const auto& [name, own] : arrays) {
    const py::str key(name.data(), name.size());
    switch (own.type) {
      case nn::Type::int8: out[key] = array_of<std::int8_t>(own.shape, own.data); break;
      case nn::Type::uint8: out[key] = array_of<std::uint8_t>(own.shape, own.data); break;
      case nn::Type::int16: out[key] = array_of<std::int16_t>(own.shape, own.data); break;
      case nn::Type::int32: out[key] = array_of<std::int32_t>(own.shape, own.data); break;
    }
  }
  return out;
}

py::tuple read_codec_file(const py::buffer& data) {
  const py::buffer_info info = data.request();
  Call call;
  const auto bytes = call.bytes(info, "data");
  codec::File file;
  {
    const auto unlocked = call.unlock();
    file = codec::read_file(bytes);
  }
  py::dict floats;
  for (const auto& [name, own] : file.floats)
    floats[py::str(name.data(), name.size())] = array_of<float>(own.shape, own.values.data());
  py::list reads;
  for (const codec::Fingerprint& own : file.reads) reads.append(to_bytes(own));
  return py::make_tuple(file.name, file.family, codec::written(file.config, false), floats, dictionary(file.entropy),
                        dictionary(file.transforms), reads);
}

// Arrays of int8 or int16, as many bytes as a value has.
py::list unpack(unsigned bytes, const Vector<Vector<std::size_t>>& shapes, const py::buffer& data,
                const Array<std::int8_t>& classes, const Array<std::int16_t>& windows,
                const Array<std::int16_t>& tables) {
  if (bytes != 1 && bytes != 2) throw py::value_error("bytes must be 1 or 2, of a value");
  if (windows.ndim() != 2) throw py::value_error("windows must be [tables, 3]");
  const py::buffer_info info = data.request();
  Call call;
  codec::Packed packed;
  packed.bytes = bytes;
  packed.shapes = shapes;
  packed.data = call.bytes(info, "data");
  packed.classes = call.in(classes, "classes");
  packed.rows = static_cast<std::size_t>(windows.shape(0));
  const std::vector<std::int16_t> own = copied(windows), frequencies = copied(tables);
  const auto view = [](const std::vector<std::int16_t>& from) {
    return std::span{reinterpret_cast<const std::uint8_t*>(from.data()), 2 * from.size()};
  };
  packed.windows = view(own);
  packed.tables = view(frequencies);
  Vector<nn::Buffer<std::uint8_t>> values;
  {
    const auto unlocked = call.unlock();
    values = codec::unpack(packed);
  }
  py::list arrays;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    arrays.append(bytes == 1 ? array_of<std::int8_t>(shapes[i], values[i].data())
                             : array_of<std::int16_t>(shapes[i], values[i].data()));
  }
  return arrays;
}

std::shared_ptr<Codec> open(const py::buffer& data) {
  const py::buffer_info info = data.request();
  Call call;
  const auto bytes = call.bytes(info, "data");
  const auto unlocked = call.unlock();
  return std::make_shared<Codec>(bytes);
}

// Python runs what handles signals in its main thread alone.
bool in_main_thread() {
  const py::module_ threading = py::module_::import("threading");
  return threading.attr("get_ident")().equal(threading.attr("main_thread")().attr("ident"));
}

// Calls `told`, a function of a share, or None, from the thread that waits for the core. Signals have their say as
// well: Ctrl-C ends the call.
std::function<void(double)> teller(const py::object& told) {
  if (told.is_none()) {
    if (!in_main_thread()) return {};
    return [](double) {
      const py::gil_scoped_acquire locked;
      if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    };
  }
  if (PyCallable_Check(told.ptr()) == 0) throw py::type_error("progress must be callable, or None");
  return [&told](double share) {
    const py::gil_scoped_acquire locked;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    told(share);
  };
}

// Left, top, width and height.
using Box = std::optional<std::array<std::uint32_t, 4>>;

// channels: 0: as many as the image has.
Pixels decode(const Codec& self, const py::buffer& data, unsigned parts, Threads threads, std::uint64_t max_pixels,
              unsigned channels, const py::object& progress, const Box& box) {
  if (channels > 4) throw py::value_error("channels must be 0 to 4");
  const py::buffer_info info = data.request();
  // Its own copy: the owner may write to it meanwhile.
  const auto view = byte_view(info, "data");
  const std::vector<std::uint8_t> bytes(view.begin(), view.end());
  const codec::Limits limits{max_pixels};
  std::optional<codec::Region> region;
  if (box) region = codec::Region{(*box)[1], (*box)[0], {(*box)[3], (*box)[2]}};
  const Codec::Stream stream = self.check(bytes, parts, threads.count, limits, region);
  const auto [height, width] = stream.region.size;
  if (channels == 0) channels = stream.header.channels;
  Pixels out({height, width, std::size_t{channels}});
  std::uint8_t* to = out.mutable_data();
  const Progress watched(teller(progress));
  const auto unlocked = Call().unlock();
  self.decode(stream, threads.count, channels, to, channels * width);
  return out;
}

py::bytes encode(const Codec& self, const Pixels& pixels, unsigned quality, Threads threads, std::uint64_t max_pixels,
                 const py::sequence& metadata, const py::object& progress, double worth) {
  if (pixels.ndim() != 3 || pixels.shape(2) < 1 || pixels.shape(2) > 4) {
    throw py::value_error("pixels must be uint8 [height, width, 1 to 4]");
  }
  const auto height = static_cast<std::size_t>(pixels.shape(0)), width = static_cast<std::size_t>(pixels.shape(1));
  const auto channels = static_cast<std::size_t>(pixels.shape(2));
  Call call;
  const std::uint8_t* data = call.in(pixels, "pixels").data();
  const codec::Pixels image{data, height, width, channels * width, channels, channels < 3 ? std::size_t{0} : 1};
  std::optional<plane::View<const std::uint8_t>> alpha;
  if (channels % 2 == 0) alpha = {data + channels - 1, height, width, channels * width, channels};
  const Attached attached(call, metadata, "metadata");
  const Progress watched(teller(progress));
  return encoded(
      call, [&] { return self.encode(image, quality, threads.count, {max_pixels}, alpha, attached.views(), worth); });
}

}  // namespace

FASTLIC_BINDINGS(codec) {
  py::register_exception_translator(&translate);
  module.def("read_codec_file", &read_codec_file, py::arg("data"));
  module.def("unpack", &unpack, py::arg("bytes"), py::arg("shapes"), py::arg("data"), py::arg("classes").noconvert(),
             py::arg("windows").noconvert(), py::arg("tables").noconvert());
  py::class_<Codec, std::shared_ptr<Codec>>(module, "Codec")
      .def(py::init(&open), py::arg("data"))
      .def("decode", &decode, py::arg("data"), py::arg("parts"), py::arg("threads"), py::arg("max_pixels"),
           py::arg("channels") = 0u, py::arg("progress") = py::none(), py::arg("region") = py::none())
      .def("encode", &encode, py::arg("pixels").noconvert(), py::arg("quality"), py::arg("threads"),
           py::arg("max_pixels"), py::arg("metadata") = py::tuple(), py::arg("progress") = py::none(),
           py::arg("worth") = 1.0)
      .def("__copy__", [](const py::object& self) { return self; })  // a codec never changes
      .def("__deepcopy__", [](const py::object& self, const py::dict&) { return self; })
      .def("__reduce__",
           [](const Codec&) -> py::tuple {
             throw py::type_error(
                 "a codec of fastlic.light cannot be pickled: hand its name or path to the other "
                 "process, and fastlic.light.load opens it there");
           })
      .def_property_readonly("name", &Codec::name)
      .def_property_readonly("family", &Codec::family)
      .def_property_readonly("fingerprint", [](const Codec& self) { return to_bytes(self.fingerprint()); })
      .def_property_readonly("entropy_fingerprint",
                             [](const Codec& self) { return to_bytes(self.entropy_fingerprint()); })
      .def_property_readonly("qualities", [](const Codec& self) { return self.coder().qualities(); })
      .def_property_readonly("previews", [](const Codec& self) { return self.coder().previews(); });
}

}  // namespace fastlic::bindings::of_codec

// fastlic._native: the .flic container.
#include "fastlic/container.hpp"

#include <algorithm>
#include <deque>
#include <optional>

#include "arrays.hpp"
#include "registry.hpp"

namespace fastlic::bindings::of_container {
namespace {

using Bytes = std::span<const std::uint8_t>;

// In the order of pack()'s arguments.
py::tuple fields(const container::Header& header) {
  return py::make_tuple(header.version, header.model, header.quality, to_bytes(header.fingerprint), header.height,
                        header.width);
}

template <typename T>
py::tuple numbers(const std::vector<T>& values) {
  py::tuple out(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) out[i] = values[i];
  return out;
}

py::tuple parse(const py::buffer& data) {
  const py::buffer_info info = data.request();
  const container::Layout layout = container::parse(byte_view(info, "data"));
  return py::make_tuple(fields(layout.header), numbers(layout.lengths), numbers(layout.checksums), layout.framing);
}

py::tuple unpack(const py::buffer& data, std::optional<std::size_t> count) {
  const py::buffer_info info = data.request();
  container::Header header;
  std::vector<Bytes> sections;
  {
    Call call;
    const Bytes bytes = call.bytes(info, "data");
    const auto unlocked = call.unlock();
    const container::Layout layout = container::parse(bytes);
    header = layout.header;
    sections = container::sections(layout, bytes, count);
  }
  py::list found;
  for (const Bytes section : sections) found.append(to_bytes(section));
  return py::make_tuple(fields(header), found);
}

py::bytes pack(std::uint8_t version, std::uint8_t model, std::uint8_t quality, const py::buffer& fingerprint,
               std::uint32_t height, std::uint32_t width, const py::sequence& sections) {
  container::Header header{version, model, quality, {}, height, width};
  const py::buffer_info name = fingerprint.request();
  const Bytes digest = byte_view(name, "fingerprint");
  require_equal(digest.size(), header.fingerprint.size(), "bytes of fingerprint and of the format's");
  std::copy(digest.begin(), digest.end(), header.fingerprint.begin());
  std::deque<py::buffer_info> buffers;
  std::vector<Bytes> views;
  Call call;
  for (std::size_t i = 0; i < sections.size(); ++i) {
    const py::object section = sections[i];
    if (!py::isinstance<py::buffer>(section)) {
      throw py::type_error("sections[" + std::to_string(i) + "] must be bytes, got " + Py_TYPE(section.ptr())->tp_name);
    }
    buffers.push_back(py::reinterpret_borrow<py::buffer>(section).request());
    views.push_back(call.bytes(buffers.back(), "sections", i));
  }
  return encoded(call, [&] { return container::pack(header, views); });
}

// Of all that have one.
py::dict models() {
  py::dict ids;
  for (unsigned id = 1; id < 256; ++id) {
    if (const char* name = container::model_name(id)) ids[name] = id;
  }
  return ids;
}

}  // namespace

FASTLIC_BINDINGS(container) {
  module.def("container_parse", &parse, py::arg("data"));
  module.def("container_unpack", &unpack, py::arg("data"), py::arg("count") = py::none());
  module.def("container_pack", &pack, py::arg("version"), py::arg("model"), py::arg("quality"), py::arg("fingerprint"),
             py::arg("height"), py::arg("width"), py::arg("sections"));
  module.def("container_models", &models);
  // version, dimension, sections, bytes of a section
  module.def("container_limits", [] {
    return py::make_tuple(container::kVersion, container::kMaxDimension, container::kMaxSections,
                          container::kMaxSectionBytes);
  });
}

}  // namespace fastlic::bindings::of_container

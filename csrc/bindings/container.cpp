// fastlic._native: the .flic container.
#include "fastlic/container.hpp"

#include <algorithm>
#include <deque>
#include <optional>

#include "arrays.hpp"
#include "attached.hpp"
#include "fastlic/plane.hpp"
#include "registry.hpp"

namespace fastlic::bindings::of_container {
namespace {

using Bytes = std::span<const std::uint8_t>;

// In the order of pack()'s arguments.
py::tuple fields(const container::Header& header) {
  return py::make_tuple(header.version, header.model, header.quality, to_bytes(header.fingerprint), header.height,
                        header.width, header.channels);
}

template <typename T>
py::tuple numbers(const Vector<T>& values) {
  py::tuple out(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) out[i] = values[i];
  return out;
}

py::tuple parse(const py::buffer& data) {
  const py::buffer_info info = data.request();
  const container::Layout layout = container::parse(byte_view(info, "data"));
  py::list attachments;
  for (const auto& own : layout.attachments) attachments.append(py::make_tuple(own.kind, own.length, own.checksum));
  return py::make_tuple(fields(layout.header), numbers(layout.lengths), numbers(layout.checksums), layout.framing,
                        py::tuple(attachments));
}

py::list attachments(const py::buffer& data) {
  const py::buffer_info info = data.request();
  const auto bytes = byte_view(info, "data");
  py::list found;
  for (const auto& own : container::attachments(container::parse(bytes), bytes)) {
    found.append(py::make_tuple(own.kind, to_bytes(own.bytes)));
  }
  return found;
}

void check_sides(std::size_t height, std::size_t width) {
  if (height > container::kMaxDimension || width > container::kMaxDimension) {
    throw py::value_error("height and width must be at most " + std::to_string(container::kMaxDimension));
  }
}

// Samples of an alpha plane [height, width].
py::bytes encode_plane(const Array<std::uint8_t>& samples) {
  if (samples.ndim() != 2) throw py::value_error("samples must be uint8 [height, width]");
  const auto height = static_cast<std::size_t>(samples.shape(0)), width = static_cast<std::size_t>(samples.shape(1));
  check_sides(height, width);
  Call call;
  const plane::View<const std::uint8_t> view{call.in(samples, "samples").data(), height, width, width};
  return encoded(call, [&] { return plane::encode(view); });
}

Array<std::uint8_t> decode_plane(const py::buffer& data, std::size_t height, std::size_t width) {
  check_sides(height, width);
  const py::buffer_info info = data.request();
  Call call;
  const auto bytes = call.bytes(info, "data");
  Array<std::uint8_t> out({height, width});
  std::uint8_t* to = out.mutable_data();
  const auto unlocked = call.unlock();
  plane::decode(bytes, {to, height, width, width});
  return out;
}

py::tuple unpack(const py::buffer& data, std::optional<std::size_t> count) {
  const py::buffer_info info = data.request();
  container::Header header;
  Vector<Bytes> sections;
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
               std::uint32_t height, std::uint32_t width, std::uint8_t channels, const py::sequence& sections,
               const py::sequence& attachments) {
  container::Header header{version, model, quality, {}, height, width, channels};
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
  const Attached attached(call, attachments, "attachments");
  return encoded(call, [&] { return container::pack(header, views, attached.views()); });
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
             py::arg("height"), py::arg("width"), py::arg("channels"), py::arg("sections"),
             py::arg("attachments") = py::tuple());
  module.def("container_attachments", &attachments, py::arg("data"));
  module.def("plane_encode", &encode_plane, py::arg("samples").noconvert());
  module.def("plane_decode", &decode_plane, py::arg("data"), py::arg("height"), py::arg("width"));
  module.def("container_models", &models);
  // version, dimension, sections, bytes of a section
  module.def("container_limits", [] {
    return py::make_tuple(container::kVersion, container::kMaxDimension, container::kMaxSections,
                          container::kMaxSectionBytes);
  });
}

}  // namespace fastlic::bindings::of_container

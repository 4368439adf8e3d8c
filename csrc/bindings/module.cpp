// The extension module fastlic._native: errors, instruction sets, checksum; other files add themselves (registry.hpp).
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "arrays.hpp"
#include "fastlic/crc32c.hpp"
#include "fastlic/errors.hpp"
#include "fastlic/isa.hpp"
#include "fastlic/peak.hpp"
#include "registry.hpp"

namespace py = pybind11;

namespace {

void translate_corrupt_stream(std::exception_ptr pointer) {
  try {
    if (pointer) std::rethrow_exception(pointer);
  } catch (const fastlic::CorruptStream& error) {
    // The class lives in Python, where users catch it; looked up only when an error is on its way.
    const py::object type = py::module_::import("fastlic.errors").attr("CorruptStreamError");
    py::set_error(type, error.what());
  }
}

std::uint32_t crc32c(const py::buffer& data, std::uint32_t crc) {
  const py::buffer_info info = data.request();
  const auto bytes = fastlic::bindings::byte_view(info, "data");
  const py::gil_scoped_release release;
  return fastlic::crc32c(bytes.data(), bytes.size(), crc);
}

}  // namespace

PYBIND11_MODULE(_native, module) {
  module.doc() = "C++ core of fastlic. Use it through fastlic.ops, which checks arguments.";
  py::register_exception_translator(&translate_corrupt_stream);

  module.def("crc32c", &crc32c, py::arg("data"), py::arg("crc") = 0u);
  module.def("get_isa", [] { return fastlic::isa_name(fastlic::active_isa()); });
  module.def("best_isa", [] { return fastlic::isa_name(fastlic::best_isa()); });
  module.def("supported_isas", [] {
    std::vector<std::string> names;
    for (const fastlic::Isa isa : fastlic::supported_isas()) names.emplace_back(fastlic::isa_name(isa));
    return names;
  });
  module.def("clock_ghz", &fastlic::clock_ghz, py::call_guard<py::gil_scoped_release>());
  module.def("peak_products", &fastlic::peak_products, py::call_guard<py::gil_scoped_release>());
  module.def("peak_loads", &fastlic::peak_loads, py::call_guard<py::gil_scoped_release>());
  module.def(
      "set_isa", [](const std::string& name) { fastlic::set_isa(fastlic::isa_from_name(name)); }, py::arg("name"));

  for (const fastlic::bindings::Binder binder : fastlic::bindings::binders()) binder(module);
}

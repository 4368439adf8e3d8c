// fastlic._native: codebook indexes under a context model.
#include "fastlic/codes/context.hpp"

#include <memory>

#include "array_refs.hpp"
#include "arrays.hpp"
#include "registry.hpp"

namespace fastlic::bindings {
namespace {

using codes::Context;
using Int32s = Array<std::int32_t>;

codes::Size checked_size(const Context& context, const Int32s& codes) {
  if (codes.ndim() != 3 || static_cast<std::size_t>(codes.shape(0)) != context.model().groups) {
    throw py::value_error("codes must be [" + std::to_string(context.model().groups) + ", height, width]");
  }
  return {static_cast<std::size_t>(codes.shape(1)), static_cast<std::size_t>(codes.shape(2))};
}

}  // namespace

FASTLIC_BINDINGS(code_context) {
  py::class_<Context, std::shared_ptr<Context>>(module, "CodeContext")
      .def(py::init([](const py::dict& arrays) { return std::make_shared<Context>(array_refs(arrays)); }),
           py::arg("arrays"))
      .def(
          "encode",
          [](const Context& self, const Int32s& codes) {
            const codes::Size size = checked_size(self, codes);
            const std::int32_t* data = codes.data();
            std::vector<std::uint8_t> out;
            {
              const py::gil_scoped_release release;
              out = self.encode(data, size);
            }
            return to_bytes(out);
          },
          py::arg("codes").noconvert())
      .def(
          "frequencies",
          [](const Context& self, const Int32s& codes) {
            const codes::Size size = checked_size(self, codes);
            Array<std::uint32_t> result({codes.shape(0), codes.shape(1), codes.shape(2)});
            const std::int32_t* data = codes.data();
            std::uint32_t* out = result.mutable_data();
            {
              const py::gil_scoped_release release;
              self.frequencies(data, size, out);
            }
            return result;
          },
          py::arg("codes").noconvert())
      .def(
          "decode",
          [](const Context& self, const py::buffer& data, Int32s out) {
            const codes::Size size = checked_size(self, out);
            const py::buffer_info info = data.request();
            const std::span<const std::uint8_t> bytes = byte_view(info);
            std::int32_t* codes = out.mutable_data();
            const py::gil_scoped_release release;
            self.decode(bytes.data(), bytes.size(), size, codes);
          },
          py::arg("data"), py::arg("out").noconvert());
}

}  // namespace fastlic::bindings

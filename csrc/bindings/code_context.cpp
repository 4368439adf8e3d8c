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
      .def(py::init([](const py::dict& arrays) { return std::make_shared<Context>(ArrayRefs(arrays).refs()); }),
           py::arg("arrays"))
      .def(
          "encode",
          [](const Context& self, const Int32s& codes) {
            const codes::Size size = checked_size(self, codes);
            Call call;
            const auto data = call.in(codes, "codes");
            std::vector<std::uint8_t> out;
            {
              const auto unlocked = call.unlock();
              out = self.encode(data.data(), size);
            }
            return to_bytes(out);
          },
          py::arg("codes").noconvert())
      .def(
          "frequencies",
          [](const Context& self, const Int32s& codes) {
            const codes::Size size = checked_size(self, codes);
            Array<std::uint32_t> result({codes.shape(0), codes.shape(1), codes.shape(2)});
            Call call;
            const auto data = call.in(codes, "codes");
            std::uint32_t* out = result.mutable_data();
            {
              const auto unlocked = call.unlock();
              self.frequencies(data.data(), size, out);
            }
            return result;
          },
          py::arg("codes").noconvert())
      .def(
          "decode",
          [](const Context& self, const py::buffer& data, Int32s out) {
            const codes::Size size = checked_size(self, out);
            const py::buffer_info info = data.request();
            Call call;
            const auto bytes = call.bytes(info, "data");
            const auto codes = call.out(out, "out");
            const auto unlocked = call.unlock();
            self.decode(bytes.data(), bytes.size(), size, codes.data());
          },
          py::arg("data"), py::arg("out").noconvert());
}

}  // namespace fastlic::bindings

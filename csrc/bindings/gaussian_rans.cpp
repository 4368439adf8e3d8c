// fastlic._native: the Gaussian coder.
#include "fastlic/gaussian_rans.hpp"

#include "arrays.hpp"
#include "registry.hpp"

namespace fastlic::bindings::of_gaussian_rans {
namespace {

py::bytes encode(const Array<std::int32_t>& symbols, const Array<float>& means, const Array<float>& scales,
                 unsigned lanes) {
  Call call;
  const auto s = call.in(symbols, "symbols");
  const auto m = call.in(means, "means"), c = call.in(scales, "scales");
  require_equal(s.size(), m.size(), "symbols and means");
  require_equal(s.size(), c.size(), "symbols and scales");
  return encoded(call, [&] { return gaussian_encode(s.data(), m.data(), c.data(), s.size(), lanes); });
}

void decode(const py::buffer& data, const Array<float>& means, const Array<float>& scales, Array<std::int32_t> out) {
  const py::buffer_info info = data.request();
  Call call;
  const auto bytes = call.bytes(info, "data");
  const auto m = call.in(means, "means"), c = call.in(scales, "scales");
  const auto o = call.out(out, "out");
  require_equal(m.size(), c.size(), "means and scales");
  require_equal(m.size(), o.size(), "means and out");
  const auto unlocked = call.unlock();
  gaussian_decode(bytes.data(), bytes.size(), m.data(), c.data(), o.data(), o.size());
}

py::array_t<std::uint16_t> tail_table() {
  return py::array_t<std::uint16_t>(static_cast<py::ssize_t>(kTailTable.size()), kTailTable.data());
}

}  // namespace

FASTLIC_BINDINGS(gaussian_rans) {
  module.def("gaussian_encode", &encode, py::arg("symbols").noconvert(), py::arg("means").noconvert(),
             py::arg("scales").noconvert(), py::arg("lanes") = 0u);
  module.def("gaussian_decode", &decode, py::arg("data"), py::arg("means").noconvert(), py::arg("scales").noconvert(),
             py::arg("out").noconvert());
  module.def("tail_table", &tail_table);
}

}  // namespace fastlic::bindings::of_gaussian_rans

// fastlic._native: the Gaussian coder.
#include "fastlic/gaussian_rans.hpp"

#include "arrays.hpp"
#include "registry.hpp"

namespace fastlic::bindings {
namespace {

py::bytes encode(const Array<std::int32_t>& symbols, const Array<float>& means, const Array<float>& scales,
                 unsigned lanes) {
  const std::span<const std::int32_t> s = view(symbols);
  require_equal(s.size(), view(means).size(), "symbols and means");
  require_equal(s.size(), view(scales).size(), "symbols and scales");
  std::vector<std::uint8_t> out;
  {
    const float* m = means.data();
    const float* c = scales.data();
    const py::gil_scoped_release release;
    out = gaussian_encode(s.data(), m, c, s.size(), lanes);
  }
  return to_bytes(out);
}

void decode(const py::buffer& data, const Array<float>& means, const Array<float>& scales, Array<std::int32_t> out) {
  require_equal(view(means).size(), view(scales).size(), "means and scales");
  require_equal(view(means).size(), view(out).size(), "means and out");
  const py::buffer_info info = data.request();
  const std::span<const std::uint8_t> bytes = byte_view(info);
  const float* m = means.data();
  const float* c = scales.data();
  std::int32_t* o = out.mutable_data();
  const std::size_t n = view(out).size();
  const py::gil_scoped_release release;
  gaussian_decode(bytes.data(), bytes.size(), m, c, o, n);
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

}  // namespace fastlic::bindings

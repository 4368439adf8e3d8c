// fastlic._native: GDN on float32 arrays.
#include "fastlic/gdn.hpp"

#include "arrays.hpp"
#include "registry.hpp"

namespace fastlic::bindings {
namespace {

void run(const Array<float>& x, Array<float> out, const Array<float>& beta, const Array<float>& gamma, bool inverse,
         unsigned threads) {
  const std::span<const float> source = view(x);
  const std::span<float> target = mutable_view(out);
  const std::span<const float> b = view(beta), g = view(gamma);
  const py::gil_scoped_release release;
  gdn(source, target, b, g, inverse, threads);
}

}  // namespace

FASTLIC_BINDINGS(gdn) {
  module.def("gdn", &run, py::arg("x").noconvert(), py::arg("out").noconvert(), py::arg("beta").noconvert(),
             py::arg("gamma").noconvert(), py::arg("inverse"), py::arg("threads") = 0u);
}

}  // namespace fastlic::bindings

// fastlic._native: rows of scales and rounded differences of float maps.
#include "fastlic/float_symbols.hpp"

#include <memory>
#include <optional>

#include "arrays.hpp"
#include "registry.hpp"

namespace fastlic::bindings {
namespace {

using Floats = Array<float>;
using Int32s = Array<std::int32_t>;

void search(const ScaleSearch& bounds, const Floats& scales, Int32s out) {
  const std::size_t count = view(scales).size();
  require_equal(count, view(out).size(), "scales and out");
  const float* in = scales.data();
  std::int32_t* indexes = out.mutable_data();
  const py::gil_scoped_release release;
  bounds(in, count, indexes);
}

bool round(const Floats& inputs, const std::optional<Floats>& means, Int32s out) {
  const std::size_t count = view(inputs).size();
  require_equal(count, view(out).size(), "inputs and out");
  if (means) require_equal(count, view(*means).size(), "inputs and means");
  const float *in = inputs.data(), *subtracted = means ? means->data() : nullptr;
  std::int32_t* symbols = out.mutable_data();
  const py::gil_scoped_release release;
  return round_differences(in, subtracted, count, symbols);
}

}  // namespace

FASTLIC_BINDINGS(float_symbols) {
  py::class_<ScaleSearch, std::shared_ptr<ScaleSearch>>(module, "ScaleSearch")
      .def(py::init([](const Floats& bounds, float least) {
             return std::make_shared<ScaleSearch>(view(bounds), least);
           }),
           py::arg("bounds").noconvert(), py::arg("least"))
      .def("search", &search, py::arg("scales").noconvert(), py::arg("out").noconvert());
  module.def("round_differences", &round, py::arg("inputs").noconvert(), py::arg("means").noconvert(),
             py::arg("out").noconvert());
}

}  // namespace fastlic::bindings

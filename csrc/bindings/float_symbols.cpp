// fastlic._native: rows of scales and rounded differences of float maps.
#include "fastlic/float_symbols.hpp"

#include <memory>
#include <optional>

#include "arrays.hpp"
#include "registry.hpp"

namespace fastlic::bindings::of_float_symbols {
namespace {

using Floats = Array<float>;
using Int32s = Array<std::int32_t>;

void search(const ScaleSearch& bounds, const Floats& scales, Int32s out) {
  Call call;
  const auto in = call.in(scales, "scales");
  const auto indexes = call.out(out, "out");
  require_equal(in.size(), indexes.size(), "scales and out");
  const auto unlocked = call.unlock();
  bounds(in.data(), in.size(), indexes.data());
}

bool round(const Floats& inputs, const std::optional<Floats>& means, Int32s out) {
  Call call;
  const auto in = call.in(inputs, "inputs");
  const auto symbols = call.out(out, "out");
  require_equal(in.size(), symbols.size(), "inputs and out");
  const float* subtracted = means ? call.in(*means, "means").data() : nullptr;
  if (means) require_equal(in.size(), static_cast<std::size_t>(means->size()), "inputs and means");
  const auto unlocked = call.unlock();
  return round_differences(in.data(), subtracted, in.size(), symbols.data());
}

}  // namespace

FASTLIC_BINDINGS(float_symbols) {
  py::class_<ScaleSearch, std::shared_ptr<ScaleSearch>>(module, "ScaleSearch")
      .def(py::init(
               [](const Floats& bounds, float least) { return std::make_shared<ScaleSearch>(copied(bounds), least); }),
           py::arg("bounds").noconvert(), py::arg("least"))
      .def("search", &search, py::arg("scales").noconvert(), py::arg("out").noconvert());
  module.def("round_differences", &round, py::arg("inputs").noconvert(), py::arg("means").noconvert(),
             py::arg("out").noconvert());
}

}  // namespace fastlic::bindings::of_float_symbols

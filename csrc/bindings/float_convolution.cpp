// fastlic._native: convolutions of float32 maps by Winograd's transform.
#include "fastlic/float_convolution.hpp"

#include "arrays.hpp"
#include "registry.hpp"

namespace fastlic::bindings::of_float_convolution {
namespace {

void run(const Array<float>& x, Array<float> out, const Array<float>& weight, const Array<float>& bias, bool down,
         bool up, Threads threads) {
  const int side = down || up ? 5 : 3;
  if (x.ndim() != 4 || weight.ndim() != 4 || weight.shape(2) != side || weight.shape(3) != side || (down && up)) {
    throw py::value_error("x and weight must have 4 dimensions, kernels be 3x3 or, down or up, 5x5, got " +
                          std::to_string(x.ndim()) + " and " + std::to_string(weight.ndim()) + " dimensions");
  }
  const auto size = [](const Array<float>& array, int axis) { return static_cast<std::size_t>(array.shape(axis)); };
  const Stride stride = down ? Stride::down : up ? Stride::up : Stride::one;
  const MapConvolution map = {size(x, 0), size(x, 1), size(x, 2), size(x, 3), size(weight, up ? 1 : 0), stride};
  Call call;
  const std::span<float> target = call.out(out, "out");
  const auto source = call.in(x, "x"), w = call.in(weight, "weight"), b = call.in(bias, "bias");
  const auto unlocked = call.unlock();
  float_convolution(source, target, w, b, map, threads.count);
}

}  // namespace

FASTLIC_BINDINGS(float_convolution) {
  module.def("float_convolution", &run, py::arg("x").noconvert(), py::arg("out").noconvert(),
             py::arg("weight").noconvert(), py::arg("bias").noconvert(), py::arg("down"), py::arg("up"),
             py::arg("threads") = 0);
}

}  // namespace fastlic::bindings::of_float_convolution

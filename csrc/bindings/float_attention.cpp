// fastlic._native: attention within windows of float32 maps.
#include "fastlic/float_attention.hpp"

#include "arrays.hpp"
#include "registry.hpp"

namespace fastlic::bindings::of_float_attention {
namespace {

void run(const Array<float>& qkv, Array<float> out, const Array<float>& bias, const Array<float>& mask,
         std::size_t side, std::size_t shift, float scale, float apart, Threads threads) {
  if (qkv.ndim() != 4 || bias.ndim() != 3 || bias.shape(0) < 1) {
    throw py::value_error("qkv must have 4 dimensions and bias 3 with a head at least, got " +
                          std::to_string(qkv.ndim()) + " and " + std::to_string(bias.ndim()));
  }
  const auto size = [&](int axis) { return static_cast<std::size_t>(qkv.shape(axis)); };
  const auto heads = static_cast<std::size_t>(bias.shape(0));
  if (size(3) % (3 * heads) != 0) {
    throw py::value_error("qkv has " + std::to_string(size(3)) + " channels, which are not 3 times " +
                          std::to_string(heads) + " heads of any depth");
  }
  Call call;
  const std::span<float> target = call.out(out, "out");
  const auto source = call.in(qkv, "qkv"), b = call.in(bias, "bias"), m = call.in(mask, "mask");
  const Windows windows = {size(0), size(1), size(2), side, heads, size(3) / (3 * heads), shift, apart, scale};
  const auto unlocked = call.unlock();
  float_attention(source, target, b, m, windows, threads.count);
}

}  // namespace

FASTLIC_BINDINGS(float_attention) {
  module.def("float_attention", &run, py::arg("qkv").noconvert(), py::arg("out").noconvert(),
             py::arg("bias").noconvert(), py::arg("mask").noconvert(), py::arg("side"), py::arg("shift"),
             py::arg("scale"), py::arg("apart"), py::arg("threads") = 0);
}

}  // namespace fastlic::bindings::of_float_attention

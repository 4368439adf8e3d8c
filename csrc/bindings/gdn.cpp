// fastlic._native: GDN on float32 arrays.
#include "fastlic/gdn.hpp"

#include "arrays.hpp"
#include "registry.hpp"

namespace fastlic::bindings::of_gdn {
namespace {

void run(const Array<float>& x, Array<float> out, const Array<float>& beta, const Array<float>& gamma, bool inverse,
         Threads threads) {
  Call call;
  const std::span<float> target = call.out(out, "out");
  // x itself may take the result (fastlic/gdn.hpp), but not a shifted view of it.
  const bool in_place = x.data() == out.data() && x.size() == out.size();
  const auto source = in_place ? std::span<const float>(target) : call.in(x, "x");
  const auto b = call.in(beta, "beta"), g = call.in(gamma, "gamma");
  const auto unlocked = call.unlock();
  gdn(source, target, b, g, inverse, threads.count);
}

}  // namespace

FASTLIC_BINDINGS(gdn) {
  module.def("gdn", &run, py::arg("x").noconvert(), py::arg("out").noconvert(), py::arg("beta").noconvert(),
             py::arg("gamma").noconvert(), py::arg("inverse"), py::arg("threads") = 0);
}

}  // namespace fastlic::bindings::of_gdn

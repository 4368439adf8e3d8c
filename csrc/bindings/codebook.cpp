// fastlic._native: nearest codewords.
#include "fastlic/codebook/codebook.hpp"

#include <memory>

#include "arrays.hpp"
#include "registry.hpp"

namespace fastlic::bindings::of_codebook {

FASTLIC_BINDINGS(codebook) {
  using codebook::Codebooks;
  py::class_<Codebooks, std::shared_ptr<Codebooks>>(module, "Codebooks")
      .def(py::init([](const Array<float>& words) {
             if (words.ndim() != 3) throw py::value_error("codebook must be [m, k, d]");
             const auto m = static_cast<std::size_t>(words.shape(0)), k = static_cast<std::size_t>(words.shape(1)),
                        d = static_cast<std::size_t>(words.shape(2));
             Call call;
             const auto data = call.in(words, "words");
             const auto unlocked = call.unlock();
             return std::make_shared<Codebooks>(data.data(), m, k, d, active_isa());
           }),
           py::arg("words").noconvert())
      .def(
          "nearest",
          [](const Codebooks& self, const py::array_t<float>& x, Array<std::int64_t> out, Threads threads) {
            if (x.ndim() != 3 || static_cast<std::size_t>(x.shape(1)) != self.groups() ||
                static_cast<std::size_t>(x.shape(2)) != self.channels()) {
              throw py::value_error("x must be [n, m, d] with the codebooks' m and d");
            }
            const auto n = static_cast<std::size_t>(x.shape(0));
            constexpr py::ssize_t size = sizeof(float);
            if (!aligned(x.data(), size) || x.strides(0) % size != 0 || x.strides(1) % size != 0 ||
                x.strides(2) % size != 0) {
              throw py::value_error("x must be aligned to 4 bytes");
            }
            Call call;
            call.in(x, "x");
            const auto o = call.out(out, "out");
            require_equal(n, o.size() / self.groups(), "vectors and rows of out");  // their product could overflow
            require_equal(n * self.groups(), o.size(), "codes and out");
            const Codebooks::Strides strides = {x.strides(0) / size, x.strides(1) / size, x.strides(2) / size};
            const float* data = x.data();
            const auto unlocked = call.unlock();
            self.nearest(data, n, strides, o.data(), threads.count);
          },
          py::arg("x").noconvert(), py::arg("out").noconvert(), py::arg("threads") = 0);
}

}  // namespace fastlic::bindings::of_codebook

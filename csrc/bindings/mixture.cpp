// fastlic._native: rows and streams of Gaussian mixtures.
#include "fastlic/mixture.hpp"

#include <memory>

#include "arrays.hpp"
#include "registry.hpp"

namespace fastlic::bindings::of_mixture {
namespace {

using Int32s = Array<std::int32_t>;
using Uint16s = Array<std::uint16_t>;

// Rows and slots of probabilities [rows][slots] with their cdf [rows][slots + 2].
std::pair<std::size_t, std::size_t> checked(const Array<float>& probabilities, const Int32s& cdf) {
  if (probabilities.ndim() != 2 || cdf.ndim() != 2) throw py::value_error("probabilities and cdf must be 2-D");
  require_equal(static_cast<std::size_t>(probabilities.shape(0)), static_cast<std::size_t>(cdf.shape(0)), "rows");
  require_equal(static_cast<std::size_t>(probabilities.shape(1)) + 2, static_cast<std::size_t>(cdf.shape(1)),
                "slots + 2 and columns of cdf");
  return {static_cast<std::size_t>(probabilities.shape(0)), static_cast<std::size_t>(probabilities.shape(1))};
}

// Rows and slots of probabilities [rows][slots].
std::pair<std::size_t, std::size_t> sides(const Array<float>& probabilities) {
  if (probabilities.ndim() != 2) throw py::value_error("probabilities must be [rows, slots]");
  return {static_cast<std::size_t>(probabilities.shape(0)), static_cast<std::size_t>(probabilities.shape(1))};
}

// Calls f(row, its cdf) row by row: no other cdf is kept.
template <typename F>
void each_row(const float* probabilities, std::size_t count, std::size_t slots, F f) {
  if (count == 0) return;  // nothing says how many slots there could be
  std::vector<std::int32_t> cdf(slots + 2);
  for (std::size_t r = 0; r < count; ++r) {
    mixture_rows(probabilities + r * slots, 1, slots, cdf.data());
    f(r, cdf.data());
  }
}

void rows(const Array<float>& probabilities, Int32s cdf) {
  const auto [count, slots] = checked(probabilities, cdf);
  Call call;
  const float* in = call.in(probabilities, "probabilities").data();
  std::int32_t* out = call.out(cdf, "cdf").data();
  const auto unlocked = call.unlock();
  mixture_rows(in, count, slots, out);
}

// Intervals of symbols under probabilities.
void intervals(const Array<float>& probabilities, const Int32s& symbols, Uint16s starts, Uint16s frequencies) {
  const auto [count, slots] = sides(probabilities);
  Call call;
  const float* in = call.in(probabilities, "probabilities").data();
  const auto s = call.in(symbols, "symbols");
  const auto first = call.out(starts, "starts"), size = call.out(frequencies, "frequencies");
  require_equal(count, s.size(), "rows and symbols");
  require_equal(count, first.size(), "rows and starts");
  require_equal(count, size.size(), "rows and frequencies");
  const auto unlocked = call.unlock();
  each_row(in, count, slots, [&, slots = slots](std::size_t r, const std::int32_t* cdf) {
    mixture_intervals(cdf, 1, slots, &s[r], &first[r], &size[r]);
  });
}

py::bytes encode(const Uint16s& starts, const Uint16s& frequencies) {
  Call call;
  const auto first = call.in(starts, "starts"), size = call.in(frequencies, "frequencies");
  require_equal(first.size(), size.size(), "starts and frequencies");
  return encoded(call, [&] { return encode_intervals(first.data(), size.data(), first.size()); });
}

class PyMixtureDecoder {
 public:
  explicit PyMixtureDecoder(const py::buffer& data)
      : info_(data.request()), decoder_(byte_view(info_, "data").data(), byte_view(info_, "data").size()) {}

  void decode(const Array<float>& probabilities, Int32s out) {
    const Exclusive exclusive(busy_);
    const auto [count, slots] = sides(probabilities);
    Call call;
    call.bytes(info_, "data");
    const float* in = call.in(probabilities, "probabilities").data();
    const auto symbols = call.out(out, "out");
    require_equal(count, symbols.size(), "rows and out");
    const auto unlocked = call.unlock();
    each_row(in, count, slots, [&, slots = slots](std::size_t r, const std::int32_t* cdf) {
      decoder_.decode(cdf, 1, slots, &symbols[r]);
    });
  }

  void finish() {
    const Exclusive exclusive(busy_);
    decoder_.finish();
  }

 private:
  py::buffer_info info_;
  MixtureDecoder decoder_;
  std::atomic_flag busy_;
};

}  // namespace

FASTLIC_BINDINGS(mixture) {
  module.def("mixture_rows", &rows, py::arg("probabilities").noconvert(), py::arg("cdf").noconvert());
  module.def("mixture_intervals", &intervals, py::arg("probabilities").noconvert(), py::arg("symbols").noconvert(),
             py::arg("starts").noconvert(), py::arg("frequencies").noconvert());
  module.def("encode_intervals", &encode, py::arg("starts").noconvert(), py::arg("frequencies").noconvert());
  py::class_<PyMixtureDecoder>(module, "MixtureDecoder")
      .def(py::init<const py::buffer&>(), py::arg("data"))
      .def("decode", &PyMixtureDecoder::decode, py::arg("probabilities").noconvert(), py::arg("out").noconvert())
      .def("finish", &PyMixtureDecoder::finish);
}

}  // namespace fastlic::bindings::of_mixture

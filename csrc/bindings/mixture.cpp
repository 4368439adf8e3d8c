// fastlic._native: rows and streams of Gaussian mixtures.
#include "fastlic/mixture.hpp"

#include <memory>

#include "arrays.hpp"
#include "registry.hpp"

namespace fastlic::bindings {
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

void rows(const Array<float>& probabilities, Int32s cdf) {
  const auto [count, slots] = checked(probabilities, cdf);
  const float* in = probabilities.data();
  std::int32_t* out = cdf.mutable_data();
  const py::gil_scoped_release release;
  mixture_rows(in, count, slots, out);
}

// Intervals of symbols under probabilities; no cdf is kept.
void intervals(const Array<float>& probabilities, const Int32s& symbols, Uint16s starts, Uint16s frequencies) {
  if (probabilities.ndim() != 2) throw py::value_error("probabilities must be [rows, slots]");
  const auto count = static_cast<std::size_t>(probabilities.shape(0));
  const auto slots = static_cast<std::size_t>(probabilities.shape(1));
  require_equal(count, view(symbols).size(), "rows and symbols");
  require_equal(count, view(starts).size(), "rows and starts");
  require_equal(count, view(frequencies).size(), "rows and frequencies");
  const float* in = probabilities.data();
  const std::int32_t* s = symbols.data();
  std::uint16_t *first = starts.mutable_data(), *size = frequencies.mutable_data();
  const py::gil_scoped_release release;
  std::vector<std::int32_t> cdf(slots + 2);
  for (std::size_t r = 0; r < count; ++r) {
    mixture_rows(in + r * slots, 1, slots, cdf.data());
    mixture_intervals(cdf.data(), 1, slots, s + r, first + r, size + r);
  }
}

py::bytes encode(const Uint16s& starts, const Uint16s& frequencies) {
  require_equal(view(starts).size(), view(frequencies).size(), "starts and frequencies");
  std::vector<std::uint8_t> out;
  {
    const std::uint16_t *first = starts.data(), *size = frequencies.data();
    const std::size_t count = view(starts).size();
    const py::gil_scoped_release release;
    out = encode_intervals(first, size, count);
  }
  return to_bytes(out);
}

class PyMixtureDecoder {
 public:
  explicit PyMixtureDecoder(const py::buffer& data)
      : info_(data.request()), decoder_(byte_view(info_).data(), byte_view(info_).size()) {}

  void decode(const Array<float>& probabilities, Int32s out) {
    if (probabilities.ndim() != 2) throw py::value_error("probabilities must be [rows, slots]");
    const auto count = static_cast<std::size_t>(probabilities.shape(0));
    const auto slots = static_cast<std::size_t>(probabilities.shape(1));
    require_equal(count, view(out).size(), "rows and out");
    const float* in = probabilities.data();
    std::int32_t* symbols = out.mutable_data();
    const py::gil_scoped_release release;
    std::vector<std::int32_t> cdf(slots + 2);
    for (std::size_t r = 0; r < count; ++r) {
      mixture_rows(in + r * slots, 1, slots, cdf.data());
      decoder_.decode(cdf.data(), 1, slots, symbols + r);
    }
  }

  void finish() const { decoder_.finish(); }

 private:
  py::buffer_info info_;
  MixtureDecoder decoder_;
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

}  // namespace fastlic::bindings

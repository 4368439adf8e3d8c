// fastlic._native: categorical tables.
#include "fastlic/categorical_rans.hpp"

#include <memory>

#include "arrays.hpp"
#include "registry.hpp"

namespace fastlic::bindings {

FASTLIC_BINDINGS(categorical_rans) {
  py::class_<CategoricalTables, std::shared_ptr<CategoricalTables>>(module, "CategoricalTables")
      .def(py::init([](const Array<std::int32_t>& cdf, const Array<std::int32_t>& lengths, unsigned precision) {
             return std::make_shared<CategoricalTables>(view(cdf), view(lengths), precision);
           }),
           py::arg("cdf").noconvert(), py::arg("lengths").noconvert(), py::arg("precision"))
      .def(
          "encode",
          [](const CategoricalTables& self, const Array<std::int32_t>& symbols, const Array<std::uint8_t>& indexes) {
            require_equal(view(symbols).size(), view(indexes).size(), "symbols and indexes");
            const std::span<const std::int32_t> s = view(symbols);
            const std::uint8_t* i = indexes.data();
            std::vector<std::uint8_t> out;
            {
              const py::gil_scoped_release release;
              out = self.encode(s.data(), i, s.size());
            }
            return to_bytes(out);
          },
          py::arg("symbols").noconvert(), py::arg("indexes").noconvert())
      .def(
          "decode",
          [](const CategoricalTables& self, const py::buffer& data, const Array<std::uint8_t>& indexes,
             Array<std::int32_t> out) {
            require_equal(view(indexes).size(), view(out).size(), "indexes and out");
            const py::buffer_info info = data.request();
            const std::span<const std::uint8_t> bytes = byte_view(info);
            const std::uint8_t* i = indexes.data();
            std::int32_t* o = out.mutable_data();
            const std::size_t n = view(out).size();
            const py::gil_scoped_release release;
            self.decode(bytes.data(), bytes.size(), i, o, n);
          },
          py::arg("data"), py::arg("indexes").noconvert(), py::arg("out").noconvert());
}

}  // namespace fastlic::bindings

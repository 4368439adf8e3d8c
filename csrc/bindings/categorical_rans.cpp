// fastlic._native: categorical tables.
#include "fastlic/categorical_rans.hpp"

#include <memory>

#include "arrays.hpp"
#include "registry.hpp"

namespace fastlic::bindings {

FASTLIC_BINDINGS(categorical_rans) {
  py::class_<CategoricalTables, std::shared_ptr<CategoricalTables>>(module, "CategoricalTables")
      .def(py::init([](const Array<std::int32_t>& cdf, const Array<std::int32_t>& lengths, unsigned precision) {
             return std::make_shared<CategoricalTables>(copied(cdf), copied(lengths), precision);
           }),
           py::arg("cdf").noconvert(), py::arg("lengths").noconvert(), py::arg("precision"))
      .def(
          "encode",
          [](const CategoricalTables& self, const Array<std::int32_t>& symbols, const Array<std::uint8_t>& indexes) {
            Call call;
            const auto s = call.in(symbols, "symbols");
            const auto i = call.in(indexes, "indexes");
            require_equal(s.size(), i.size(), "symbols and indexes");
            std::vector<std::uint8_t> out;
            {
              const auto unlocked = call.unlock();
              out = self.encode(s.data(), i.data(), s.size());
            }
            return to_bytes(out);
          },
          py::arg("symbols").noconvert(), py::arg("indexes").noconvert())
      .def(
          "decode",
          [](const CategoricalTables& self, const py::buffer& data, const Array<std::uint8_t>& indexes,
             Array<std::int32_t> out) {
            const py::buffer_info info = data.request();
            Call call;
            const auto bytes = call.bytes(info, "data");
            const auto i = call.in(indexes, "indexes");
            const auto o = call.out(out, "out");
            require_equal(i.size(), o.size(), "indexes and out");
            const auto unlocked = call.unlock();
            self.decode(bytes.data(), bytes.size(), i.data(), o.data(), o.size());
          },
          py::arg("data"), py::arg("indexes").noconvert(), py::arg("out").noconvert());
}

}  // namespace fastlic::bindings

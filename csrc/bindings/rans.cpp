// fastlic._native: the native coder.
#include "fastlic/rans.hpp"

#include <memory>

#include "arrays.hpp"
#include "fastlic/parallel.hpp"
#include "registry.hpp"

namespace fastlic::bindings {
namespace {

template <typename Symbol>
py::bytes encode(const Array<Symbol>& symbols, const Array<std::uint8_t>& indexes, const CdfTables& tables,
                 unsigned lanes) {
  require_equal(view(symbols).size(), view(indexes).size(), "symbols and indexes");
  std::vector<std::uint8_t> out;
  {
    const Symbol* s = symbols.data();
    const std::uint8_t* i = indexes.data();
    const std::size_t n = view(symbols).size();
    const py::gil_scoped_release release;
    out = rans_encode(s, i, n, tables, lanes);
  }
  return to_bytes(out);
}

// One stream per item, items on threads.
template <typename Symbol>
py::list encode_many(const std::vector<Array<Symbol>>& symbols, const std::vector<Array<std::uint8_t>>& indexes,
                     const CdfTables& tables, unsigned lanes, unsigned threads) {
  require_equal(symbols.size(), indexes.size(), "symbols and indexes");
  std::vector<std::span<const Symbol>> s;
  std::vector<const std::uint8_t*> i;
  for (std::size_t item = 0; item < symbols.size(); ++item) {
    require_equal(view(symbols[item]).size(), view(indexes[item]).size(), "symbols and indexes of an item");
    s.push_back(view(symbols[item]));
    i.push_back(indexes[item].data());
  }
  std::vector<std::vector<std::uint8_t>> out(s.size());
  {
    const py::gil_scoped_release release;
    parallel_for(s.size(), threads, [&](std::size_t item) {
      out[item] = rans_encode(s[item].data(), i[item], s[item].size(), tables, lanes);
    });
  }
  py::list result;
  for (const auto& bytes : out) result.append(to_bytes(bytes));
  return result;
}

template <typename Symbol>
void decode_many(const std::vector<py::buffer>& data, const std::vector<Array<std::uint8_t>>& indexes,
                 std::vector<Array<Symbol>> out, const CdfTables& tables, unsigned threads) {
  require_equal(data.size(), indexes.size(), "data and indexes");
  require_equal(data.size(), out.size(), "data and out");
  std::vector<py::buffer_info> infos;
  std::vector<std::span<const std::uint8_t>> i;
  std::vector<Symbol*> o;
  for (std::size_t item = 0; item < data.size(); ++item) {
    require_equal(view(indexes[item]).size(), view(out[item]).size(), "indexes and out of an item");
    infos.push_back(data[item].request());
    byte_view(infos.back());  // throws for anything but bytes, while the GIL is held
    i.push_back(view(indexes[item]));
    o.push_back(out[item].mutable_data());
  }
  const py::gil_scoped_release release;
  parallel_for(infos.size(), threads, [&](std::size_t item) {
    const std::span<const std::uint8_t> bytes = byte_view(infos[item]);
    RansDecoder decoder(bytes.data(), bytes.size(), tables);
    decoder.decode(i[item].data(), o[item], i[item].size());
    decoder.finish();
  });
}

template <typename Symbol>
void bind_many(py::module_& module) {
  module.def("rans_encode_many", &encode_many<Symbol>, py::arg("symbols").noconvert(), py::arg("indexes").noconvert(),
             py::arg("tables"), py::arg("lanes") = 0u, py::arg("threads") = 0u);
  module.def("rans_decode_many", &decode_many<Symbol>, py::arg("data"), py::arg("indexes").noconvert(),
             py::arg("out").noconvert(), py::arg("tables"), py::arg("threads") = 0u);
}

// Owns what the decoder reads: the bytes and the tables stay alive as long as this object.
class PyRansDecoder {
 public:
  PyRansDecoder(const py::buffer& data, std::shared_ptr<const CdfTables> tables)
      : info_(data.request()),
        tables_(std::move(tables)),
        decoder_(byte_view(info_).data(), byte_view(info_).size(), *tables_) {}

  template <typename Symbol>
  void decode(const Array<std::uint8_t>& indexes, Array<Symbol> out) {
    require_equal(view(indexes).size(), view(out).size(), "indexes and out");
    const std::uint8_t* i = indexes.data();
    Symbol* o = out.mutable_data();
    const std::size_t n = view(indexes).size();
    const py::gil_scoped_release release;
    decoder_.decode(i, o, n);
  }

  void finish() const { decoder_.finish(); }
  unsigned lanes() const { return decoder_.lanes(); }
  std::uint64_t decoded() const { return decoder_.decoded(); }

 private:
  py::buffer_info info_;
  std::shared_ptr<const CdfTables> tables_;
  RansDecoder decoder_;
};

}  // namespace

FASTLIC_BINDINGS(rans) {
  py::class_<CdfTables, std::shared_ptr<CdfTables>>(module, "CdfTables")
      .def(py::init([](const Array<std::int32_t>& cdf, const Array<std::int32_t>& lengths,
                       const Array<std::int32_t>& offsets, const Array<std::uint8_t>& shifts, unsigned precision) {
             return std::make_shared<CdfTables>(view(cdf), view(lengths), view(offsets), view(shifts), precision);
           }),
           py::arg("cdf").noconvert(), py::arg("lengths").noconvert(), py::arg("offsets").noconvert(),
           py::arg("shifts").noconvert(), py::arg("precision"))
      .def_property_readonly("rows", &CdfTables::rows)
      .def_property_readonly("precision", &CdfTables::precision);

  module.def("rans_encode", &encode<std::int16_t>, py::arg("symbols").noconvert(), py::arg("indexes").noconvert(),
             py::arg("tables"), py::arg("lanes") = 0u);
  module.def("rans_encode", &encode<std::int32_t>, py::arg("symbols").noconvert(), py::arg("indexes").noconvert(),
             py::arg("tables"), py::arg("lanes") = 0u);

  bind_many<std::int16_t>(module);
  bind_many<std::int32_t>(module);

  py::class_<PyRansDecoder>(module, "RansDecoder")
      .def(py::init<const py::buffer&, std::shared_ptr<const CdfTables>>(), py::arg("data"), py::arg("tables"))
      .def("decode", &PyRansDecoder::decode<std::int16_t>, py::arg("indexes").noconvert(), py::arg("out").noconvert())
      .def("decode", &PyRansDecoder::decode<std::int32_t>, py::arg("indexes").noconvert(), py::arg("out").noconvert())
      .def("finish", &PyRansDecoder::finish)
      .def_property_readonly("lanes", &PyRansDecoder::lanes)
      .def_property_readonly("decoded", &PyRansDecoder::decoded);
}

}  // namespace fastlic::bindings

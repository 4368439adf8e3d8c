// fastlic._native: the native coder.
#include "fastlic/rans.hpp"

#include <memory>

#include "arrays.hpp"
#include "fastlic/parallel.hpp"
#include "registry.hpp"

namespace fastlic::bindings::of_rans {
namespace {

template <typename Symbol>
py::bytes encode(const Array<Symbol>& symbols, const Array<std::uint8_t>& indexes, const CdfTables& tables,
                 unsigned lanes) {
  Call call;
  const auto s = call.in(symbols, "symbols");
  const auto i = call.in(indexes, "indexes");
  require_equal(s.size(), i.size(), "symbols and indexes");
  return encoded(call, [&] { return rans_encode(s.data(), i.data(), s.size(), tables, lanes); });
}

// One stream per item, items on threads.
template <typename Symbol>
py::list encode_many(const std::vector<Array<Symbol>>& symbols, const std::vector<Array<std::uint8_t>>& indexes,
                     const CdfTables& tables, unsigned lanes, Threads threads) {
  require_equal(symbols.size(), indexes.size(), "symbols and indexes");
  Call call;
  std::vector<std::span<const Symbol>> s;
  std::vector<const std::uint8_t*> i;
  for (std::size_t item = 0; item < symbols.size(); ++item) {
    s.push_back(call.in(symbols[item], "symbols", item));
    const auto rows = call.in(indexes[item], "indexes", item);
    require_equal(s.back().size(), rows.size(), "symbols and indexes of an item");
    i.push_back(rows.data());
  }
  std::vector<Vector<std::uint8_t>> out(s.size());
  {
    const auto unlocked = call.unlock();
    parallel_for(s.size(), threads.count, [&](std::size_t item) {
      out[item] = rans_encode(s[item].data(), i[item], s[item].size(), tables, lanes);
    });
  }
  py::list result;
  for (const auto& bytes : out) result.append(to_bytes(bytes));
  return result;
}

template <typename Symbol>
void decode_many(const std::vector<py::buffer>& data, const std::vector<Array<std::uint8_t>>& indexes,
                 std::vector<Array<Symbol>> out, const CdfTables& tables, Threads threads) {
  require_equal(data.size(), indexes.size(), "data and indexes");
  require_equal(data.size(), out.size(), "data and out");
  Call call;
  std::vector<py::buffer_info> infos;
  std::vector<std::span<const std::uint8_t>> bytes, i;
  std::vector<Symbol*> o;
  for (std::size_t item = 0; item < data.size(); ++item) {
    infos.push_back(data[item].request());
    bytes.push_back(call.bytes(infos.back(), "data", item));
    i.push_back(call.in(indexes[item], "indexes", item));
    const auto symbols = call.out(out[item], "out", item);
    require_equal(i.back().size(), symbols.size(), "indexes and out of an item");
    o.push_back(symbols.data());
  }
  const auto unlocked = call.unlock();
  parallel_for(infos.size(), threads.count, [&](std::size_t item) {
    RansDecoder decoder(bytes[item].data(), bytes[item].size(), tables);
    decoder.decode(i[item].data(), o[item], i[item].size());
    decoder.finish();
  });
}

template <typename Symbol>
void bind_many(py::module_& module) {
  module.def("rans_encode_many", &encode_many<Symbol>, py::arg("symbols").noconvert(), py::arg("indexes").noconvert(),
             py::arg("tables").none(false), py::arg("lanes") = 0u, py::arg("threads") = 0);
  module.def("rans_decode_many", &decode_many<Symbol>, py::arg("data"), py::arg("indexes").noconvert(),
             py::arg("out").noconvert(), py::arg("tables").none(false), py::arg("threads") = 0);
}

// Owns what the decoder reads: the bytes and the tables stay alive as long as this object.
class PyRansDecoder {
 public:
  PyRansDecoder(const py::buffer& data, std::shared_ptr<const CdfTables> tables)
      : info_(data.request()),
        tables_(std::move(tables)),
        decoder_(byte_view(info_, "data").data(), byte_view(info_, "data").size(), *tables_) {}

  template <typename Symbol>
  void decode(const Array<std::uint8_t>& indexes, Array<Symbol> out) {
    decode_next(busy_, info_, indexes, out, [&](const auto* i, auto* o, std::size_t n) { decoder_.decode(i, o, n); });
  }

  void finish() {
    const Exclusive exclusive(busy_);
    decoder_.finish();
  }
  unsigned lanes() const { return decoder_.lanes(); }
  std::uint64_t decoded() const { return decoder_.decoded(); }

 private:
  py::buffer_info info_;
  std::shared_ptr<const CdfTables> tables_;
  RansDecoder decoder_;
  std::atomic_flag busy_;
};

}  // namespace

FASTLIC_BINDINGS(rans) {
  py::class_<CdfTables, std::shared_ptr<CdfTables>>(module, "CdfTables")
      .def(py::init([](const Array<std::int32_t>& cdf, const Array<std::int32_t>& lengths,
                       const Array<std::int32_t>& offsets, const Array<std::uint8_t>& shifts, unsigned precision) {
             return std::make_shared<CdfTables>(copied(cdf), copied(lengths), copied(offsets), copied(shifts),
                                                precision);
           }),
           py::arg("cdf").noconvert(), py::arg("lengths").noconvert(), py::arg("offsets").noconvert(),
           py::arg("shifts").noconvert(), py::arg("precision"))
      .def_property_readonly("rows", &CdfTables::rows)
      .def_property_readonly("precision", &CdfTables::precision);

  module.def("rans_encode", &encode<std::int16_t>, py::arg("symbols").noconvert(), py::arg("indexes").noconvert(),
             py::arg("tables").none(false), py::arg("lanes") = 0u);
  module.def("rans_encode", &encode<std::int32_t>, py::arg("symbols").noconvert(), py::arg("indexes").noconvert(),
             py::arg("tables").none(false), py::arg("lanes") = 0u);

  bind_many<std::int16_t>(module);
  bind_many<std::int32_t>(module);

  py::class_<PyRansDecoder>(module, "RansDecoder")
      .def(py::init<const py::buffer&, std::shared_ptr<const CdfTables>>(), py::arg("data"),
           py::arg("tables").none(false))
      .def("decode", &PyRansDecoder::decode<std::int16_t>, py::arg("indexes").noconvert(), py::arg("out").noconvert())
      .def("decode", &PyRansDecoder::decode<std::int32_t>, py::arg("indexes").noconvert(), py::arg("out").noconvert())
      .def("finish", &PyRansDecoder::finish)
      .def_property_readonly("lanes", &PyRansDecoder::lanes)
      .def_property_readonly("decoded", &PyRansDecoder::decoded);
}

}  // namespace fastlic::bindings::of_rans

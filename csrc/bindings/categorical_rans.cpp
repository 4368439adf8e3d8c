// fastlic._native: categorical tables. Streams of a list are coded on several threads.
#include "fastlic/categorical_rans.hpp"

#include <memory>

#include "arrays.hpp"
#include "fastlic/parallel.hpp"
#include "registry.hpp"

namespace fastlic::bindings::of_categorical_rans {
namespace {

using Symbols = std::vector<Array<std::int32_t>>;
using Indexes = std::vector<Array<std::uint8_t>>;

py::list encode_many(const CategoricalTables& tables, const Symbols& symbols, const Indexes& indexes, Threads threads) {
  require_equal(symbols.size(), indexes.size(), "lists symbols and indexes");
  Call call;
  std::vector<std::span<const std::int32_t>> s;
  std::vector<std::span<const std::uint8_t>> rows;
  for (std::size_t i = 0; i < symbols.size(); ++i) {
    s.push_back(call.in(symbols[i], "symbols", i));
    rows.push_back(call.in(indexes[i], "indexes", i));
    require_equal(s[i].size(), rows[i].size(), "symbols and indexes");
  }
  std::vector<Vector<std::uint8_t>> streams(s.size());
  {
    const auto unlocked = call.unlock();
    parallel_for(s.size(), threads.count,
                 [&](std::size_t i) { streams[i] = tables.encode(s[i].data(), rows[i].data(), s[i].size()); });
  }
  py::list result;
  for (const auto& stream : streams) result.append(to_bytes(stream));
  return result;
}

void decode_many(const CategoricalTables& tables, const std::vector<py::buffer>& data, const Indexes& indexes,
                 Symbols out, Threads threads) {
  require_equal(data.size(), indexes.size(), "lists data and indexes");
  require_equal(data.size(), out.size(), "lists data and out");
  std::vector<py::buffer_info> buffers;
  for (const py::buffer& stream : data) buffers.push_back(stream.request());
  Call call;
  std::vector<std::span<const std::uint8_t>> streams, rows;
  std::vector<std::span<std::int32_t>> symbols;
  for (std::size_t i = 0; i < data.size(); ++i) {
    streams.push_back(call.bytes(buffers[i], "data", i));
    rows.push_back(call.in(indexes[i], "indexes", i));
    symbols.push_back(call.out(out[i], "out", i));
    require_equal(rows[i].size(), symbols[i].size(), "indexes and out");
  }
  const auto unlocked = call.unlock();
  parallel_for(data.size(), threads.count, [&](std::size_t i) {
    tables.decode(streams[i].data(), streams[i].size(), rows[i].data(), symbols[i].data(), symbols[i].size());
  });
}

}  // namespace

FASTLIC_BINDINGS(categorical_rans) {
  py::class_<CategoricalTables, std::shared_ptr<CategoricalTables>>(module, "CategoricalTables")
      .def(py::init([](const Array<std::int32_t>& cdf, const Array<std::int32_t>& lengths, unsigned precision) {
             return std::make_shared<CategoricalTables>(copied(cdf), copied(lengths), precision);
           }),
           py::arg("cdf").noconvert(), py::arg("lengths").noconvert(), py::arg("precision"))
      .def("encode_many", &encode_many, py::arg("symbols").noconvert(), py::arg("indexes").noconvert(),
           py::arg("threads"))
      .def("decode_many", &decode_many, py::arg("data"), py::arg("indexes").noconvert(), py::arg("out").noconvert(),
           py::arg("threads"));
}

}  // namespace fastlic::bindings::of_categorical_rans

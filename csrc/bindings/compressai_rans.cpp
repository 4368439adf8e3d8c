// fastlic._native: CompressAI's coder.
#include "fastlic/compressai_rans.hpp"

#include <algorithm>
#include <memory>

#include "arrays.hpp"
#include "fastlic/parallel.hpp"
#include "registry.hpp"

namespace fastlic::bindings::of_compressai_rans {
namespace {

using Tables = std::shared_ptr<const CompressAiTables>;

template <typename Index>
py::bytes encode(const Array<std::int32_t>& symbols, const Array<Index>& indexes, const Tables& tables) {
  Call call;
  const auto s = call.in(symbols, "symbols");
  const auto i = call.in(indexes, "indexes");
  require_equal(s.size(), i.size(), "symbols and indexes");
  return encoded(call, [&] { return compressai_encode(s.data(), i.data(), s.size(), *tables); });
}

// One stream per row of [streams, n] arrays.
template <typename Index>
py::list encode_many(const Array<std::int32_t>& symbols, const Array<Index>& indexes, const Tables& tables,
                     Threads threads) {
  Call call;
  const auto s = call.in(symbols, "symbols");
  const auto i = call.in(indexes, "indexes");
  require_equal(s.size(), i.size(), "symbols and indexes");
  if (symbols.ndim() != 2) throw py::value_error("symbols must be [streams, n]");
  const auto streams = static_cast<std::size_t>(symbols.shape(0));
  const auto count = static_cast<std::size_t>(symbols.shape(1));
  std::vector<Vector<std::uint8_t>> out(streams);
  {
    const auto unlocked = call.unlock();
    parallel_for(streams, threads.count, [&](std::size_t stream) {
      out[stream] = compressai_encode(s.data() + stream * count, i.data() + stream * count, count, *tables);
    });
  }
  py::list result;
  for (const auto& bytes : out) result.append(to_bytes(bytes));
  return result;
}

template <typename Index>
void decode_many(const std::vector<py::buffer>& data, const Array<Index>& indexes, Array<std::int32_t> out,
                 const Tables& tables, Threads requested) {
  const unsigned threads = requested.count;
  Call call;
  const Index* i = call.in(indexes, "indexes").data();
  std::int32_t* o = call.out(out, "out").data();
  require_equal(static_cast<std::size_t>(indexes.size()), static_cast<std::size_t>(out.size()), "indexes and out");
  if (indexes.ndim() != 2) throw py::value_error("indexes must be [streams, n]");
  require_equal(data.size(), static_cast<std::size_t>(indexes.shape(0)), "data and indexes");
  const std::size_t streams = data.size();
  const auto count = static_cast<std::size_t>(indexes.shape(1));
  std::vector<py::buffer_info> infos;
  std::vector<std::span<const std::uint8_t>> views;
  for (const py::buffer& buffer : data) infos.push_back(buffer.request());
  for (std::size_t stream = 0; stream < streams; ++stream) views.push_back(call.bytes(infos[stream], "data", stream));

  const auto unlocked = call.unlock();
  std::vector<CompressAiDecoder> decoders;
  decoders.reserve(streams);
  for (const auto& bytes : views) decoders.emplace_back(bytes.data(), bytes.size());
  // Four streams a job pay only if every thread still gets a job.
  const std::size_t group = streams >= 4 * std::size_t{thread_count(threads, streams)} ? 4 : 1;
  parallel_for((streams + group - 1) / group, threads, [&](std::size_t job) {
    const std::size_t first = job * group;
    if (group == 4 && first + 4 <= streams) {
      CompressAiDecoder* four[4];
      const Index* four_indexes[4];
      std::int32_t* four_out[4];
      const std::size_t counts[4] = {count, count, count, count};
      for (std::size_t s = 0; s < 4; ++s) {
        four[s] = &decoders[first + s];
        four_indexes[s] = i + (first + s) * count;
        four_out[s] = o + (first + s) * count;
      }
      CompressAiDecoder::decode_four(four, four_indexes, four_out, counts, *tables);
    } else {
      for (std::size_t s = first; s < std::min(first + group, streams); ++s) {
        decoders[s].decode(i + s * count, o + s * count, count, *tables);
      }
    }
    for (std::size_t s = first; s < std::min(first + group, streams); ++s) decoders[s].finish();
  });
}

class PyEncoder {
 public:
  template <typename Index>
  void put(const Array<std::int32_t>& symbols, const Array<Index>& indexes, const Tables& tables) {
    const Exclusive exclusive(busy_);
    Call call;
    const auto s = call.in(symbols, "symbols");
    const auto i = call.in(indexes, "indexes");
    require_equal(s.size(), i.size(), "symbols and indexes");
    const auto unlocked = call.unlock();
    encoder_.put(s.data(), i.data(), s.size(), *tables);
  }

  py::bytes finish() {
    const Exclusive exclusive(busy_);
    return to_bytes(encoder_.finish());
  }

 private:
  CompressAiEncoder encoder_;
  std::atomic_flag busy_;
};

class PyDecoder {
 public:
  PyDecoder(const py::buffer& data, Tables tables)
      : info_(data.request()),
        tables_(std::move(tables)),
        decoder_(byte_view(info_, "data").data(), byte_view(info_, "data").size()) {}

  template <typename Index>
  void decode(const Array<Index>& indexes, Array<std::int32_t> out, const Tables& tables) {
    const CompressAiTables& own = tables ? *tables : *tables_;
    decode_next(busy_, info_, indexes, out,
                [&](const auto* i, auto* o, std::size_t n) { decoder_.decode(i, o, n, own); });
  }

  void finish() {
    const Exclusive exclusive(busy_);
    decoder_.finish();
  }

 private:
  py::buffer_info info_;
  Tables tables_;
  CompressAiDecoder decoder_;
  std::atomic_flag busy_;
};

template <typename Index>
void bind_index_type(py::module_& module, py::class_<PyEncoder>& encoder, py::class_<PyDecoder>& decoder) {
  module.def("compressai_encode", &encode<Index>, py::arg("symbols").noconvert(), py::arg("indexes").noconvert(),
             py::arg("tables").none(false));
  module.def("compressai_encode_many", &encode_many<Index>, py::arg("symbols").noconvert(),
             py::arg("indexes").noconvert(), py::arg("tables").none(false), py::arg("threads") = 0);
  module.def("compressai_decode_many", &decode_many<Index>, py::arg("data"), py::arg("indexes").noconvert(),
             py::arg("out").noconvert(), py::arg("tables").none(false), py::arg("threads") = 0);
  encoder.def("put", &PyEncoder::put<Index>, py::arg("symbols").noconvert(), py::arg("indexes").noconvert(),
              py::arg("tables").none(false));
  decoder.def("decode", &PyDecoder::decode<Index>, py::arg("indexes").noconvert(), py::arg("out").noconvert(),
              py::arg("tables") = py::none());
}

}  // namespace

FASTLIC_BINDINGS(compressai_rans) {
  py::class_<CompressAiTables, std::shared_ptr<CompressAiTables>>(module, "CompressAiTables")
      .def(py::init([](const Array<std::int32_t>& cdf, const Array<std::int32_t>& lengths,
                       const Array<std::int32_t>& offsets) {
             if (cdf.ndim() != 2) throw py::value_error("quantized_cdf must be [rows, columns]");
             return std::make_shared<CompressAiTables>(copied(cdf), static_cast<std::size_t>(cdf.shape(1)),
                                                       copied(lengths), copied(offsets));
           }),
           py::arg("quantized_cdf").noconvert(), py::arg("lengths").noconvert(), py::arg("offsets").noconvert())
      .def_property_readonly("rows", [](const CompressAiTables& tables) { return tables.rows().size(); });

  py::class_<PyEncoder> encoder(module, "CompressAiEncoder");
  encoder.def(py::init<>()).def("finish", &PyEncoder::finish);
  py::class_<PyDecoder> decoder(module, "CompressAiDecoder");
  decoder.def(py::init<const py::buffer&, Tables>(), py::arg("data"), py::arg("tables").none(false))
      .def("finish", &PyDecoder::finish);
  bind_index_type<std::uint8_t>(module, encoder, decoder);
  bind_index_type<std::int32_t>(module, encoder, decoder);
}

}  // namespace fastlic::bindings::of_compressai_rans

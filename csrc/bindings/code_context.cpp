// fastlic._native: codebook indexes under a context model. Images of a list are coded on several threads.
#include <memory>

#include "array_refs.hpp"
#include "arrays.hpp"
#include "fastlic/codes/context.hpp"
#include "fastlic/parallel.hpp"
#include "registry.hpp"

namespace fastlic::bindings::of_code_context {
namespace {

using codes::Context;
using Int32s = Array<std::int32_t>;

codes::Size checked_size(const Context& context, const Int32s& codes) {
  if (codes.ndim() != 3 || static_cast<std::size_t>(codes.shape(0)) != context.model().groups) {
    throw py::value_error("codes must be [" + std::to_string(context.model().groups) + ", height, width]");
  }
  return {static_cast<std::size_t>(codes.shape(1)), static_cast<std::size_t>(codes.shape(2))};
}

py::list encode_many(const Context& context, const std::vector<Int32s>& codes, Threads threads) {
  Call call;
  std::vector<codes::Size> sizes;
  std::vector<const std::int32_t*> data;
  for (const Int32s& own : codes) {
    sizes.push_back(checked_size(context, own));
    data.push_back(call.in(own, "codes", data.size()).data());
  }
  std::vector<Vector<std::uint8_t>> streams(codes.size());
  {
    const auto unlocked = call.unlock();
    const unsigned inner = codes.size() == 1 ? threads.count : 1;  // a single image may use them all
    parallel_for(codes.size(), threads.count,
                 [&](std::size_t i) { streams[i] = context.encode(data[i], sizes[i], inner); });
  }
  py::list result;
  for (const auto& stream : streams) result.append(to_bytes(stream));
  return result;
}

void decode_many(const Context& context, const std::vector<py::buffer>& data, std::vector<Int32s> out,
                 Threads threads) {
  require_equal(data.size(), out.size(), "lists data and out");
  std::vector<py::buffer_info> buffers;
  for (const py::buffer& stream : data) buffers.push_back(stream.request());
  Call call;
  std::vector<codes::Size> sizes;
  std::vector<std::span<const std::uint8_t>> streams;
  std::vector<std::int32_t*> codes;
  for (std::size_t i = 0; i < data.size(); ++i) {
    sizes.push_back(checked_size(context, out[i]));
    streams.push_back(call.bytes(buffers[i], "data", i));
    codes.push_back(call.out(out[i], "out", i).data());
  }
  const auto unlocked = call.unlock();
  parallel_for(data.size(), threads.count,
               [&](std::size_t i) { context.decode(streams[i].data(), streams[i].size(), sizes[i], codes[i]); });
}

Int32s choose(const Context& context, const Array<float>& vectors, const Array<float>& words,
              const Array<float>& prices) {
  const codes::Model& model = context.model();
  const auto groups = static_cast<py::ssize_t>(model.groups), count = static_cast<py::ssize_t>(model.words);
  if (vectors.ndim() != 4 || vectors.shape(2) != groups) {
    throw py::value_error("vectors must be [height, width, " + std::to_string(groups) + ", channels]");
  }
  const py::ssize_t height = vectors.shape(0), width = vectors.shape(1), channels = vectors.shape(3);
  if (words.ndim() != 3 || words.shape(0) != groups || words.shape(1) != count || words.shape(2) != channels) {
    throw py::value_error("words must be [" + std::to_string(groups) + ", " + std::to_string(count) +
                          ", channels], with the vectors' channels");
  }
  if (prices.ndim() != 3 || prices.shape(0) != height || prices.shape(1) != width || prices.shape(2) != groups) {
    throw py::value_error("prices must be [height, width, groups] of the vectors");
  }
  Int32s result({groups, height, width});
  Call call;
  const codes::Costs costs = {call.in(vectors, "vectors").data(), call.in(words, "words").data(),
                              call.in(prices, "prices").data(), static_cast<std::size_t>(channels)};
  std::int32_t* out = result.mutable_data();
  {
    const auto unlocked = call.unlock();
    context.choose(costs, {static_cast<std::size_t>(height), static_cast<std::size_t>(width)}, out);
  }
  return result;
}

}  // namespace

FASTLIC_BINDINGS(code_context) {
  py::class_<Context, std::shared_ptr<Context>>(module, "CodeContext")
      .def(py::init([](const py::dict& arrays) { return std::make_shared<Context>(ArrayRefs(arrays).refs()); }),
           py::arg("arrays"))
      .def("encode_many", &encode_many, py::arg("codes").noconvert(), py::arg("threads"))
      .def("decode_many", &decode_many, py::arg("data"), py::arg("out").noconvert(), py::arg("threads"))
      .def("choose", &choose, py::arg("vectors").noconvert(), py::arg("words").noconvert(),
           py::arg("prices").noconvert())
      .def(
          "frequencies",
          [](const Context& self, const Int32s& codes) {
            const codes::Size size = checked_size(self, codes);
            Array<std::uint32_t> result({codes.shape(0), codes.shape(1), codes.shape(2)});
            Call call;
            const auto data = call.in(codes, "codes");
            std::uint32_t* out = result.mutable_data();
            {
              const auto unlocked = call.unlock();
              self.frequencies(data.data(), size, out, 1);
            }
            return result;
          },
          py::arg("codes").noconvert());
}

}  // namespace fastlic::bindings::of_code_context

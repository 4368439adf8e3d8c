#include "fastlic/codes/model.hpp"

#include <algorithm>
#include <cstdlib>

#include "fastlic/memory.hpp"
#include "fastlic/nn/reader.hpp"

namespace fastlic::codes {
namespace {

using namespace nn;

constexpr std::int32_t kEmbeddingLimit = 128;

String range_text(std::size_t low, std::size_t high) { return "from " + to_string(low) + " to " + to_string(high); }

void require_range(std::size_t value, std::size_t low, std::size_t high, const String& name, const char* what) {
  if (value < low || value > high) {
    refuse(name, String("has ") + to_string(value) + " " + what + ", they may be " + range_text(low, high));
  }
}

Layer dense(const Reader& read, const String& name, std::size_t inputs, std::int32_t limit, unsigned bits) {
  const RawLayer raw = read.flat(name, inputs, limit);
  require_range(raw.outputs, 1, std::max(kMaxWords, kMaxWidth), name + ".weight", "outputs");
  return read.matrix(raw, {Block::exact(inputs)}, {{{0, 0}, 0, 0}}, bits);
}

// The rows of a first layer's inputs: which of them belong to words above, and which to the same row.
struct Split {
  Vector<std::size_t> above, beside;

  Split(const Vector<Offset>& offsets, std::size_t groups, std::size_t group, std::size_t depth) {
    std::size_t input = 0;
    for (const Offset& offset : offsets) {
      auto& side = offset.row < 0 ? above : beside;
      for (std::size_t i = 0; i < groups * depth; ++i) side.push_back(input++);
    }
    for (std::size_t i = 0; i < group * depth; ++i) beside.push_back(input++);
  }
};

Vector<Offset> read_offsets(const ArrayReader& arrays) {
  const ArrayRef& array = arrays.get("offsets", Type::int8, 2);
  if (array.shape[0] == 0 || array.shape[0] > (2 * kReach + 1) * kReach + kReach || array.shape[1] != 2) {
    refuse("offsets", "has shape " + shape_text(array.shape) + ", expected [1 to 144, 2]");
  }
  const auto* values = static_cast<const std::int8_t*>(array.data);
  Vector<Offset> offsets;
  for (std::size_t i = 0; i < array.shape[0]; ++i) {
    const int row = values[2 * i], column = values[2 * i + 1];
    if (row < -kReach || std::abs(column) > kReach || row > 0 || (row == 0 && column >= 0)) {
      refuse("offsets", "has (" + to_string(row) + ", " + to_string(column) +
                            "), which is not coded earlier or more than 8 positions away");
    }
    offsets.push_back({row, column});
  }
  return offsets;
}

Buffer<std::int32_t> read_table(const ArrayReader& arrays) {
  const auto values = arrays.int32s("table");
  constexpr std::int32_t kTop = 1 << kWeightBits;
  require(values.size() == 1u << kLogitFraction, "table", "must have 256 entries");
  require(values[0] == kTop && *std::min_element(values.begin(), values.end()) >= 0 &&
              *std::max_element(values.begin(), values.end()) == kTop,
          "table", "must begin with 2^20 and hold values from 0 to 2^20");
  return {values.begin(), values.end()};
}

}  // namespace

Model::Model(const nn::Arrays& raw) {
  const ArrayReader arrays(raw);
  const Reader read(arrays);
  const ArrayRef& array = arrays.get("words", Type::int8, 3);
  groups = array.shape[0];
  words = array.shape[1] - 1;
  depth = array.shape[2];
  require_range(groups, 1, kMaxGroups, "words", "groups");
  require_range(array.shape[1], kMinWords + 1, kMaxWords + 1, "words", "embeddings of a group");
  require_range(depth, 1, kMaxDepth, "words", "channels");
  const auto* values = static_cast<const std::int8_t*>(array.data);
  embeddings.assign(values, values + array.size());
  const auto bits = arrays.uint8s("precision");
  require(bits.size() == 1 && bits[0] <= kMaxPrecision && std::size_t{1} << bits[0] >= 2 * words, "precision",
          "must be one number up to 24, and leave half of the frequencies to share");
  precision = bits[0];
  table = read_table(arrays);

  const Vector<Offset> offsets = read_offsets(arrays);
  for (const Offset& offset : offsets) (offset.row < 0 ? above : beside).push_back(offset);
  for (std::size_t g = 0; g < groups; ++g) {
    const String number = to_string(g);
    const Split split(offsets, groups, g, depth);
    const RawLayer first = read.flat("first." + number, split.above.size() + split.beside.size(), kEmbeddingLimit);
    require_range(first.outputs, 1, kMaxWidth, first.name + ".weight", "outputs");
    if (g == 0) {
      width = padded(first.outputs);
      of_above = PackedMatrix(split.above.size(), groups * width);
      first_bias.assign(groups * width, 0);
    }
    require(padded(first.outputs) == width, first.name + ".weight", "has other outputs than group 0");
    std::copy(first.bias.begin(), first.bias.end(), &first_bias[g * width]);
    Group group{PackedMatrix(split.beside.size(), first.outputs),
                read_requantiser(arrays, first.name + ".requantise", first.outputs, kActivationBits),
                {},
                {}};
    const auto weight = [&](std::size_t out, std::size_t in) {
      return static_cast<std::int8_t>(first.at(out, in, 0, 0));
    };
    for (std::size_t c = 0; c < first.outputs; ++c) {
      for (std::size_t i = 0; i < split.above.size(); ++i) of_above.set(i, g * width + c, weight(c, split.above[i]));
      for (std::size_t i = 0; i < split.beside.size(); ++i) group.beside.set(i, c, weight(c, split.beside[i]));
    }
    group.second = dense(read, "second." + number, first.outputs, group.requantiser.limit, kActivationBits);
    const std::size_t hidden = group.second.outputs;
    require_range(hidden, 1, kMaxWidth, "second." + number + ".weight", "outputs");
    require(padded(hidden) == (g == 0 ? padded(hidden) : of[0].second.columns()), "second." + number + ".weight",
            "has other outputs than group 0");
    group.last = dense(read, "last." + number, hidden, group.second.limit(), kMaxLogitBits);
    require(group.last.outputs == words, "last." + number + ".weight",
            "has " + to_string(group.last.outputs) + " outputs, there are " + to_string(words) + " words");
    of.push_back(std::move(group));
  }
}

}  // namespace fastlic::codes

#include "fastlic/mlic/model.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <span>
#include <stdexcept>

namespace fastlic::mlic {
namespace {

using engine::ArrayReader;
using engine::ArrayRef;
using engine::kMaxActivationBits;
using engine::kMaxChannels;
using engine::kMaxShift;
using engine::kMaxWideBits;
using engine::kMinShift;
using engine::Type;

constexpr unsigned kActivationBits = 12, kSumBits = 16;
constexpr unsigned kFineBits = 12, kExponents = 16;  // GELU counts in units of 2^-12
constexpr std::size_t kMaxHeadChannels = 1024;
enum Kind { kPlain = 0, kTransposed = 1, kShuffled = 2 };

[[noreturn]] void refuse(const std::string& name, const std::string& fault) {
  throw std::invalid_argument("integer entropy model: '" + name + "' " + fault);
}

void require(bool good, const std::string& name, const std::string& fault) {
  if (!good) refuse(name, fault);
}

// Channels that a layer reads from one block of a row, and the block's size.
struct Block {
  std::size_t count, size;
  Block(std::size_t channels) : count(channels), size(padded(channels)) {}  // NOLINT: a number of channels is a block
  static Block skipped(std::size_t channels) {
    Block block(channels);
    block.count = 0;
    return block;
  }
};

using Inputs = std::vector<Block>;

std::size_t padded_sum(const Inputs& inputs) {
  std::size_t sum = 0;
  for (const Block& block : inputs) sum += block.size;
  return sum;
}

std::vector<std::size_t> places(const Inputs& inputs) {
  std::vector<std::size_t> out;
  std::size_t begin = 0;
  for (const Block& block : inputs) {
    for (std::size_t c = 0; c < block.count; ++c) out.push_back(begin + c);
    begin += block.size;
  }
  return out;
}

struct RawLayer {
  std::string name;
  const std::int8_t* weight = nullptr;
  std::size_t outputs = 0, inputs = 0, kernel = 0, groups = 0;
  int kind = kPlain;
  std::span<const std::int32_t> bias;

  std::int8_t at(std::size_t out, std::size_t in, std::size_t i, std::size_t j) const {
    const std::size_t plane = kind == kTransposed ? in * outputs + out : out * inputs + in;
    return weight[(plane * kernel + i) * kernel + j];
  }
  std::int64_t reach(std::size_t out) const {
    std::int64_t sum = 0;
    for (std::size_t in = 0; in < inputs; ++in) {
      for (std::size_t tap = 0; tap < kernel * kernel; ++tap) {
        sum += std::abs(int{at(out, in, tap / kernel, tap % kernel)});
      }
    }
    return sum * kActivation;
  }
};

class Reader {
 public:
  explicit Reader(const ArrayReader& arrays) : arrays_(arrays) {}

  Requantiser requantiser(const std::string& prefix, std::size_t channels, unsigned bits) const {
    return slice_of(prefix, 0, channels, channels, bits);
  }

  // Channels [first, first + count) of a requantiser of `total`.
  Requantiser slice_of(const std::string& prefix, std::size_t first, std::size_t count, std::size_t total,
                       unsigned bits, std::size_t step = 1) const {
    const auto multiplier = arrays_.int32s(prefix + ".multiplier");
    const auto negative = arrays_.int32s(prefix + ".negative");
    const auto shift = arrays_.uint8s(prefix + ".shift");
    const auto width = arrays_.uint8s(prefix + ".bits");
    for (const std::size_t size : {multiplier.size(), negative.size(), shift.size()}) {
      require(size == total, prefix,
              "serves " + std::to_string(size) + " channels, expected " + std::to_string(total));
    }
    require(width.size() == 1 && width[0] >= 2 && width[0] <= bits, prefix + ".bits",
            "must be one number from 2 to " + std::to_string(bits));
    Requantiser out;
    out.channels = count;
    out.limit = (std::int32_t{1} << (width[0] - 1)) - 1;
    out.multiplier.assign(padded(count), 0);
    out.negative.assign(padded(count), 0);
    out.shift.assign(padded(count), kMinShift);
    out.rounding.assign(padded(count), 0);
    for (std::size_t k = 0; k < count; ++k) {
      const std::size_t c = first + k * step;
      require(shift[c] >= kMinShift && shift[c] <= kMaxShift, prefix + ".shift", "must be from 1 to 62");
      out.multiplier[k] = multiplier[c];
      out.negative[k] = negative[c];
      out.shift[k] = shift[c];
      out.rounding[k] = std::int64_t{1} << (shift[c] - 1);
    }
    return out;
  }

  RawLayer raw(const std::string& name, std::size_t inputs, bool depthwise) const {
    const ArrayRef& weight = arrays_.get(name + ".weight", Type::int8, 4);
    const auto geometry = arrays_.int32s(name + ".geometry");
    require(geometry.size() == 2 && geometry[0] >= kPlain && geometry[0] <= kShuffled && geometry[1] >= 1,
            name + ".geometry", "must be kind and groups");
    RawLayer raw;
    raw.name = name;
    raw.weight = static_cast<const std::int8_t*>(weight.data);
    raw.kind = geometry[0];
    raw.groups = static_cast<std::size_t>(geometry[1]);
    raw.outputs = weight.shape[raw.kind == kTransposed ? 1 : 0];
    raw.inputs = weight.shape[raw.kind == kTransposed ? 0 : 1];
    raw.kernel = weight.shape[2];
    raw.bias = arrays_.int32s(name + ".bias");
    require(weight.shape[3] == raw.kernel && raw.kernel % 2 == 1 && raw.kernel <= 9, name + ".weight",
            "must have an odd square kernel up to 9x9");
    require(raw.outputs >= 1 && raw.outputs <= 4 * kMaxChannels && raw.bias.size() == raw.outputs, name + ".bias",
            "must have one number per output channel");
    const std::size_t groups = depthwise ? inputs : 1;
    require(raw.groups == groups && raw.inputs == inputs / groups && (!depthwise || raw.outputs == inputs), name,
            "must read " + std::to_string(inputs) + " channels in " + std::to_string(groups) + " groups");
    for (std::size_t out = 0; out < raw.outputs; ++out) {
      require(raw.reach(out) + std::abs(std::int64_t{raw.bias[out]}) <= std::numeric_limits<std::int32_t>::max(), name,
              "can overflow in channel " + std::to_string(out));
    }
    return raw;
  }

  GeluChannel gelu(const std::string& name, const RawLayer& raw, std::size_t step, std::int32_t limit) const {
    GeluChannel out;
    if (!arrays_.has(name + ".exponents")) return out;
    const auto exponents = arrays_.uint8s(name + ".exponents");
    require(exponents.size() == raw.outputs && limit <= kActivation, name + ".exponents",
            "must be one number per channel of 12 bits");
    const std::size_t size = padded(raw.outputs / step);
    out.reach.assign(size, 0);
    out.up.assign(size, 0);
    out.down.assign(size, 0);
    for (std::size_t c = 0; c < raw.outputs / step; ++c) {
      const unsigned exponent = exponents[c * step];
      for (std::size_t k = 0; k < step; ++k) {
        require(exponents[c * step + k] == exponent && exponent < kExponents, name + ".exponents",
                "must be below 16, and equal behind a pixel shuffle");
      }
      out.reach[c] = static_cast<std::int16_t>(std::min(4 << exponent, kActivation));
      if (exponent <= kFineBits) {
        out.up[c] = static_cast<std::int16_t>(kFineBits - exponent);
      } else {
        out.down[c] = static_cast<std::int16_t>(exponent - kFineBits);
      }
    }
    return out;
  }

  // Output channels first, first + step, ... of a kernel as one part. Sources say which tap comes from where.
  struct Source {
    engine::Offset offset;
    std::size_t i, j;
  };

  Part part(const RawLayer& raw, const Inputs& inputs, std::size_t first, std::size_t step, unsigned bits,
            std::vector<Source> sources) const {
    std::sort(sources.begin(), sources.end(), [](const Source& a, const Source& b) {
      return a.offset.row != b.offset.row ? a.offset.row < b.offset.row : a.offset.column < b.offset.column;
    });
    const auto place = places(inputs);
    const std::size_t depth = padded_sum(inputs), outputs = raw.outputs / step;
    Part part;
    part.bias.assign(padded(outputs), 0);
    for (std::size_t c = 0; c < outputs; ++c) part.bias[c] = raw.bias[first + c * step];
    part.requantiser = slice_of(raw.name + ".requantise", first, outputs, raw.outputs, bits, step);
    bool small = raw.kernel > 1;
    for (const Source& s : sources) {
      part.taps.push_back(s.offset);
      small = small && std::abs(s.offset.row) <= 1 && std::abs(s.offset.column) <= 1;
    }
    for (std::size_t out = 0; out < raw.outputs && small; ++out) small = raw.reach(out) <= engine::kWinogradReach;
    part.winograd = small;
    if (small) {
      transform(raw, sources, place, depth, first, step, part);
      return part;
    }
    part.weights = engine::PackedMatrix(sources.size() * depth, outputs);
    for (std::size_t t = 0; t < sources.size(); ++t) {
      for (std::size_t in = 0; in < raw.inputs; ++in) {
        for (std::size_t c = 0; c < outputs; ++c) {
          part.weights.set(t * depth + place[in], c, raw.at(first + c * step, in, sources[t].i, sources[t].j));
        }
      }
    }
    return part;
  }

  Layer layer(const std::string& name, const Inputs& inputs, unsigned bits = kActivationBits) const {
    std::size_t count = 0;
    for (const Block& block : inputs) count += block.count;
    const RawLayer raw = this->raw(name, count, false);
    Layer layer;
    layer.depth = padded_sum(inputs);
    const int half = static_cast<int>(raw.kernel / 2);
    const std::size_t step = raw.kind == kShuffled ? 4 : 1;
    require(raw.outputs % step == 0, name, "must have a multiple of four outputs before its shuffle");
    layer.outputs = raw.outputs / step;
    layer.up = raw.kind == kPlain ? 1 : 2;
    for (int p = 0; p < static_cast<int>(layer.up * layer.up); ++p) {
      const int phase[2] = {p / 2, p % 2};
      std::vector<Source> sources;
      for (std::size_t i = 0; i < raw.kernel; ++i) {
        for (std::size_t j = 0; j < raw.kernel; ++j) {
          int from[2] = {static_cast<int>(i) - half, static_cast<int>(j) - half};
          bool live = true;
          for (int axis = 0; raw.kind == kTransposed && axis < 2; ++axis) {
            const int distance = phase[axis] - from[axis];
            live = live && distance % 2 == 0;
            from[axis] = distance / 2;
          }
          if (live) sources.push_back({{from[0], from[1]}, i, j});
        }
      }
      const bool shuffled = raw.kind == kShuffled;
      Part out = part(raw, inputs, shuffled ? static_cast<std::size_t>(p) : 0, step, bits, std::move(sources));
      out.row = static_cast<std::size_t>(phase[0]);
      out.column = static_cast<std::size_t>(phase[1]);
      layer.parts.push_back(std::move(out));
    }
    layer.gelu = gelu(name, raw, step, layer.parts[0].requantiser.limit);
    return layer;
  }

  Layer dense(const std::string& name, const Inputs& inputs, unsigned bits = kActivationBits) const {
    Layer out = layer(name, inputs, bits);
    require(out.up == 1 && out.parts[0].taps.size() == 1, name, "must be a 1x1 layer");
    return out;
  }

  Depthwise depthwise(const std::string& name, std::size_t channels, unsigned bits) const {
    const RawLayer raw = this->raw(name, channels, true);
    require(raw.kernel == 3 && raw.kind == kPlain, name, "must be a 3x3 layer");
    Depthwise out;
    out.channels = channels;
    out.weights.assign(9 * padded(channels), 0);
    out.bias.assign(padded(channels), 0);
    for (std::size_t c = 0; c < channels; ++c) {
      out.bias[c] = raw.bias[c];
      for (std::size_t tap = 0; tap < 9; ++tap) out.weights[tap * padded(channels) + c] = raw.at(c, 0, tap / 3, tap % 3);
    }
    out.requantiser = requantiser(name + ".requantise", channels, bits);
    out.gelu = gelu(name, raw, 1, out.requantiser.limit);
    return out;
  }

  // Layers name.0, name.1, ...; the last may be wider than an activation.
  Stack stack(const std::string& name, Inputs inputs, unsigned last_bits = kActivationBits) const {
    std::size_t count = 0;
    while (arrays_.has(name + "." + std::to_string(count) + ".geometry")) ++count;
    require(count > 0, name + ".0", "is missing");
    Stack out;
    for (std::size_t i = 0; i < count; ++i) {
      out.push_back(layer(name + "." + std::to_string(i), inputs, i + 1 == count ? last_bits : kActivationBits));
      inputs = {out.back().outputs};
    }
    return out;
  }

  Projection projection(const std::string& name, const Inputs& inputs, std::size_t channels, unsigned bits) const {
    Projection out{dense(name + ".0", inputs), depthwise(name + ".1", channels, bits)};
    require(out.mix.outputs == channels, name, "must keep its number of channels");
    return out;
  }

  Attention attention(const std::string& name, const Inputs& inputs, std::size_t heads, bool linear, bool inter,
                      std::size_t outputs) const {
    Attention out;
    for (const Block& block : inputs) out.channels += block.count;
    out.heads = heads;
    require(out.channels % heads == 0 && out.channels / heads <= kMaxHeadChannels, name, "cannot be cut into its heads");
    const unsigned bits = linear ? kSumBits : kActivationBits;
    out.query = projection(name + ".query", inputs, out.channels, bits);
    out.key = projection(name + ".key", inputs, out.channels, bits);
    out.value = projection(name + ".value", inputs, out.channels, kActivationBits);
    if (!linear) out.score = requantiser("requantisers." + name.substr(7) + ".score", heads, kSumBits);
    out.attended = requantiser("requantisers." + name.substr(7) + ".attended", out.channels, kActivationBits);
    require(out.attended.limit == kActivation, name, "must attend with 12 bits");
    out.reprojection = layer(name + ".reprojection", {out.channels});
    const std::size_t projected = out.reprojection.outputs;
    out.mlp.in = dense(name + ".mlp.0", {projected});
    out.mlp.spread = depthwise(name + ".mlp.1", out.mlp.in.outputs, kActivationBits);
    out.mlp.out = dense(name + ".mlp.2", {out.mlp.in.outputs}, kSumBits);
    require(out.reprojection.up == 1 && out.mlp.out.outputs == outputs, name, "has the wrong number of outputs");
    if (inter) {
      out.skip = dense(name + ".skip", {projected}, kSumBits);
      require(out.skip.outputs == outputs, name, "has the wrong number of outputs");
    } else {
      require(projected == outputs, name, "has the wrong number of outputs");
      out.residual = requantiser("requantisers." + name.substr(7) + ".residual", outputs, kSumBits);
    }
    return out;
  }

  LocalAttention local(const std::string& name, std::size_t c, std::size_t outputs) const {
    const std::string bare = name.substr(7);
    LocalAttention out;
    require(c % kLocalHeads == 0 && c <= kLocalHeads * kMaxLocalDims && outputs <= 1024, name, "has too many channels");
    out.qkv = dense(name + ".qkv", {c});
    require(out.qkv.outputs == 3 * c, name + ".qkv", "must have three outputs per channel");
    out.score = requantiser("requantisers." + bare + ".score", kLocalHeads, kSumBits);
    out.attended = requantiser("requantisers." + bare + ".attended", c, kActivationBits);
    out.output = requantiser("requantisers." + bare + ".output", outputs, kActivationBits);
    const ArrayRef& table = arrays_.get(bare + ".bias", Type::int32, 2);
    constexpr std::size_t side = 2 * kWindow - 1;
    require(table.shape[0] == kLocalHeads && table.shape[1] == side * side, bare + ".bias", "must be [2, 81]");
    const auto* values = static_cast<const std::int32_t*>(table.data);
    out.bias.assign(kLocalHeads * kTokens * kPanel, 0);
    for (std::size_t head = 0; head < kLocalHeads; ++head) {
      for (std::size_t i = 0; i < kTokens; ++i) {
        for (std::size_t j = 0; j < kTokens; ++j) {
          const std::size_t down = i / kWindow + kWindow - 1 - j / kWindow, right = i % kWindow + kWindow - 1 - j % kWindow;
          const std::int32_t value = values[head * side * side + down * side + right];
          require(std::abs(std::int64_t{value}) <= kScore, bare + ".bias", "must have 16 bits");
          out.bias[(head * kTokens + i) * kPanel + j] = value;
        }
      }
    }
    const auto epsilon = arrays_.int32s(bare + ".epsilon");
    require(epsilon.size() == 2 && epsilon[0] >= 1 && epsilon[1] >= 1, bare + ".epsilon", "must be two numbers above 0");
    out.epsilon = {epsilon[0], epsilon[1]};
    // The fusing convolution as one row of all tokens' channels, token by token.
    const RawLayer fusion = raw(name + ".fusion", c, false);
    require(fusion.kernel == kWindow && fusion.kind == kPlain, name + ".fusion", "must be a 5x5 layer");
    std::vector<Source> tokens;
    for (std::size_t t = 0; t < kTokens; ++t) {
      tokens.push_back({{static_cast<int>(t / kWindow), static_cast<int>(t % kWindow)}, t / kWindow, t % kWindow});
    }
    out.fusion.outputs = fusion.outputs;
    out.fusion.depth = kTokens * padded(c);
    out.fusion.parts.push_back(part(fusion, {c}, 0, 1, kActivationBits, std::move(tokens)));
    out.fusion.parts[0].taps = {{0, 0}};
    out.proj = dense(name + ".proj", {fusion.outputs}, kSumBits);
    out.mlp_in = dense(name + ".mlp.0", {outputs});
    out.mlp_out = dense(name + ".mlp.1", {out.mlp_in.outputs}, kSumBits);
    require(out.proj.outputs == outputs && out.mlp_out.outputs == outputs, name, "has the wrong number of outputs");
    return out;
  }

 private:
  void transform(const RawLayer& raw, const std::vector<Source>& sources, const std::vector<std::size_t>& place,
                 std::size_t depth, std::size_t first, std::size_t step, Part& part) const {
    // 2G's first row reads only the tap at -1, its last only the one at +1.
    std::array<bool, 4> rows{false, true, true, false}, columns = rows;
    for (const Source& s : sources) {
      rows[0] |= s.offset.row < 0;
      rows[3] |= s.offset.row > 0;
      columns[0] |= s.offset.column < 0;
      columns[3] |= s.offset.column > 0;
    }
    const std::size_t outputs = raw.outputs / step;
    for (std::size_t k = 0; k < engine::kComponents; ++k) {
      if (rows[k / 4] && columns[k % 4]) part.transformed[k] = engine::WideMatrix(depth, outputs);
    }
    const engine::WideMatrix& shape = part.transformed[5];
    for (std::size_t in = 0; in < raw.inputs; ++in) {
      for (std::size_t c = 0; c < outputs; ++c) {
        std::array<std::int16_t, 9> kernel{};
        for (const Source& s : sources) {
          kernel[static_cast<std::size_t>(3 * (s.offset.row + 1) + s.offset.column + 1)] =
              raw.at(first + c * step, in, s.i, s.j);
        }
        const auto transformed = engine::transform_kernel(kernel);
        const std::size_t at = shape.offset(place[in], c);
        for (std::size_t k = 0; k < engine::kComponents; ++k) {
          if (part.transformed[k].depth != 0) part.transformed[k].data[at] = transformed[k];
        }
      }
    }
  }

  const ArrayReader& arrays_;
};

Tables read_tables(const ArrayReader& reader) {
  Tables out;
  const auto exp = reader.int32s("tables.exp");
  require(exp.size() >= 2 && exp.size() <= (1 << 20) && exp.front() >= 1 && exp.back() == 0, "tables.exp",
          "must fall from above 0 to 0");
  for (const std::int32_t value : exp) require(value >= 0 && value <= kWeight, "tables.exp", "must have 16 bits");
  for (const std::int32_t value : exp) out.exp.push_back(static_cast<std::uint16_t>(value));
  out.exp.push_back(0);
  out.last = static_cast<std::int32_t>(exp.size() - 1);
  const auto tail = reader.int32s("tables.tail");
  require(tail.size() == kTailLines + 1 && tail.front() <= 1 << (kTailBits - 1) && tail.back() >= 0 &&
              std::is_sorted(tail.rbegin(), tail.rend()),
          "tables.tail", "must be 65 numbers that fall from 16384 or less to 0 or more");
  for (std::size_t i = 0; i < kTailLines; ++i) {
    out.tail.start[i] = static_cast<std::uint16_t>(tail[i]);
    out.tail.fall[i] = static_cast<std::uint16_t>(tail[i] - tail[i + 1]);
  }
  const ArrayRef& tanh = reader.get("tables.tanh", Type::int8, 1);
  require(tanh.size() == kTanhEntries, "tables.tanh", "must have 4096 entries");
  const auto* values = static_cast<const std::int8_t*>(tanh.data);
  out.tanh.assign(values, values + kTanhEntries);
  return out;
}

double fewest_bits(const ArrayReader& reader, const std::string& name, const CdfTables& tables) {
  const auto cdf = reader.int32s(name + ".tables.cdf");
  std::int32_t likeliest = 1;
  for (std::size_t i = 1; i < cdf.size(); ++i) likeliest = std::max(likeliest, cdf[i] - cdf[i - 1]);
  return tables.precision() - std::log2(static_cast<double>(likeliest));
}

engine::Thresholds read_thresholds(const ArrayReader& reader, std::size_t rows) {
  const auto values = reader.int32s("y.thresholds");
  require(std::is_sorted(values.begin(), values.end()) && values.size() < rows, "y.thresholds",
          "must ascend and choose among the rows of the table");
  engine::Thresholds out;
  out.count = values.size();
  std::size_t size = 1;
  while (size <= out.count) size *= 2;
  out.values.assign(size, std::numeric_limits<std::int32_t>::max());
  std::copy(values.begin(), values.end(), out.values.begin());
  return out;
}

}  // namespace

Model::Model(const engine::Arrays& arrays, std::shared_ptr<const CdfTables> z, std::shared_ptr<const CdfTables> y)
    : z_tables(std::move(z)), y_tables(std::move(y)) {
  const ArrayReader reader(arrays);
  const auto shape = reader.int32s("shape");
  require(shape.size() == 2 && shape[0] >= 0 && shape[0] <= 2 && shape[1] >= 1 &&
              static_cast<std::size_t>(shape[1]) <= kMaxSlices,
          "shape", "must be family and number of slices");
  family = static_cast<Family>(shape[0]);
  const auto count = static_cast<std::size_t>(shape[1]);
  z_fewest_bits = fewest_bits(reader, "z", *z_tables);
  y_fewest_bits = fewest_bits(reader, "y", *y_tables);
  thresholds = read_thresholds(reader, y_tables->rows());
  tables = read_tables(reader);
  const Reader read(reader);

  const auto medians = reader.int32s("z.median");
  z_median.assign(medians.begin(), medians.end());
  require(!z_median.empty() && z_median.size() <= z_tables->rows(), "z.median", "has more channels than z has tables");
  z_input = read.requantiser("requantisers.z.input", z_median.size(), kActivationBits);
  hyper = read.stack("layers.hyper", {z_median.size()});
  std::size_t up = 1;
  for (const Layer& layer : hyper) up *= layer.up;
  require(up == engine::kHyperStride, "hyper", "must enlarge its input 4 times, not " + std::to_string(up));
  const std::size_t m = hyper.back().outputs / 2;
  require(hyper.back().outputs == 2 * m && m % count == 0 && m <= kMaxChannels, "hyper",
          "must have two outputs per channel of the latent");
  slice_channels = m / count;

  // The blocks' sizes follow from networks that read or write them.
  const std::size_t c = slice_channels;
  const auto outputs_of = [&](const std::string& name) { return reader.get(name + ".weight", Type::int8, 4).shape[0]; };
  std::size_t local_size = 0, intra_size = 0, inter_size = 0, channel_size = 0;
  if (family == Family::mlic) {
    std::size_t last = 0;
    while (reader.has("layers.local.0." + std::to_string(last + 1) + ".geometry")) ++last;
    local_size = outputs_of("layers.local.0." + std::to_string(last));
  } else {
    local_size = outputs_of("layers.local.0.proj");
  }
  if (count > 1) {
    intra_size = outputs_of("layers.intra.1.reprojection");
    std::size_t last = 0;
    while (reader.has("layers.channel.1." + std::to_string(last + 1) + ".geometry")) ++last;
    channel_size = outputs_of("layers.channel.1." + std::to_string(last));
    if (has_inter()) inter_size = outputs_of("layers.inter.1.skip");
  }
  for (const std::size_t size : {local_size, intra_size, inter_size, channel_size}) {
    require(size <= kMaxChannels, "contexts", "are too wide");
  }
  blocks.slice = padded(c);
  blocks.intra = blocks.local + padded(local_size);
  blocks.inter = blocks.intra + padded(intra_size);
  blocks.channel = blocks.inter + padded(inter_size);
  blocks.hyper = blocks.channel + padded(channel_size);
  blocks.means = blocks.hyper + padded(m);
  blocks.slices = blocks.means + padded(m);
  blocks.size = blocks.slices + count * blocks.slice;

  for (std::size_t i = 0; i < count; ++i) {
    const std::string number = std::to_string(i);
    Slice slice;
    const Inputs decoded(i, c);
    slice.input = read.slice_of("requantisers.y.input", i * c, c, m, kActivationBits);
    if (i > 0) {
      slice.channel = read.stack("layers.channel." + number, decoded);
      require(slice.channel.back().outputs == channel_size, "channel." + number, "has the wrong number of outputs");
      if (has_inter()) slice.inter = read.attention("layers.inter." + number, decoded, i, linear(), true, inter_size);
      slice.intra = read.attention("layers.intra." + number, {c}, kIntraHeads, linear(), false, intra_size);
    }
    if (family == Family::mlic) {
      slice.stacked = read.stack("layers.local." + number, {c});
      require(slice.stacked.back().outputs == local_size, "local." + number, "has the wrong number of outputs");
    } else {
      slice.local = read.local("layers.local." + number, c, local_size);
    }
    for (const std::size_t which : {0, 1}) {
      const std::string suffix = (which == 0 ? "a." : "n.") + number;
      // The first slice has nothing between its local context and the hyperprior.
      const auto known_later = [&](std::size_t channels) { return i > 0 ? Block(channels) : Block::skipped(channels); };
      Inputs joined;
      if (which == 1) {
        joined.emplace_back(local_size);
        joined.push_back(known_later(intra_size));
      }
      joined.push_back(known_later(inter_size));
      joined.push_back(known_later(channel_size));
      joined.emplace_back(m);
      joined.emplace_back(m);
      slice.parameters[which] = read.stack("layers.parameters." + suffix, joined, kMaxWideBits);
      for (const Layer& layer : slice.parameters[which]) {
        require(layer.up == 1 && layer.parts[0].taps.size() == 1, "parameters." + suffix, "must be 1x1 layers");
      }
      require(slice.parameters[which].back().outputs == 2 * c, "parameters." + suffix, "must end with 2 x slice");
      Inputs known{m};
      known.insert(known.end(), i + 1, c);
      slice.residual[which] = read.stack("layers.residual." + suffix, known);
      require(slice.residual[which].back().outputs == c && slice.residual[which].back().gelu.empty(),
              "residual." + suffix, "must end with the slice's channels");
    }
    for (const Stack* stack : {&slice.channel, &slice.stacked, &slice.residual[0], &slice.residual[1]}) {
      for (const Layer& layer : *stack) require(layer.up == 1, "slice " + number, "must keep its size");
    }
    slices.push_back(std::move(slice));
  }
}

}  // namespace fastlic::mlic

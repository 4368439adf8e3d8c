#include "fastlic/mlic/model.hpp"

#include <algorithm>
#include <cstdlib>

#include "fastlic/nn/reader.hpp"

namespace fastlic::mlic {
namespace {

using nn::ArrayReader;
using nn::ArrayRef;
using nn::kMaxChannels;
using nn::kMaxWideBits;
using nn::require;
using nn::Type;
using nn::Block;
using nn::Inputs;
using nn::kActivationBits;
using nn::RawLayer;
using nn::Reader;

constexpr unsigned kSumBits = 16;
constexpr std::size_t kMaxHeadChannels = 1024;

Projection projection(const Reader& read, const std::string& name, const Inputs& inputs, std::size_t channels, unsigned bits) {
  Projection out{read.dense(name + ".0", inputs), read.depthwise(name + ".1", channels, bits)};
  require(out.mix.outputs == channels, name, "must keep its number of channels");
  return out;
}

Attention attention(const Reader& read, const std::string& name, const Inputs& inputs, std::size_t heads, bool linear,
                    bool inter, std::size_t outputs) {
  Attention out;
  for (const Block& block : inputs) out.channels += block.count;
  out.heads = heads;
  require(out.channels % heads == 0 && out.channels / heads <= kMaxHeadChannels, name, "cannot be cut into its heads");
  const unsigned bits = linear ? kSumBits : kActivationBits;
  out.query = projection(read, name + ".query", inputs, out.channels, bits);
  out.key = projection(read, name + ".key", inputs, out.channels, bits);
  out.value = projection(read, name + ".value", inputs, out.channels, kActivationBits);
  if (!linear) out.score = read.requantiser("requantisers." + name.substr(7) + ".score", heads, kSumBits);
  out.attended = read.requantiser("requantisers." + name.substr(7) + ".attended", out.channels, kActivationBits);
  require(out.attended.limit == kActivation, name, "must attend with 12 bits");
  out.reprojection = read.layer(name + ".reprojection", {out.channels});
  const std::size_t projected = out.reprojection.outputs;
  out.mlp.in = read.dense(name + ".mlp.0", {projected});
  out.mlp.spread = read.depthwise(name + ".mlp.1", out.mlp.in.outputs, kActivationBits);
  out.mlp.out = read.dense(name + ".mlp.2", {out.mlp.in.outputs}, kSumBits);
  require(nn::keeps_size({out.reprojection}) && out.mlp.out.outputs == outputs, name, "has the wrong number of outputs");
  if (inter) {
    out.skip = read.dense(name + ".skip", {projected}, kSumBits);
    require(out.skip.outputs == outputs, name, "has the wrong number of outputs");
  } else {
    require(projected == outputs, name, "has the wrong number of outputs");
    out.residual = read.requantiser("requantisers." + name.substr(7) + ".residual", outputs, kSumBits);
  }
  return out;
}

LocalAttention local(const Reader& read, const std::string& name, std::size_t c, std::size_t outputs) {
  const std::string bare = name.substr(7);
  LocalAttention out;
  require(c % kLocalHeads == 0 && c <= kLocalHeads * kMaxLocalDims && outputs <= 1024, name, "has too many channels");
  out.qkv = read.dense(name + ".qkv", {c});
  require(out.qkv.outputs == 3 * c, name + ".qkv", "must have three outputs per channel");
  out.score = read.requantiser("requantisers." + bare + ".score", kLocalHeads, kSumBits);
  out.attended = read.requantiser("requantisers." + bare + ".attended", c, kActivationBits);
  out.output = read.requantiser("requantisers." + bare + ".output", outputs, kActivationBits);
  const ArrayRef& table = read.arrays().get(bare + ".bias", Type::int32, 2);
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
  const auto epsilon = read.arrays().int32s(bare + ".epsilon");
  require(epsilon.size() == 2 && epsilon[0] >= 1 && epsilon[1] >= 1, bare + ".epsilon", "must be two numbers above 0");
  out.epsilon = {epsilon[0], epsilon[1]};
  // The fusing convolution as one row of all tokens' channels, token by token.
  const RawLayer fusion = read.raw(name + ".fusion", c);
  require(fusion.kernel == kWindow && fusion.kind == nn::kPlain, name + ".fusion", "must be a 5x5 layer");
  std::vector<nn::Tap> tokens;
  for (std::size_t t = 0; t < kTokens; ++t) {
    tokens.push_back({{static_cast<int>(t / kWindow), static_cast<int>(t % kWindow)}, t / kWindow, t % kWindow});
  }
  out.fusion.outputs = fusion.outputs;
  out.fusion.depth = kTokens * padded(c);
  out.fusion.parts.push_back(read.part(fusion, {c}, {}, std::move(tokens)));
  out.fusion.parts[0].taps = {{0, 0}};
  out.proj = read.dense(name + ".proj", {fusion.outputs}, kSumBits);
  out.mlp_in = read.dense(name + ".mlp.0", {outputs});
  out.mlp_out = read.dense(name + ".mlp.1", {out.mlp_in.outputs}, kSumBits);
  require(out.proj.outputs == outputs && out.mlp_out.outputs == outputs, name, "has the wrong number of outputs");
  return out;
}

Tables read_tables(const Reader& read) {
  const ArrayReader& reader = read.arrays();
  Tables out;
  const auto exp = reader.int32s("tables.exp");
  require(exp.size() >= 2 && exp.size() <= (1 << 20) && exp.front() >= 1 && exp.back() == 0, "tables.exp",
          "must fall from above 0 to 0");
  for (const std::int32_t value : exp) require(value >= 0 && value <= kWeight, "tables.exp", "must have 16 bits");
  for (const std::int32_t value : exp) out.exp.push_back(static_cast<std::uint16_t>(value));
  out.exp.push_back(0);
  out.last = static_cast<std::int32_t>(exp.size() - 1);
  out.tail = read.tail_lines();
  const ArrayRef& tanh = reader.get("tables.tanh", Type::int8, 1);
  require(tanh.size() == kTanhEntries, "tables.tanh", "must have 4096 entries");
  const auto* values = static_cast<const std::int8_t*>(tanh.data);
  out.tanh.assign(values, values + kTanhEntries);
  return out;
}

}  // namespace

Model::Model(const nn::Arrays& arrays, std::shared_ptr<const CdfTables> z, std::shared_ptr<const CdfTables> y)
    : z_tables(std::move(z)), y_tables(std::move(y)) {
  const ArrayReader reader(arrays);
  const auto shape = reader.int32s("shape");
  require(shape.size() == 2 && shape[0] >= 0 && shape[0] <= 2 && shape[1] >= 1 &&
              static_cast<std::size_t>(shape[1]) <= kMaxSlices,
          "shape", "must be family and number of slices");
  family = static_cast<Family>(shape[0]);
  const auto count = static_cast<std::size_t>(shape[1]);
  z_fewest_bits = nn::fewest_bits(*z_tables);
  y_fewest_bits = nn::fewest_bits(*y_tables);
  thresholds = nn::read_thresholds(reader, y_tables->rows());
  const Reader read(reader);
  tables = read_tables(read);

  z_median = nn::read_medians(reader, *z_tables);
  z_input = read.requantiser("requantisers.z.input", z_median.size(), kActivationBits);
  hyper = read.stack("layers.hyper", {z_median.size()});
  require(nn::enlarges(hyper) == nn::kHyperStride, "hyper", "must enlarge its input 4 times");
  const std::size_t m = hyper.back().outputs / 2;
  require(hyper.back().outputs == 2 * m && m % count == 0 && m <= kMaxChannels, "hyper",
          "must have two outputs per channel of the latent");
  slice_channels = m / count;

  // The blocks' sizes follow from networks that read or write them.
  const std::size_t c = slice_channels;
  const auto outputs_of = [&](const std::string& name) { return reader.get(name + ".weight", Type::int8, 4).shape[0]; };
  const auto outputs_of_stack = [&](const std::string& name) {
    return outputs_of(name + "." + std::to_string(std::max<std::size_t>(nn::count_layers(reader, name), 1) - 1));
  };
  std::size_t local_size = 0, intra_size = 0, inter_size = 0, channel_size = 0;
  if (family == Family::mlic) {
    local_size = outputs_of_stack("layers.local.0");
  } else {
    local_size = outputs_of("layers.local.0.proj");
  }
  if (count > 1) {
    intra_size = outputs_of("layers.intra.1.reprojection");
    channel_size = outputs_of_stack("layers.channel.1");
    if (has_inter()) inter_size = outputs_of("layers.inter.1.skip");
  }
  const bool early = nn::count_layers(reader, "layers.early") > 0;
  require(early || nn::count_layers(reader, "layers.parameters.e.0") == 0, "parameters.e.0",
          "reads an early context, which is missing");
  if (early && count == 1) channel_size = outputs_of_stack("layers.early");
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

  const Requantiser y_input = read.requantiser("requantisers.y.input", m, kActivationBits);
  for (std::size_t i = 0; i < count; ++i) {
    const std::string number = std::to_string(i);
    Slice slice;
    const Inputs decoded(i, c);
    slice.input = nn::selected(y_input, i * c, c);
    if (i > 0) {
      slice.channel = read.stack("layers.channel." + number, decoded);
      require(slice.channel.back().outputs == channel_size, "channel." + number, "has the wrong number of outputs");
      if (has_inter()) slice.inter = attention(read, "layers.inter." + number, decoded, i, linear(), true, inter_size);
      slice.intra = attention(read, "layers.intra." + number, {c}, kIntraHeads, linear(), false, intra_size);
    }
    if (family == Family::mlic) {
      slice.stacked = read.stack("layers.local." + number, {c});
      require(slice.stacked.back().outputs == local_size, "local." + number, "has the wrong number of outputs");
    } else {
      slice.local = local(read, "layers.local." + number, c, local_size);
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
      slice.parameters[which] = read.dense_stack("layers.parameters." + suffix, joined, kMaxWideBits);
      require(slice.parameters[which].back().outputs == 2 * c, "parameters." + suffix, "must end with 2 x slice");
      Inputs known{m};
      known.insert(known.end(), i + 1, c);
      slice.residual[which] = read.stack("layers.residual." + suffix, known);
      require(slice.residual[which].back().outputs == c && slice.residual[which].back().gelu.empty(),
              "residual." + suffix, "must end with the slice's channels");
    }
    if (i == 0 && early) {
      slice.early = read.stack("layers.early", {c});
      require(slice.early.back().outputs == channel_size, "early", "must have as many outputs as channel contexts");
      slice.refined = read.dense_stack("layers.parameters.e.0", {channel_size, m, m}, kMaxWideBits);
      require(slice.refined.back().outputs == 2 * c, "parameters.e.0", "must end with 2 x slice");
    }
    for (const Stack* stack : {&slice.channel, &slice.early, &slice.stacked, &slice.residual[0], &slice.residual[1]}) {
      require(nn::keeps_size(*stack), "slice " + number, "must keep its size");
    }
    slices.push_back(std::move(slice));
  }
}

}  // namespace fastlic::mlic

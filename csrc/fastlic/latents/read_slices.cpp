// Slices of the MLIC family. A row of memory is
//
//     [ local | intra | inter | channel | hyper scales | hyper means | slice 0 | slice 1 | ... ]
//
// The first slice has no channel context; its early context, if the model has one, takes that block.
#include <algorithm>

#include "fastlic/attention/attention.hpp"
#include "fastlic/latents/model.hpp"
#include "fastlic/memory.hpp"

namespace fastlic::latents {
namespace {

using namespace attention;
using namespace nn;

constexpr unsigned kSumBits = 16;
constexpr std::size_t kMaxHeadChannels = 1024;
constexpr Widths kParameters{kActivationBits, kMaxWideBits};

enum class Family { mlic = 0, mlic_plus = 1, mlic_plus_plus = 2 };

// Where the blocks of a row begin, and how many channels they have.
struct Blocks {
  std::size_t local_size = 0, intra_size = 0, inter_size = 0, channel_size = 0;
  std::size_t local = 0, intra = 0, inter = 0, channel = 0, hyper = 0, means = 0, slices = 0, slice = 0;

  std::size_t of(std::size_t i) const noexcept { return slices + i * slice; }
};

Network read_projection(const Reader& read, const String& name, const Inputs& inputs, std::size_t channels,
                        unsigned bits) {
  Network out = network_of({read.dense(name + ".0", inputs)});
  require(out.output().channels == channels, name, "must keep its number of channels");
  out.add(read.depthwise(name + ".1", channels, bits), {1}, {channels, magnitude_limit(bits)});
  return out;
}

// a + b, as activations.
Mix sum_of(std::size_t channels) {
  const Buffer<std::int16_t> twice(padded(channels), 2);
  return {twice, twice, 1, kActivation};
}

Attention read_attention(const Reader& read, const String& name, const Inputs& inputs, std::size_t heads, bool linear,
                         bool inter, std::size_t outputs) {
  Attention out;
  for (const Block& block : inputs) out.channels += block.count;
  out.heads = heads;
  require(out.channels % heads == 0 && out.channels / heads <= kMaxHeadChannels, name, "cannot be cut into its heads");
  const unsigned bits = linear ? kSumBits : kActivationBits;
  out.query = read_projection(read, name + ".query", inputs, out.channels, bits);
  out.key = read_projection(read, name + ".key", inputs, out.channels, bits);
  out.value = read_projection(read, name + ".value", inputs, out.channels, kActivationBits);
  if (!linear) out.score = read.requantiser("requantisers." + name.substr(7) + ".score", heads, kSumBits);
  out.attended = read.requantiser("requantisers." + name.substr(7) + ".attended", out.channels, kActivationBits);
  require(out.attended.limit == kActivation, name, "must attend with 12 bits");
  // What follows attention: projection, MLP, and the way past it.
  Network& all = out.query;
  const auto add = [&](Layer layer, std::size_t from) {
    const Value value{layer.outputs, layer.limit()};
    return all.add(std::move(layer), {from}, value);
  };
  const std::size_t attended = all.add(Outside{}, {all.steps.size()}, {out.channels, kActivation});
  Layer reprojection = read.layer(name + ".reprojection", {out.channels});
  require(keeps_size({reprojection}), name, "has the wrong number of outputs");
  const std::size_t past = add(std::move(reprojection), attended), projected = all.output().channels;
  const std::size_t in = add(read.dense(name + ".mlp.0", {projected}), past), hidden = all.output().channels;
  const std::size_t spread =
      all.add(read.depthwise(name + ".mlp.1", hidden, kActivationBits), {in}, {hidden, kActivation});
  const std::size_t mlp = add(read.dense(name + ".mlp.2", {hidden}, kSumBits), spread);
  require(all.output().channels == outputs, name, "has the wrong number of outputs");
  std::size_t skip = 0;
  if (inter) {
    skip = add(read.dense(name + ".skip", {projected}, kSumBits), past);
    require(all.output().channels == outputs, name, "has the wrong number of outputs");
  } else {
    require(projected == outputs, name, "has the wrong number of outputs");
    Requantiser residual = read.requantiser("requantisers." + name.substr(7) + ".residual", outputs, kSumBits);
    skip = all.add(Rescale{std::move(residual)}, {past}, {outputs, kScore});
  }
  all.add(sum_of(outputs), {mlp, skip}, {outputs, kActivation});
  return out;
}

LocalAttention read_local(const Reader& read, const String& name, std::size_t c, std::size_t outputs) {
  const String bare = name.substr(7);
  LocalAttention out;
  require(c % kLocalHeads == 0 && c <= kLocalHeads * kMaxLocalDims && outputs <= 1024, name, "has too many channels");
  out.qkv = read.dense(name + ".qkv", {c});
  require(out.qkv.outputs == 3 * c, name + ".qkv", "must have three outputs per channel");
  out.score = read.requantiser("requantisers." + bare + ".score", kLocalHeads, kSumBits);
  out.attended = read.requantiser("requantisers." + bare + ".attended", c, kActivationBits);
  out.output = read.requantiser("requantisers." + bare + ".output", outputs, kActivationBits);
  out.bias = read_window_bias(read.arrays(), bare + ".bias", kLocalHeads, kWindow, kScore);
  const auto epsilon = read.arrays().int32s(bare + ".epsilon");
  require(epsilon.size() == 2 && epsilon[0] >= 1 && epsilon[1] >= 1, bare + ".epsilon", "must be two numbers above 0");
  out.epsilon = {epsilon[0], epsilon[1]};
  // The fusing convolution as one row of all tokens' channels, token by token.
  const RawLayer fusion = read.raw(name + ".fusion", c);
  require(fusion.rows == kWindow && fusion.columns == kWindow && fusion.kind == kPlain, name + ".fusion",
          "must be a 5x5 layer");
  Vector<Tap> tokens;
  for (std::size_t t = 0; t < kTokens; ++t) {
    tokens.push_back({{static_cast<int>(t / kWindow), static_cast<int>(t % kWindow)}, t / kWindow, t % kWindow});
  }
  out.fusion = read.matrix(fusion, {c}, std::move(tokens), kActivationBits);
  out.proj = read.dense(name + ".proj", {fusion.outputs}, kSumBits);
  out.mlp_in = read.dense(name + ".mlp.0", {outputs});
  out.mlp_out = read.dense(name + ".mlp.1", {out.mlp_in.outputs}, kSumBits);
  require(out.proj.outputs == outputs && out.mlp_out.outputs == outputs, name, "has the wrong number of outputs");
  return out;
}

attention::Tables read_tables(const Reader& read) {
  const ArrayReader& reader = read.arrays();
  attention::Tables out;
  const auto exp = reader.int32s("tables.exp");
  require(exp.size() >= 2 && exp.size() <= (1 << 20) && exp.front() > 512 && exp.back() == 0, "tables.exp",
          "must fall from above 512 to 0");
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

// The blocks' sizes follow from networks that write them.
Blocks read_blocks(const ArrayReader& reader, Family family, std::size_t count, std::size_t m, bool early) {
  const auto outputs_of = [&](const String& name) { return reader.get(name + ".weight", Type::int8, 4).shape[0]; };
  const auto outputs_of_stack = [&](const String& name) {
    return outputs_of(name + "." + to_string(std::max<std::size_t>(count_layers(reader, name), 1) - 1));
  };
  Blocks out;
  out.local_size = family == Family::mlic ? outputs_of_stack("layers.local.0") : outputs_of("layers.local.0.proj");
  if (count > 1) {
    out.intra_size = outputs_of("layers.intra.1.reprojection");
    out.channel_size = outputs_of_stack("layers.channel.1");
    if (family != Family::mlic) out.inter_size = outputs_of("layers.inter.1.skip");
  }
  if (early && count == 1) out.channel_size = outputs_of_stack("layers.early");
  for (const std::size_t size : {out.local_size, out.intra_size, out.inter_size, out.channel_size}) {
    require(size <= kMaxChannels, "contexts", "are too wide");
  }
  out.slice = padded(m / count);
  out.intra = out.local + padded(out.local_size);
  out.inter = out.intra + padded(out.intra_size);
  out.channel = out.inter + padded(out.inter_size);
  out.hyper = out.channel + padded(out.channel_size);
  out.means = out.hyper + padded(m);
  out.slices = out.means + padded(m);
  return out;
}

// Reads the networks of one slice as the steps that run them.
class SliceReader {
 public:
  SliceReader(const Reader& read, const Model& model, const Blocks& blocks, Family family, std::size_t count)
      : read_(read), model_(model), blocks_(blocks), family_(family), m_(model.latent_channels), c_(m_ / count) {}

  Group slice(std::size_t i, bool early) const {
    Group out;
    out.first = i * c_;
    out.channels = c_;
    out.block = blocks_.of(i);
    out.input = selected(model_.y_input, out.first, c_);
    if (i > 0) before(i, out.steps);
    if (early) {
      anchors_in_two_passes(out);
    } else {
      out.steps.push_back(Code{Region::of(kAnchors), parameters("a.", i), blocks_.inter, 1});
    }
    out.steps.push_back(residual("a.", i, kAnchors));
    near(i, out);
    out.steps.push_back(Code{Region::of(kAnchors.other()), parameters("n.", i), blocks_.local, 1});
    out.steps.push_back(residual("n.", i, kAnchors.other()));
    return out;
  }

 private:
  // A stack that keeps the map's size and ends with so many channels.
  Stack stack(const String& name, const Inputs& inputs, std::size_t outputs) const {
    Stack out = read_.same_size_stack("layers." + name, inputs);
    require(out.back().outputs == outputs, name, "must have " + to_string(outputs) + " outputs");
    return out;
  }

  static Context context_of(const Stack& stack, std::size_t from, std::size_t to) {
    return {network_of(stack), from, to, {}};
  }

  // What earlier slices tell.
  void before(std::size_t i, Vector<Step>& steps) const {
    const String number = to_string(i);
    const Inputs decoded(i, c_);
    if (family_ != Family::mlic) {
      // All contexts of this slice come after it.
      steps.push_back(InterContext{
          read_attention(read_, "layers.inter." + number, decoded, i, model_.linear, true, blocks_.inter_size),
          blocks_.slices, blocks_.inter, blocks_.local, blocks_.hyper - blocks_.local});
    }
    steps.push_back(
        context_of(stack("channel." + number, decoded, blocks_.channel_size), blocks_.slices, blocks_.channel));
  }

  // Anchors in even rows first; what they tell about those in odd rows takes the block of the channel context.
  void anchors_in_two_passes(Group& out) const {
    out.steps.push_back(Code{Region::of(kAnchors, 0, 2), parameters("a.", 0), blocks_.inter, 1});
    out.steps.push_back(context_of(stack("early", {c_}, blocks_.channel_size), out.block, blocks_.channel));
    Stack refined = read_.dense_stack("layers.parameters.e.0", {blocks_.channel_size, m_, m_}, kParameters);
    require(refined.back().outputs == 2 * c_ && refined.back().curve.empty(), "parameters.e.0",
            "must end with 2 x slice");
    out.steps.push_back(Code{Region::of(kAnchors, 1, 2), network_of(refined, true), blocks_.channel, 1});
  }

  // What the slice's anchors tell about its other positions.
  void near(std::size_t i, Group& out) const {
    const String number = to_string(i);
    if (family_ == Family::mlic) {
      out.steps.push_back(context_of(stack("local." + number, {c_}, blocks_.local_size), out.block, blocks_.local));
    } else {
      out.steps.push_back(
          LocalContext{read_local(read_, "layers.local." + number, c_, blocks_.local_size), blocks_.local});
    }
    if (i == 0) return;
    out.steps.push_back(IntraContext{
        read_attention(read_, "layers.intra." + number, {c_}, kIntraHeads, model_.linear, false, blocks_.intra_size),
        blocks_.of(i - 1), blocks_.intra});
  }

  // Of anchors ("a."), which read from the inter context on, or of the others ("n."), which read local contexts too.
  Network parameters(const String& kind, std::size_t i) const {
    // The first slice has nothing between its local context and the hyperprior.
    const auto known_later = [&](std::size_t channels) { return i > 0 ? Block(channels) : Block::skipped(channels); };
    Inputs joined;
    if (kind == "n.") {
      joined.emplace_back(blocks_.local_size);
      joined.push_back(known_later(blocks_.intra_size));
    }
    joined.push_back(known_later(blocks_.inter_size));
    joined.push_back(known_later(blocks_.channel_size));
    joined.emplace_back(m_);
    joined.emplace_back(m_);
    const String name = "parameters." + kind + to_string(i);
    Stack out = read_.dense_stack("layers." + name, joined, kParameters);
    require(out.back().outputs == 2 * c_ && out.back().curve.empty(), name, "must end with 2 x slice");
    return network_of(out, true);
  }

  // Residual prediction reads [hyper means, slices, current], which lie side by side.
  Residual residual(const String& kind, std::size_t i, Colour colour) const {
    Inputs known{m_};
    known.insert(known.end(), i + 1, c_);
    const String name = "residual." + kind + to_string(i);
    const Stack own = stack(name, known, c_);
    require(own.back().curve.empty(), name, "must end with the slice's channels");
    return {network_of(own), blocks_.means, colour};
  }

  const Reader& read_;
  const Model& model_;
  const Blocks& blocks_;
  Family family_;
  std::size_t m_, c_;
};

}  // namespace

Model read_slices(const nn::Arrays& arrays, std::shared_ptr<const CdfTables> z, std::shared_ptr<const CdfTables> y) {
  const ArrayReader reader(arrays);
  const Reader read(reader);
  const auto shape = reader.int32s("shape");
  require(shape.size() == 2 && shape[0] >= 0 && shape[0] <= 2 && shape[1] >= 1 &&
              static_cast<std::size_t>(shape[1]) <= kMaxGroups,
          "shape", "must be family and number of slices");
  const auto family = static_cast<Family>(shape[0]);
  const auto count = static_cast<std::size_t>(shape[1]);
  Model model = begin_model(read, std::move(z), std::move(y), "requantisers.z.input", "layers.hyper", kActivationBits,
                            kActivationBits);
  model.least_width = 2;
  model.residual = true;
  model.tables = read_tables(read);
  model.linear = family == Family::mlic_plus_plus;
  const std::size_t m = model.hyper.output().channels / 2;
  require(model.hyper.output().channels == 2 * m && m % count == 0 && m <= kMaxChannels, "hyper",
          "must have two outputs per channel of the latent");
  model.latent_channels = m;
  model.y_input = read.requantiser("requantisers.y.input", m, kActivationBits);
  const bool early = count_layers(reader, "layers.early") > 0;
  require(early || count_layers(reader, "layers.parameters.e.0") == 0, "parameters.e.0",
          "reads an early context, which is missing");
  const Blocks blocks = read_blocks(reader, family, count, m, early);
  model.hyper_blocks = {blocks.hyper, blocks.means};
  model.row = blocks.of(count);
  const SliceReader slices(read, model, blocks, family, count);
  for (std::size_t i = 0; i < count; ++i) model.groups.push_back(slices.slice(i, early && i == 0));
  return model;
}

}  // namespace fastlic::latents

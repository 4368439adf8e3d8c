// Channel groups and checkerboards. A row of memory is
//
//     [ ... | context | channel | hyper | group 0 | group 1 | ... ]
//
// Context and channel are those of the group in flight and end where the hyperprior begins, whatever their size:
// parameter networks read a contiguous piece, which begins behind the context for anchors.
#include <algorithm>

#include "fastlic/latents/model.hpp"
#include "fastlic/memory.hpp"

namespace fastlic::latents {
namespace {

using namespace nn;

// What one group reads beside its own block.
struct Networks {
  std::size_t parity;          // of anchors, or 2 for no checkerboard
  Stack channel;               // empty for the first group
  Vector<std::size_t> reads;   // groups that the channel context reads
  Layer context;               // boards only
  Stack parameters, informed;  // of anchors or all positions, and of the positions that know the context

  bool board() const noexcept { return parity < 2; }
  std::size_t channel_size() const { return channel.empty() ? 0 : padded(channel.back().outputs); }
  std::size_t context_size() const { return board() ? padded(context.outputs) : 0; }
};

constexpr Widths kGroupParameters{kActivationBits, kMaxWideBits};

// Groups by channels; nothing else yet.
Vector<Group> read_channels(const ArrayReader& reader) {
  const auto channels = reader.int32s("groups.channels");
  require(!channels.empty() && channels.size() <= kMaxGroups, "groups.channels", "must be 1 to 64 numbers");
  Vector<Group> out(channels.size());
  std::size_t first = 0;
  for (std::size_t k = 0; k < channels.size(); ++k) {
    require(channels[k] >= 1 && static_cast<std::size_t>(channels[k]) <= kMaxChannels, "groups.channels",
            "must be from 1 to 16384");
    out[k].channels = static_cast<std::size_t>(channels[k]);
    out[k].first = first;
    first += out[k].channels;
  }
  require(first <= kMaxChannels, "groups.channels", "must not sum to more than 16384");
  return out;
}

Stack read_channel(const Reader& read, const Vector<Group>& groups, std::size_t k, Vector<std::size_t>& sources) {
  const String number = to_string(k), name = "groups.reads." + number;
  const auto reads = read.arrays().int32s(name);
  require(!reads.empty() && reads.size() <= k, name, "must name 1 to " + number + " groups");
  Inputs inputs;
  for (const std::int32_t from : reads) {
    require(from >= 0 && static_cast<std::size_t>(from) < k, name, "must name earlier groups");
    sources.push_back(static_cast<std::size_t>(from));
    inputs.emplace_back(groups[sources.back()].channels);
  }
  return read.same_size_stack("layers.channel." + number, inputs);
}

Networks read_networks(const Reader& read, const Vector<Group>& groups, std::size_t k, std::size_t features,
                       std::int32_t parity) {
  const String number = to_string(k), parameters = "layers.parameters." + number;
  require(parity >= 0 && parity <= 2, "groups.parity", "must be 0, 1, or 2 for no checkerboard");
  Networks own;
  own.parity = static_cast<std::size_t>(parity);
  Inputs known;
  if (k > 0) {
    own.channel = read_channel(read, groups, k, own.reads);
    known.emplace_back(own.channel.back().outputs);
  }
  known.emplace_back(features);
  if (own.board()) {
    own.context = read.board("layers.context." + number, {groups[k].channels});
    Inputs first{Block::absent(own.context.outputs)}, second{own.context.outputs};
    first.insert(first.end(), known.begin(), known.end());
    second.insert(second.end(), known.begin(), known.end());
    own.parameters = read.dense_stack(parameters, first, kGroupParameters);
    own.informed = read.dense_stack(parameters, second, kGroupParameters);
  } else {
    own.parameters = read.same_size_stack(parameters, known, kGroupParameters);
  }
  require(own.parameters.back().outputs == 2 * groups[k].channels && own.parameters.back().curve.empty(), parameters,
          "must end with two outputs per channel of its group");
  require(own.channel_size() + own.context_size() <= 2 * kMaxChannels, parameters, "has too wide contexts");
  return own;
}

}  // namespace

Model read_groups(const nn::Arrays& arrays, std::shared_ptr<const CdfTables> z, std::shared_ptr<const CdfTables> y) {
  const ArrayReader reader(arrays);
  const Reader read(reader);
  Model model = begin_model(read, std::move(z), std::move(y), "requantisers.z.input", "layers.hyper", kActivationBits,
                            kActivationBits);
  model.least_width = 2;
  model.tables.tail = read.tail_lines();
  const std::size_t features = model.hyper.output().channels;
  require(features <= kMaxChannels, "layers.hyper", "has too many outputs");

  model.groups = read_channels(reader);
  const Group& end = model.groups.back();
  model.latent_channels = end.first + end.channels;
  model.y_input = read.requantiser("requantisers.y.input", model.latent_channels, kActivationBits);
  const auto parity = reader.int32s("groups.parity");
  require(parity.size() == model.groups.size(), "groups.parity", "must be one number for each of 1 to 64 groups");
  Vector<Networks> networks;
  std::size_t hyper_block = 0;
  for (std::size_t k = 0; k < model.groups.size(); ++k) {
    const Networks& own = networks.emplace_back(read_networks(read, model.groups, k, features, parity[k]));
    hyper_block = std::max(hyper_block, own.channel_size() + own.context_size());
  }
  model.hyper_blocks = {hyper_block};
  model.row = hyper_block + padded(features);
  for (Group& group : model.groups) {
    group.block = model.row;
    model.row += padded(group.channels);
  }

  std::size_t section = 1;
  for (std::size_t k = 0; k < model.groups.size(); ++k) {
    Group& group = model.groups[k];
    Networks& own = networks[k];
    group.input = selected(model.y_input, group.first, group.channels);
    const std::size_t channel_block = hyper_block - own.channel_size();
    const std::size_t context_block = channel_block - own.context_size();
    if (!own.channel.empty()) {
      Context channel{network_of(own.channel), model.groups[own.reads.front()].block, channel_block, {}};
      bool packed = false;
      for (std::size_t i = 0; i < own.reads.size(); ++i) {
        const Group& from = model.groups[own.reads[i]];
        channel.pieces.push_back({from.block, padded(from.channels)});
        packed |= own.reads[i] != own.reads.front() + i;
      }
      if (!packed) channel.pieces.clear();
      group.steps.push_back(std::move(channel));
    }
    if (!own.board()) {
      group.steps.push_back(Code{Region{}, network_of(own.parameters, true), channel_block, section++});
      continue;
    }
    const Colour anchors{own.parity};
    group.steps.push_back(Code{Region::of(anchors), network_of(own.parameters, true), channel_block, section++});
    // Positions that are not coded yet are zero: no odd tap of the others' context reaches them anyway.
    group.steps.push_back(BoardContext{std::move(own.context), group.block, context_block, anchors.other()});
    group.steps.push_back(Code{Region::of(anchors.other()), network_of(own.informed, true), context_block, section++});
  }

  if (count_layers(reader, "layers.analysis") == 0) return model;
  const Stack analysis = read.stack("layers.analysis", {model.latent_channels}, kGroupParameters);
  std::size_t down = 1;
  for (const Layer& layer : analysis) down = layer.up == 1 ? down * layer.down : 0;
  require(down == kHyperStride, "analysis", "must make its input 4 times smaller");
  require(analysis.back().outputs == model.z_median.size() && analysis.back().curve.empty(), "analysis",
          "must end with the channels of z");
  model.analysis = network_of(analysis, true);
  return model;
}

}  // namespace fastlic::latents

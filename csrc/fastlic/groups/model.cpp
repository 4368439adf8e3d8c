#include "fastlic/groups/model.hpp"

#include <algorithm>
#include <string>

#include "fastlic/nn/reader.hpp"

namespace fastlic::groups {
namespace {

using nn::kMaxChannels;
using nn::kMaxWideBits;
using nn::padded;
using nn::require;
using nn::Block;
using nn::Inputs;
using nn::kActivationBits;
using nn::Reader;

void require_size(const Stack& stack, const std::string& name) {
  require(nn::keeps_size(stack), name, "must keep its size");
}

// Groups by channels and parity; nothing else yet.
std::vector<Group> read_groups(const nn::ArrayReader& reader) {
  const auto channels = reader.int32s("groups.channels"), parity = reader.int32s("groups.parity");
  require(!channels.empty() && channels.size() <= kMaxGroups && parity.size() == channels.size(), "groups.parity",
          "must be one number for each of 1 to 64 groups");
  std::vector<Group> out;
  std::size_t first = 0;
  for (std::size_t k = 0; k < channels.size(); ++k) {
    require(channels[k] >= 1 && static_cast<std::size_t>(channels[k]) <= kMaxChannels, "groups.channels",
            "must be from 1 to 16384");
    require(parity[k] >= 0 && parity[k] <= 2, "groups.parity", "must be 0, 1, or 2 for no checkerboard");
    Group group;
    group.channels = static_cast<std::size_t>(channels[k]);
    group.first = first;
    group.board = parity[k] < 2;
    group.parity = group.board ? static_cast<std::size_t>(parity[k]) : 0;
    first += group.channels;
    out.push_back(std::move(group));
  }
  require(first <= kMaxChannels, "groups.channels", "must not sum to more than 16384");
  return out;
}

// The channel context of group k; offsets count from group 0 for now.
void read_channel(const Reader& read, std::vector<Group>& groups, std::size_t k) {
  const std::string number = std::to_string(k), name = "groups.reads." + number;
  const auto reads = read.arrays().int32s(name);
  require(!reads.empty() && reads.size() <= k, name, "must name 1 to " + number + " groups");
  Inputs inputs;
  std::size_t next = 0;
  for (std::size_t i = 0; i < reads.size(); ++i) {
    require(reads[i] >= 0 && static_cast<std::size_t>(reads[i]) < k, name, "must name earlier groups");
    const Group& from = groups[static_cast<std::size_t>(reads[i])];
    inputs.emplace_back(from.channels);
    groups[k].reads.push_back({from.own, padded(from.channels)});
    groups[k].packed |= from.own != next;
    next = from.own + padded(from.channels);
  }
  groups[k].channel = read.stack("layers.channel." + number, inputs);
  require_size(groups[k].channel, "channel." + number);
}

}  // namespace

Model::Model(const nn::Arrays& arrays, std::shared_ptr<const CdfTables> z, std::shared_ptr<const CdfTables> y)
    : z_tables(std::move(z)), y_tables(std::move(y)) {
  const nn::ArrayReader reader(arrays);
  const Reader read(reader);
  z_fewest_bits = nn::fewest_bits(*z_tables);
  y_fewest_bits = nn::fewest_bits(*y_tables);
  thresholds = nn::read_thresholds(reader, y_tables->rows());
  tail = read.tail_lines();
  z_median = nn::read_medians(reader, *z_tables);
  z_input = read.requantiser("requantisers.z.input", z_median.size(), kActivationBits);
  hyper = read.stack("layers.hyper", {z_median.size()});
  require(nn::enlarges(hyper) == nn::kHyperStride, "hyper", "must enlarge its input 4 times");
  const std::size_t features = hyper.back().outputs;
  require(features <= kMaxChannels, "hyper", "has too many outputs");

  groups = read_groups(reader);
  y_input = read.requantiser("requantisers.y.input", latent_channels(), kActivationBits);
  std::size_t begin = 0;
  for (std::size_t k = 0; k < groups.size(); ++k) {
    Group& group = groups[k];
    const std::string number = std::to_string(k);
    group.input = nn::selected(y_input, group.first, group.channels);
    group.own = begin;
    begin += padded(group.channels);
    Inputs known;
    if (k > 0) {
      read_channel(read, groups, k);
      known.emplace_back(group.channel.back().outputs);
      group.channel_block = padded(group.channel.back().outputs);
    }
    known.emplace_back(features);
    const std::string parameters = "layers.parameters." + number;
    if (group.board) {
      group.context = read.board("layers.context." + number, {group.channels});
      const std::size_t outputs = group.context.outputs;
      group.context_block = padded(outputs);
      Inputs first{Block::absent(outputs)}, second{outputs};
      first.insert(first.end(), known.begin(), known.end());
      second.insert(second.end(), known.begin(), known.end());
      group.parameters = read.dense_stack(parameters, first, kMaxWideBits);
      group.informed = read.dense_stack(parameters, second, kMaxWideBits);
    } else {
      group.parameters = read.stack(parameters, known, kMaxWideBits);
      require_size(group.parameters, parameters);
    }
    require(group.parameters.back().outputs == 2 * group.channels && group.parameters.back().gelu.empty(), parameters,
            "must end with two outputs per channel of its group");
    require(group.channel_block + group.context_block <= 2 * kMaxChannels, parameters, "has too wide contexts");
    hyper_block = std::max(hyper_block, group.channel_block + group.context_block);
  }
  for (Group& group : groups) {
    group.channel_block = hyper_block - group.channel_block;
    group.context_block = group.channel_block - group.context_block;
    group.own += hyper_block + padded(features);
    for (Group::Piece& piece : group.reads) piece.offset += hyper_block + padded(features);
  }
  row = hyper_block + padded(features) + begin;

  if (nn::count_layers(reader, "layers.analysis") == 0) return;
  analysis = read.stack("layers.analysis", {latent_channels()}, kMaxWideBits);
  std::size_t down = 1;
  for (const Layer& layer : analysis) down = layer.up == 1 ? down * layer.down : 0;
  require(down == nn::kHyperStride, "analysis", "must make its input 4 times smaller");
  require(analysis.back().outputs == z_median.size() && analysis.back().gelu.empty(), "analysis",
          "must end with the channels of z");
}

}  // namespace fastlic::groups

#include "fastlic/mlic/engine.hpp"

#include <algorithm>
#include <string>

#include "fastlic/errors.hpp"
#include "fastlic/mlic/attention.hpp"
#include "fastlic/parallel.hpp"
#include "fastlic/rans.hpp"

namespace fastlic::mlic {
namespace {

using nn::kLatentLimit;
using nn::kMeanBits;

// Answers a pass of n positions with its symbols: [n][channels of a slice].
class SymbolSource {
 public:
  virtual ~SymbolSource() = default;
  virtual std::uint8_t* indexes(std::size_t count) = 0;
  // where: positions of the pass; means [n][means_stride].
  virtual const std::int32_t* symbols(std::span<const std::size_t> where, std::size_t slice, const std::int32_t* means,
                                      std::size_t means_stride) = 0;
};

// From its own latent; keeps everything for one call of the coder at the end.
class EncoderSource final : public SymbolSource {
 public:
  EncoderSource(engine::Target target, std::size_t positions, std::size_t slices, std::size_t channels,
                const nn::Kernels& kernels)
      : target_(target),
        slices_(slices),
        channels_(channels),
        kernels_(kernels),
        symbols_(positions * slices * channels),
        indexes_(positions * slices * channels) {}

  std::uint8_t* indexes(std::size_t) override { return indexes_.data() + done_; }

  const std::int32_t* symbols(std::span<const std::size_t> where, std::size_t slice, const std::int32_t* means,
                              std::size_t means_stride) override {
    std::int32_t* out = symbols_.data() + done_;
    for (std::size_t i = 0; i < where.size(); ++i) {
      nn::quantise_row(kernels_, target_.y + (where[i] * slices_ + slice) * channels_, means + i * means_stride,
                           indexes_.data() + done_ + i * channels_, target_.zones, channels_, out + i * channels_);
    }
    done_ += where.size() * channels_;
    return out;
  }

  Bytes finish(const CdfTables& tables) const { return rans_encode(symbols_.data(), indexes_.data(), done_, tables); }

 private:
  engine::Target target_;
  std::size_t slices_, channels_;
  const nn::Kernels& kernels_;
  Buffer<std::int32_t> symbols_;
  Buffer<std::uint8_t> indexes_;
  std::size_t done_ = 0;
};

// From the stream; zeros behind the last slice that is read.
class DecoderSource final : public SymbolSource {
 public:
  DecoderSource(std::span<const std::uint8_t> data, const CdfTables& tables, std::size_t channels, std::size_t slices)
      : channels_(channels), slices_(slices), decoder_(data.data(), data.size(), tables) {}

  std::uint8_t* indexes(std::size_t count) override {
    if (indexes_.size() < count) {
      indexes_.resize(count);
      symbols_.resize(count);
    }
    return indexes_.data();
  }

  const std::int32_t* symbols(std::span<const std::size_t> where, std::size_t slice, const std::int32_t*,
                              std::size_t) override {
    if (slice < slices_) {
      decoder_.decode(indexes_.data(), symbols_.data(), where.size() * channels_);
    } else {
      std::fill_n(symbols_.data(), where.size() * channels_, 0);
    }
    return symbols_.data();
  }

  void finish() const { decoder_.finish(); }

 private:
  std::size_t channels_, slices_;
  RansDecoder decoder_;
  Buffer<std::int32_t> symbols_;
  Buffer<std::uint8_t> indexes_;
};

// One image, slice after slice, in both directions.
class Run {
 public:
  Run(const Model& model, Size size, SymbolSource& source, const Outputs& out, const Tools& tools)
      : model_(model),
        source_(source),
        out_(out),
        tools_(tools),
        size_(size),
        channels_(model.slice_channels),
        rows_(size.height * size.width * model.blocks.size),
        latent_(size.height * size.width * channels_),
        wide_(model.blocks.slice) {}

  void all() {
    hyper();
    for (std::size_t i = 0; i < model_.slices.size(); ++i) slice(i);
  }

 private:
  std::size_t positions() const { return size_.height * size_.width; }
  Target block(std::size_t offset) { return {rows_.data() + offset, model_.blocks.size, size_.height, size_.width}; }
  Target slice_block(std::size_t i) { return block(model_.blocks.slices + i * model_.blocks.slice); }

  void hyper() {
    const std::size_t n = model_.hyper_channels();
    Plane x;
    const Target input = x.shape(size_.hyper_height(), size_.hyper_width(), n);
    nn::hyper_input(out_.z, model_.z_median, model_.z_input, input, tools_);
    Plane features;
    const std::size_t m = model_.latent_channels();
    run(model_.hyper, x.source(), features.shape(size_.height, size_.width, 2 * m), work_.stack, tools_);
    for (std::size_t p = 0; p < positions(); ++p) {
      const std::int16_t* from = features.target().at(p);
      std::copy_n(from, m, block(model_.blocks.hyper).at(p));
      std::copy_n(from + m, m, block(model_.blocks.means).at(p));
    }
  }

  void slice(std::size_t i) {
    const Slice& nets = model_.slices[i];
    const Source decoded = as_source(slice_block(0));
    if (i > 0) {
      run(nets.channel, decoded, block(model_.blocks.channel), work_.stack, tools_);
      if (model_.has_inter()) {
        inter_context(nets.inter, model_.linear(), decoded, block(model_.blocks.inter), work_, tools_);
      }
    }
    std::fill(latent_.begin(), latent_.end(), 0);
    const Parity anchors{true}, others{false};
    if (i == 0 && model_.has_early()) {
      pass(i, {anchors, 0, 2}, nets.parameters[0], model_.blocks.inter);
      run(nets.early, as_source(slice_block(0)), block(model_.blocks.channel), work_.stack, tools_);
      pass(i, {anchors, 1, 2}, nets.refined, model_.blocks.channel);
    } else {
      pass(i, {anchors}, nets.parameters[0], model_.blocks.inter);
    }
    predict_residue(i, anchors);
    near(i);
    pass(i, {others}, nets.parameters[1], model_.blocks.local);
    predict_residue(i, others);
    const std::size_t m = model_.latent_channels();
    for (std::size_t p = 0; p < positions(); ++p) {
      std::copy_n(&latent_[p * channels_], channels_, out_.y + p * m + i * channels_);
    }
  }

  // What the slice's anchors tell about its other positions.
  void near(std::size_t i) {
    const Slice& nets = model_.slices[i];
    const Target local = block(model_.blocks.local);
    if (model_.family == Family::mlic) {
      run(nets.stacked, as_source(slice_block(i)), local, work_.stack, tools_);
    } else {
      local_context(nets.local, latent_.data(), channels_, local, work_, tools_);
    }
    if (i == 0) return;
    const Target others = others_.shape(size_.height, size_.width, channels_);
    const Target anchors = anchors_.shape(size_.height, size_.width, channels_);
    for (std::size_t r = 0; r < size_.height; ++r) {
      for (std::size_t c = 0; c < size_.width; ++c) {
        const bool anchor = (r + c) % 2 == 1;
        std::copy_n(slice_block(i - 1).at(r, c), others.stride, (anchor ? anchors : others).at(r, c));
        std::fill_n((anchor ? others : anchors).at(r, c), others.stride, std::int16_t{0});
      }
    }
    intra_context(nets.intra, model_.linear(), as_source(others), as_source(anchors), as_source(slice_block(i)),
                  block(model_.blocks.intra), work_, tools_);
  }

  // What is coded together: positions of one parity in rows row, row + step, ...
  struct Part {
    Parity parity;
    std::size_t row = 0, step = 1;
  };

  // parameters: the stack that reads the rows of memory from the block at `from` on.
  void pass(std::size_t i, const Part& part, const Stack& parameters, std::size_t from) {
    const std::size_t w = size_.width, c = channels_;
    where_.clear();
    begin_.clear();
    for (std::size_t r = part.row; r < size_.height; r += part.step) {
      begin_.push_back(where_.size());
      for (std::size_t k = part.parity.first(r); k < w; k += 2) where_.push_back(r * w + k);
    }
    if (where_.empty()) return;  // a map of one row has no odd ones
    // Parameters, half a row of the map at a time: its positions lie two rows of memory apart.
    const std::size_t columns = parameters.back().columns(), rows = begin_.size();
    const Target read = block(from);
    head_.resize(where_.size() * columns);
    constexpr std::size_t kBand = 2;  // rows of the map
    parallel_for((rows + kBand - 1) / kBand, tools_.team, [&](std::size_t band) {
      Buffer<std::int16_t> hidden[2];
      for (std::size_t k = band * kBand; k < std::min(rows, (band + 1) * kBand); ++k) {
        const std::size_t r = part.row + k * part.step;
        const std::size_t first = part.parity.first(r), count = part.parity.count(r, w);
        if (count == 0) continue;
        const std::int16_t* a = read.at(r, first);
        std::size_t stride = 2 * read.stride;
        for (std::size_t l = 0; l + 1 < parameters.size(); ++l) {
          Buffer<std::int16_t>& to = hidden[l % 2];
          to.resize(count * parameters[l].columns());
          apply(parameters[l], a, stride, count, to.data(), parameters[l].columns(), tools_);
          a = to.data();
          stride = parameters[l].columns();
        }
        apply_head(parameters.back(), a, stride, count, &head_[begin_[k] * columns], tools_);
      }
    });
    std::uint8_t* indexes = source_.indexes(where_.size() * c);
    for (std::size_t k = 0; k < where_.size(); ++k) {
      tools_.kernels.choose(&head_[k * columns], c, model_.thresholds, indexes + k * c);
    }
    const std::int32_t* means = head_.data() + c;
    const std::int32_t* symbols = source_.symbols(where_, i, means, columns);
    const std::size_t m = model_.latent_channels();
    for (std::size_t k = 0; k < where_.size(); ++k) {
      tools_.kernels.reconstruct(symbols + k * c, means + k * columns, c, &latent_[where_[k] * c]);
      std::copy_n(symbols + k * c, c, out_.symbols + where_[k] * m + i * c);
      activate(i, where_[k]);
    }
  }

  // Residual prediction reads [hyper means, slices, current], which lie side by side.
  void predict_residue(std::size_t i, Parity parity) {
    const std::size_t w = size_.width, c = channels_;
    const Target residue = residue_.shape(size_.height, w, c);
    run(model_.slices[i].residual[parity.anchors ? 0 : 1], as_source(block(model_.blocks.means)), residue, work_.stack,
        tools_);
    for (std::size_t r = 0; r < size_.height; ++r) {
      for (std::size_t position = r * w + parity.first(r); position < (r + 1) * w; position += 2) {
        for (std::size_t k = 0; k < c; ++k) {
          latent_[position * c + k] += model_.tables.tanh[static_cast<std::size_t>(residue.at(position)[k] + 2048)];
        }
        activate(i, position);
      }
    }
  }

  // From a position's latents of slice i to its activations.
  void activate(std::size_t i, std::size_t position) {
    std::copy_n(&latent_[position * channels_], channels_, wide_.data());
    tools_.kernels.requantise16(wide_.data(), model_.slices[i].input, {0, wide_.size()}, slice_block(i).at(position));
  }

  const Model& model_;
  SymbolSource& source_;
  const Outputs& out_;
  const Tools& tools_;
  const Size size_;
  const std::size_t channels_;
  Buffer<std::int16_t> rows_;     // [positions][blocks.size]
  Buffer<std::int32_t> latent_;   // of the slice in flight, [positions][channels]
  Buffer<std::int32_t> wide_;     // one position's latents, padded
  Buffer<std::int32_t> head_;     // of the pass in flight
  std::vector<std::size_t> where_, begin_;  // its positions, and the first of each of its rows
  Plane others_, anchors_, residue_;
  Workspace work_;
};

}  // namespace

Engine::Encoded Engine::encode(const engine::Target& target, Size size, const Outputs& out, unsigned threads) const {
  const Isa isa = active_isa();
  Team team(threads);
  const Tools tools = tools_for(isa, model_.tables, team);
  const std::size_t n = model_.hyper_channels(), m = model_.latent_channels();
  const std::size_t z_positions = size.hyper_height() * size.hyper_width(), positions = size.height * size.width;
  engine::check_latents(target.z, z_positions * n);
  engine::check_latents(target.y, positions * m);
  if (target.zones != nullptr) engine::check_zones({target.zones, model_.y_tables->rows()});
  engine::hyper_symbols(target.z, z_positions, model_.z_median, out.z);
  EncoderSource source(target, positions, model_.slices.size(), model_.slice_channels, tools.kernels);
  Run(model_, size, source, out, tools).all();
  return {engine::encode_hyper(out.z, z_positions, n, *model_.z_tables), source.finish(*model_.y_tables)};
}

void Engine::decode(std::span<const std::uint8_t> z, std::span<const std::uint8_t> y, Size size, std::size_t slices,
                    const Outputs& out, unsigned threads) const {
  check_sizes(z.size(), y.size(), size);
  const Isa isa = active_isa();
  Team team(threads);
  const Tools tools = tools_for(isa, model_.tables, team);
  DecoderSource source(y, *model_.y_tables, model_.slice_channels, slices);
  // Before the costly part: a damaged z is found out at once.
  engine::decode_hyper(z, size.hyper_height() * size.hyper_width(), model_.hyper_channels(), *model_.z_tables, out.z);
  Run(model_, size, source, out, tools).all();
  if (slices >= model_.slices.size()) source.finish();
}

void Engine::check_sizes(std::size_t z_bytes, std::size_t y_bytes, Size size) const {
  constexpr std::size_t kMaxSide = std::size_t{1} << 24;  // far beyond any image; products stay exact
  if (size.height < 1 || size.width < 2 || size.height > kMaxSide || size.width > kMaxSide) {
    throw std::invalid_argument("latents must be 1 to 2^24 positions high and 2 to 2^24 wide");
  }
  const double z_count = static_cast<double>(size.hyper_height() * size.hyper_width() * model_.hyper_channels());
  const double y_count = static_cast<double>(size.height * size.width * model_.latent_channels());
  engine::check_section("z", z_bytes, z_count, model_.z_fewest_bits);
  engine::check_section("y", y_bytes, y_count, model_.y_fewest_bits);
}

}  // namespace fastlic::mlic

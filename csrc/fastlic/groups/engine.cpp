#include "fastlic/groups/engine.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

#include "fastlic/nn/convolve.hpp"
#include "fastlic/parallel.hpp"
#include "fastlic/rans.hpp"

namespace fastlic::groups {
namespace {

using nn::Buffer;
using nn::Plane;
using nn::Source;
using nn::Target;
using nn::Tools;

using Positions = std::vector<std::size_t>;

std::size_t first_column(std::size_t row, std::size_t parity) { return (row + parity) % 2; }

// How many positions of one parity there are in the rows above `row`.
std::size_t before(std::size_t row, std::size_t width, std::size_t parity) {
  return row / 2 * width + (row % 2 != 0 ? (width + 1 - parity) / 2 : 0);
}

Positions positions_of(Size size, const Group& group, std::size_t parity) {
  Positions out;
  if (!group.board) {
    for (std::size_t p = 0; p < size.height * size.width; ++p) out.push_back(p);
    return out;
  }
  for (std::size_t r = 0; r < size.height; ++r) {
    for (std::size_t c = first_column(r, parity); c < size.width; c += 2) out.push_back(r * size.width + c);
  }
  return out;
}

// Answers a pass with its symbols, [n][channels of the group].
class SymbolSource {
 public:
  virtual ~SymbolSource() = default;
  virtual std::uint8_t* indexes(std::size_t count) = 0;
  // means: [n][stride], channels used.
  virtual const std::int32_t* symbols(const Positions& where, const Group& group, const std::int32_t* means,
                                      std::size_t stride) = 0;
};

// From its own latent; keeps everything for calls of the coder at the end, one for each pass.
class EncoderSource final : public SymbolSource {
 public:
  EncoderSource(const std::int32_t* y, std::size_t channels, const nn::Kernels& kernels)
      : y_(y), channels_(channels), kernels_(kernels) {}

  std::uint8_t* indexes(std::size_t count) override {
    passes_.emplace_back(count);
    return passes_.back().indexes.data();
  }

  const std::int32_t* symbols(const Positions& where, const Group& group, const std::int32_t* means,
                              std::size_t stride) override {
    std::int32_t* out = passes_.back().symbols.data();
    for (std::size_t i = 0; i < where.size(); ++i) {
      kernels_.quantise(y_ + where[i] * channels_ + group.first, means + i * stride, group.channels,
                        out + i * group.channels);
    }
    return out;
  }

  void finish(const CdfTables& tables, Team& team, std::vector<Bytes>& sections) const {
    const std::size_t first = sections.size();
    sections.resize(first + passes_.size());
    parallel_for(passes_.size(), team, [&](std::size_t i) {
      const Pass& pass = passes_[i];
      sections[first + i] = rans_encode(pass.symbols.data(), pass.indexes.data(), pass.symbols.size(), tables);
    });
  }

 private:
  struct Pass {
    Buffer<std::int32_t> symbols;
    Buffer<std::uint8_t> indexes;
    explicit Pass(std::size_t count) : symbols(count), indexes(count) {}
  };
  const std::int32_t* y_;
  std::size_t channels_;
  const nn::Kernels& kernels_;
  std::vector<Pass> passes_;
};

class DecoderSource final : public SymbolSource {
 public:
  DecoderSource(std::span<const std::span<const std::uint8_t>> sections, const CdfTables& tables)
      : sections_(sections), tables_(tables) {}

  std::uint8_t* indexes(std::size_t count) override {
    indexes_.resize(count);
    symbols_.resize(count);
    return indexes_.data();
  }

  const std::int32_t* symbols(const Positions&, const Group&, const std::int32_t*, std::size_t) override {
    const auto data = sections_[done_++];
    RansDecoder decoder(data.data(), data.size(), tables_);
    decoder.decode(indexes_.data(), symbols_.data(), symbols_.size());
    decoder.finish();
    return symbols_.data();
  }

 private:
  std::span<const std::span<const std::uint8_t>> sections_;
  const CdfTables& tables_;
  std::size_t done_ = 0;
  Buffer<std::int32_t> symbols_;
  Buffer<std::uint8_t> indexes_;
};

// One image, group after group, in both directions.
class Run {
 public:
  Run(const Model& model, Size size, SymbolSource& source, const Outputs& out, const Tools& tools)
      : model_(model),
        source_(source),
        out_(out),
        tools_(tools),
        size_(size),
        rows_(size.height * size.width * model.row) {}

  void all() {
    hyper();
    for (const Group& group : model_.groups) code(group);
  }

 private:
  Target block(std::size_t offset) { return {rows_.data() + offset, model_.row, size_.height, size_.width}; }

  void hyper() {
    Plane x;
    const Target input = x.shape(size_.hyper_height(), size_.hyper_width(), model_.hyper_channels());
    nn::hyper_input(out_.z, model_.z_median, model_.z_input, input, tools_);
    run(model_.hyper, x.source(), block(model_.hyper_block), scratch_, tools_);
  }

  void code(const Group& group) {
    if (!group.channel.empty()) run(group.channel, decoded(group), block(group.channel_block), scratch_, tools_);
    if (!group.board) {
      const Positions where = positions_of(size_, group, 0);
      const Stack& parameters = group.parameters;
      head_.resize(where.size() * parameters.back().columns());
      run(parameters, as_source(block(group.channel_block)),
          nn::Head{head_.data(), parameters.back().columns(), size_.height, size_.width}, scratch_, tools_);
      pass(group, where);
      return;
    }
    const Positions anchors = positions_of(size_, group, group.parity);
    of_colour(group.parameters, group.channel_block, group.parity, anchors.size());
    pass(group, anchors);
    // Positions that are not coded yet are zero: no odd tap of the others' context reaches them anyway.
    const Positions others = positions_of(size_, group, 1 - group.parity);
    convolve_at(group.context, as_source(block(group.own)), others, block(group.context_block), tools_);
    of_colour(group.informed, group.context_block, 1 - group.parity, others.size());
    pass(group, others);
  }

  // What the channel context reads.
  Source decoded(const Group& group) {
    if (!group.packed) return as_source(block(group.reads.front().offset));
    std::size_t width = 0;
    for (const Group::Piece& piece : group.reads) width += piece.size;
    const Target packed = packed_.shape(size_.height, size_.width, width);
    for (std::size_t p = 0; p < packed.positions(); ++p) {
      std::int16_t* to = packed.at(p);
      for (const Group::Piece& piece : group.reads) to = std::copy_n(block(piece.offset).at(p), piece.size, to);
    }
    return as_source(packed);
  }

  // Parameters of one colour into head_, half a row of the map at a time: its positions lie two rows of memory apart.
  void of_colour(const Stack& parameters, std::size_t offset, std::size_t parity, std::size_t count) {
    const std::size_t columns = parameters.back().columns(), h = size_.height, w = size_.width;
    const Target read = block(offset);
    head_.resize(count * columns);
    constexpr std::size_t kBand = 2;  // rows of the map
    parallel_for((h + kBand - 1) / kBand, tools_.team, [&](std::size_t band) {
      Buffer<std::int16_t> hidden[2];
      for (std::size_t r = band * kBand; r < std::min(h, (band + 1) * kBand); ++r) {
        const std::size_t first = first_column(r, parity), n = (w - first + 1) / 2;
        const std::int16_t* a = read.at(r, first);
        std::size_t stride = 2 * read.stride;
        for (std::size_t l = 0; l + 1 < parameters.size(); ++l) {
          Buffer<std::int16_t>& to = hidden[l % 2];
          to.resize(n * parameters[l].columns());
          apply(parameters[l], a, stride, n, to.data(), parameters[l].columns(), tools_);
          a = to.data();
          stride = parameters[l].columns();
        }
        apply_head(parameters.back(), a, stride, n, &head_[before(r, w, parity) * columns], tools_);
      }
    });
  }

  // Symbols and latents of a pass whose parameters are in head_.
  void pass(const Group& group, const Positions& where) {
    const std::size_t c = group.channels, m = model_.latent_channels();
    const std::size_t columns = group.parameters.back().columns();
    std::uint8_t* indexes = source_.indexes(where.size() * c);
    each_run(where.size(), [&](std::size_t first, std::size_t last) {
      for (std::size_t i = first; i < last; ++i) {
        tools_.kernels.choose(&head_[i * columns], c, model_.thresholds, indexes + i * c);
      }
    });
    const std::int32_t* means = head_.data() + c;
    const std::int32_t* symbols = source_.symbols(where, group, means, columns);
    const Target activations = block(group.own);
    each_run(where.size(), [&](std::size_t first, std::size_t last) {
      Buffer<std::int32_t> latent(nn::padded(c));
      for (std::size_t i = first; i < last; ++i) {
        tools_.kernels.reconstruct(symbols + i * c, means + i * columns, c, latent.data());
        std::copy_n(latent.data(), c, out_.y + where[i] * m + group.first);
        tools_.kernels.requantise16(latent.data(), group.input, {0, latent.size()}, activations.at(where[i]));
      }
    });
  }

  // Positions of a pass in runs, each on one thread.
  template <typename Job>
  void each_run(std::size_t count, const Job& job) {
    constexpr std::size_t kRun = 128;
    parallel_for((count + kRun - 1) / kRun, tools_.team,
                 [&](std::size_t i) { job(i * kRun, std::min(count, (i + 1) * kRun)); });
  }

  const Model& model_;
  SymbolSource& source_;
  const Outputs& out_;
  const Tools& tools_;
  const Size size_;
  Buffer<std::int16_t> rows_;  // [positions][model.row]
  Buffer<std::int32_t> head_;  // of the pass in flight
  Plane packed_, scratch_[2];
};

Tools tools_for(const Model& model, Team& team) {
  const Isa isa = active_isa();
  return {nn::kernels(isa), model.tail, team};
}

}  // namespace

void Engine::analyse(const std::int32_t* y, Size size, std::int32_t* z, unsigned threads) const {
  if (model_.analysis.empty()) throw std::invalid_argument("this model has no analysis of y");
  Team team(threads);
  const Tools tools = tools_for(model_, team);
  const std::size_t n = model_.hyper_channels(), m = model_.latent_channels();
  engine::check_latents(y, size.height * size.width * m);
  Plane x, scratch[2];
  const Target input = x.shape(size.height, size.width, m);
  parallel_for(size.height, team, [&](std::size_t row) {
    Buffer<std::int32_t> latent(input.stride);
    for (std::size_t column = 0; column < size.width; ++column) {
      std::copy_n(y + (row * size.width + column) * m, m, latent.data());
      tools.kernels.requantise16(latent.data(), model_.y_input, {0, input.stride}, input.at(row, column));
    }
  });
  const std::size_t columns = model_.analysis.back().columns();
  const nn::Head out{nullptr, columns, size.hyper_height(), size.hyper_width()};
  Buffer<std::int32_t> head(out.positions() * columns);
  run(model_.analysis, x.source(), nn::Head{head.data(), columns, out.height, out.width}, scratch, tools);
  for (std::size_t p = 0; p < out.positions(); ++p) std::copy_n(&head[p * columns], n, z + p * n);
}

std::vector<Bytes> Engine::encode(const std::int32_t* z, const std::int32_t* y, Size size, const Outputs& out,
                                  unsigned threads) const {
  Team team(threads);
  const Tools tools = tools_for(model_, team);
  const std::size_t n = model_.hyper_channels(), m = model_.latent_channels();
  const std::size_t z_positions = size.hyper_height() * size.hyper_width();
  engine::check_latents(z, z_positions * n);
  engine::check_latents(y, size.height * size.width * m);
  engine::hyper_symbols(z, z_positions, model_.z_median, out.z);
  EncoderSource source(y, m, tools.kernels);
  Run(model_, size, source, out, tools).all();
  std::vector<Bytes> sections{engine::encode_hyper(out.z, z_positions, n, *model_.z_tables)};
  source.finish(*model_.y_tables, team, sections);
  return sections;
}

void Engine::decode(std::span<const std::span<const std::uint8_t>> sections, Size size, const Outputs& out,
                    unsigned threads) const {
  check_sizes(sections, size);
  Team team(threads);
  const Tools tools = tools_for(model_, team);
  // Before the costly part: a damaged z is found out at once.
  engine::decode_hyper(sections[0], size.hyper_height() * size.hyper_width(), model_.hyper_channels(),
                       *model_.z_tables, out.z);
  DecoderSource source(sections.subspan(1), *model_.y_tables);
  Run(model_, size, source, out, tools).all();
}

void Engine::check_sizes(std::span<const std::span<const std::uint8_t>> sections, Size size) const {
  constexpr std::size_t kMaxSide = std::size_t{1} << 24;  // far beyond any image; products stay exact
  if (size.height < 1 || size.width < 2 || size.height > kMaxSide || size.width > kMaxSide) {
    throw std::invalid_argument("latents must be 1 to 2^24 positions high and 2 to 2^24 wide");
  }
  if (sections.size() != 1 + model_.passes()) {
    throw std::invalid_argument("this model has " + std::to_string(1 + model_.passes()) + " sections, got " +
                                std::to_string(sections.size()));
  }
  const double z_count = static_cast<double>(size.hyper_height() * size.hyper_width() * model_.hyper_channels());
  engine::check_section("z", sections[0].size(), z_count, model_.z_fewest_bits);
  const std::size_t positions = size.height * size.width;
  std::size_t section = 1;
  for (const Group& group : model_.groups) {
    for (std::size_t turn = 0; turn < group.passes(); ++turn, ++section) {
      // Either colour has half of the positions, rounded up or down.
      const std::size_t count = group.board ? positions / 2 : positions;
      engine::check_section("y", sections[section].size(), static_cast<double>(count * group.channels),
                            model_.y_fewest_bits);
    }
  }
}

}  // namespace fastlic::groups

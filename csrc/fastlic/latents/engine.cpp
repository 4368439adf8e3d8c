#include "fastlic/latents/engine.hpp"

#include <algorithm>
#include <optional>

#include "fastlic/errors.hpp"
#include "fastlic/latents/schedules.hpp"
#include "fastlic/memory.hpp"
#include "fastlic/nn/tiles.hpp"
#include "fastlic/parallel.hpp"
#include "fastlic/progress.hpp"
#include "fastlic/rans.hpp"

namespace fastlic::latents {
namespace {

// Answers each pass with symbols of its own latent, and keeps them for one call of the coder per section at the end.
class EncoderSource final : public SymbolSource {
 public:
  EncoderSource(const Target& target, std::size_t positions, std::size_t channels, const nn::Kernels& kernels)
      : target_(target),
        channels_(channels),
        kernels_(kernels),
        indexes_(positions * channels),
        narrow_(positions * channels) {}

  std::uint8_t* indexes(std::size_t) override { return indexes_.data() + done_; }

  const std::int32_t* symbols(const Pass& pass, const std::int32_t* means, std::size_t means_stride) override {
    if (pass.section > begin_.size()) begin_.push_back(done_);
    const std::size_t count = pass.where.size() * pass.channels;
    if (pass_.size() < count) pass_.resize(count);
    for (std::size_t i = 0; i < pass.where.size(); ++i) {
      kernels_.quantise(target_.y + pass.where[i] * channels_ + pass.first, means + i * means_stride,
                        indexes_.data() + done_ + i * pass.channels, target_.zones, pass.channels,
                        pass_.data() + i * pass.channels);
    }
    keep(count);
    done_ += count;
    return pass_.data();
  }

  Engine::Symbols take() {
    if (wide_.empty()) widen();
    return {std::move(indexes_), std::move(wide_)};
  }

  void finish(const CdfTables& tables, Team& team, Vector<Bytes>& sections) const {
    const std::size_t first = sections.size();
    sections.resize(first + begin_.size());
    parallel_for(begin_.size(), team, [&](std::size_t i) {
      const std::size_t begin = begin_[i], count = (i + 1 < begin_.size() ? begin_[i + 1] : done_) - begin;
      const std::uint8_t* indexes = &indexes_[begin];
      sections[first + i] = wide_.empty() ? rans_encode(&narrow_[begin], indexes, count, tables)
                                          : rans_encode(&wide_[begin], indexes, count, tables);
    });
  }

 private:
  void keep(std::size_t count) {
    std::uint32_t beyond = 0;
    for (std::size_t i = 0; i < count; ++i) beyond |= (static_cast<std::uint32_t>(pass_[i]) + (1u << 15)) >> 16;
    if (beyond != 0 && wide_.empty()) widen();
    if (wide_.empty()) {
      for (std::size_t i = 0; i < count; ++i) narrow_[done_ + i] = static_cast<std::int16_t>(pass_[i]);
    } else {
      std::copy_n(pass_.data(), count, &wide_[done_]);
    }
  }

  void widen() {
    wide_ = Buffer<std::int32_t>(narrow_.begin(), narrow_.end());
    narrow_ = {};
  }

  const Target& target_;
  std::size_t channels_;
  const nn::Kernels& kernels_;
  Buffer<std::uint8_t> indexes_;
  Buffer<std::int32_t> pass_;    // symbols of the pass in flight
  Buffer<std::int16_t> narrow_;  // of all, as far as all fit
  Buffer<std::int32_t> wide_;    // or else
  Vector<std::size_t> begin_;    // of each section of y
  std::size_t done_ = 0;
};

// Answers each pass from the stream; with zeros behind the last group that is read.
class DecoderSource final : public SymbolSource {
 public:
  DecoderSource(Sections sections, const CdfTables& tables, std::size_t groups)
      : sections_(sections), tables_(tables), groups_(groups) {
    if (groups_ > 0) open(1);  // before anything is computed: a damaged head is found out at once
  }

  std::uint8_t* indexes(std::size_t count) override {
    if (indexes_.size() < count) {
      indexes_.resize(count);
      symbols_.resize(count);
    }
    return indexes_.data();
  }

  const std::int32_t* symbols(const Pass& pass, const std::int32_t*, std::size_t) override {
    const std::size_t count = pass.where.size() * pass.channels;
    if (pass.group >= groups_) {
      if (pass.section != section_) close();
      std::fill_n(symbols_.data(), count, 0);
      return symbols_.data();
    }
    if (pass.section != section_) {
      close();
      open(pass.section);
    }
    decoder_->decode(indexes_.data(), symbols_.data(), count);
    return symbols_.data();
  }

  // Throws CorruptStream unless the section in flight ends here.
  void close() {
    if (decoder_) decoder_->finish();
    decoder_.reset();
  }

 private:
  void open(std::size_t section) {
    section_ = section;
    decoder_.emplace(sections_[section].data(), sections_[section].size(), tables_);
  }

  Sections sections_;
  const CdfTables& tables_;
  std::size_t groups_;
  std::size_t section_ = 0;
  std::optional<RansDecoder> decoder_;
  Buffer<std::int32_t> symbols_;
  Buffer<std::uint8_t> indexes_;
};

// Multiply-adds of hyper synthesis.
double hyper_work_of(const Model& model, Size size, std::size_t threads) {
  return nn::work_of(model.hyper, size.hyper()) / static_cast<double>(threads);
}

// About those of all passes for a position of y, and what else takes as long. A wavefront has one thread.
double work_of(const Model& model, std::size_t threads) {
  constexpr double kSymbol = 300;  // measured: a symbol takes as long
  double work = kSymbol * static_cast<double>(model.latent_channels);
  if (model.wavefront) {
    work += nn::work_of(model.wavefront->context, 1) + nn::work_of(model.wavefront->share, 1);
    for (const Layer& layer : model.wavefront->parameters) work += nn::work_of(layer, 1);
    return work;
  }
  // Of attention is counted what its groups have in common.
  const auto add = [&](const nn::Network& network) {
    for (std::size_t i = 0; i < network.steps.size(); ++i) work += nn::work_of(network.layer(i), 1);
  };
  for (const Group& group : model.groups) {
    for (const Step& step : group.steps) {
      if (const auto* context = std::get_if<Context>(&step)) add(context->network);
      if (const auto* code = std::get_if<Code>(&step)) add(code->parameters);
      if (const auto* residual = std::get_if<Residual>(&step)) add(residual->network);
    }
  }
  return work / static_cast<double>(threads);
}

void run(const Model& model, Size size, SymbolSource& source, const Outputs& out, const attention::Tools& tools) {
  Run run{model, size, source, out, tools};
  if (Progress::watched()) {
    run.hyper_work = hyper_work_of(model, size, tools.team.size());
    run.work = work_of(model, tools.team.size());
  }
  model.wavefront ? run_wavefront(run) : run_board(run);
}

// The largest things that a run has for each position: a row of memory, means and scales, what attention asks.
void require_room(const Model& model, Size size) {
  const std::size_t latent = 4 * nn::padded(model.latent_channels), hyper = nn::padded(model.hyper_channels());
  nn::require_addresses(size.height, size.width, std::max(model.row, latent), sizeof(std::int32_t));
  nn::require_addresses(size.hyper_height(), size.hyper_width(), 4 * hyper, sizeof(std::int32_t));
}

attention::Tools tools_for(const Model& model, Team& team) {
  return attention::tools_for(active_isa(), model.tables, team);
}

}  // namespace

void Run::hyper(nn::Ends ends) const {
  ends.feed = [this](nn::Rows rows, const nn::Target& to) {
    nn::hyper_input(out.z, model.z_median, model.z_input, to, rows, tools);
  };
  nn::run(model.hyper, size.hyper(), ends, tools);
}

void Run::code(const Pass& pass, const std::int32_t* head, std::size_t stride, const Latents& to) const {
  const std::size_t c = pass.channels;
  const nn::Kernels& kernels = tools.kernels;
  std::uint8_t* indexes = source.indexes(pass.where.size() * c);
  each_run(pass.where.size(), tools.team, [&](std::size_t first, std::size_t last) {
    for (std::size_t i = first; i < last; ++i) kernels.choose(head + i * stride, c, model.thresholds, indexes + i * c);
  });
  const std::int32_t* means = head + c;
  const std::int32_t* symbols = source.symbols(pass, means, stride);
  const std::int32_t* offsets = model.offsets.empty() ? nullptr : model.offsets.data();
  each_run(pass.where.size(), tools.team, [&](std::size_t first, std::size_t last) {
    for (std::size_t i = first; i < last; ++i) {
      kernels.reconstruct(symbols + i * c, means + i * stride, indexes + i * c, offsets, c, to.at(pass, i));
      if (out.symbols == nullptr) continue;
      std::copy_n(symbols + i * c, c, out.symbols + pass.where[i] * model.latent_channels + pass.first);
    }
  });
}

void Engine::analyse(const std::int32_t* y, Size size, std::int32_t* z, unsigned threads) const {
  if (model_.analysis.steps.empty()) throw InvalidArgument("this model has no analysis of y");
  require_room(model_, size);
  Team team(threads);
  const attention::Tools tools = tools_for(model_, team);
  const std::size_t n = model_.hyper_channels(), m = model_.latent_channels;
  check_latents(y, size.positions() * m);
  nn::Ends ends;
  ends.feed = [&](nn::Rows rows, const nn::Target& to) {
    parallel_for(rows.last - rows.first, team, [&](std::size_t i) {
      for (std::size_t p = (rows.first + i) * size.width; p < (rows.first + i + 1) * size.width; ++p) {
        nn::activate(y + p * m, model_.y_input, to.at(p), tools.kernels);
      }
    });
  };
  ends.take_wide = [&](nn::Rows rows, const nn::View<const std::int32_t>& from) {
    for (std::size_t p = rows.first * from.width; p < rows.last * from.width; ++p)
      std::copy_n(from.at(p), n, z + p * n);
  };
  nn::run(model_.analysis, size.map(), ends, tools);
}

Vector<Bytes> Engine::encode(const Target& target, Size size, const Outputs& out, unsigned threads) const {
  require_room(model_, size);
  Team team(threads);
  const attention::Tools tools = tools_for(model_, team);
  check_and_round(target, size, out.z);
  EncoderSource source(target, size.positions(), model_.latent_channels, tools.kernels);
  run(model_, size, source, out, tools);
  Vector<Bytes> sections{encode_hyper(out.z, size.hyper_positions(), model_.hyper_channels(), *model_.z_tables)};
  source.finish(*model_.y_tables, team, sections);
  return sections;
}

Engine::Symbols Engine::symbols(const Target& target, Size size, unsigned threads) const {
  require_room(model_, size);
  Team team(threads);
  const attention::Tools tools = tools_for(model_, team);
  Buffer<std::int32_t> z(size.hyper_positions() * model_.hyper_channels());
  check_and_round(target, size, z.data());
  EncoderSource source(target, size.positions(), model_.latent_channels, tools.kernels);
  run(model_, size, source, {z.data(), nullptr}, tools);
  return source.take();
}

void Engine::check_and_round(const Target& target, Size size, std::int32_t* z_symbols) const {
  check_latents(target.z, size.hyper_positions() * model_.hyper_channels());
  check_latents(target.y, size.positions() * model_.latent_channels);
  if (target.zones != nullptr) check_zones({target.zones, model_.y_tables->rows()});
  hyper_symbols(target.z, size.hyper_positions(), model_.z_median, z_symbols);
}

void Engine::decode(Sections sections, Size size, std::size_t groups, const Outputs& out, unsigned threads) const {
  check_sizes(sections, size);
  Team team(threads);
  const attention::Tools tools = tools_for(model_, team);
  DecoderSource source(sections, *model_.y_tables, groups);
  // Before the costly part: a damaged z is found out at once.
  decode_hyper(sections[0], size.hyper_positions(), model_.hyper_channels(), *model_.z_tables, out.z);
  run(model_, size, source, out, tools);
  if (groups >= std::max<std::size_t>(model_.groups.size(), 1)) source.close();
}

double Engine::work(Size size, std::size_t threads) const {
  return hyper_work_of(model_, size, threads) + work_of(model_, threads) * static_cast<double>(size.positions());
}

std::uint64_t Engine::memory(Size size, unsigned threads, bool encode) const {
  const std::size_t m = model_.latent_channels, positions = size.positions();
  constexpr std::uint64_t kWide = sizeof(std::int32_t);
  const auto map_bytes = [](std::size_t count, std::size_t channels) {
    return sizeof(std::int16_t) * std::uint64_t{count} * padded(channels);
  };
  // Networks run one after the other: the largest alone counts.
  std::uint64_t shared = 0, running = 0, scratch = 0;
  nn::Ends in_place;
  in_place.from.emplace();
  const auto take = [&](const nn::Network& network, const nn::Ends* ends) {
    if (!network.steps.empty()) running = std::max(running, nn::memory_of(network, size.map(), threads, ends));
  };
  running = nn::memory_of(model_.hyper, size.hyper(), threads);
  std::size_t coded = positions * m;  // symbols of a pass
  if (model_.wavefront) {
    const Wavefront& net = *model_.wavefront;
    const std::size_t batch = std::min(size.height, (size.width + 2) / 3);
    std::size_t widest = net.context.columns();
    for (const Layer& layer : net.parameters) widest = std::max(widest, layer.columns());
    const ShareWindow window = share_window(model_, size);
    shared += map_bytes(positions, model_.hyper.output().channels);
    shared += kWide * window.rows * window.columns * net.share.columns();
    shared += map_bytes((size.height + 2) * (size.width + 4), m);
    shared += batch * (2 * net.context.depth + 6 * widest + 16);
    coded = batch * m;
    shared += nn::tile_scratch(batch, net.context.depth);
  }
  std::size_t head = 0, kept = 0, block = 0;
  for (const Group& group : model_.groups) {
    block = std::max(block, padded(group.channels));
    for (const Step& step : group.steps) {
      if (const auto* context = std::get_if<Context>(&step)) {
        take(context->network, context->pieces.empty() ? &in_place : nullptr);
      } else if (const auto* code = std::get_if<Code>(&step)) {
        head = std::max(head, padded(2 * group.channels));
        take(code->parameters, &in_place);
      } else if (const auto* residual = std::get_if<Residual>(&step)) {
        take(residual->network, &in_place);
      } else if (const auto* board = std::get_if<BoardContext>(&step)) {
        scratch = std::max(scratch, nn::scratch_of(board->layer));
      } else if (const auto* inter = std::get_if<InterContext>(&step)) {
        for (const auto* own : {&inter->net.key, &inter->net.value, &inter->net.query}) take(*own, &in_place);
        if (!model_.linear || inter->net.channels > inter->size) kept = std::max(kept, inter->net.channels);
      } else if (const auto* intra = std::get_if<IntraContext>(&step)) {
        for (const auto* own : {&intra->net.key, &intra->net.value, &intra->net.query}) take(*own, nullptr);
        kept = std::max(kept, intra->net.channels);
      } else if (const auto* local = std::get_if<LocalContext>(&step)) {
        kept = std::max(kept, (3 * padded(group.channels) + 96) / 2);
        const std::uint64_t columns = local->net.fusion.columns() + 3 * local->net.proj.columns() +
                                      local->net.mlp_in.columns() + attention::kTokens * padded(group.channels);
        std::uint64_t own = 0;
        for (const Layer* layer : {&local->net.fusion, &local->net.proj, &local->net.mlp_in}) {
          own = std::max(own, nn::scratch_of(*layer));
        }
        scratch = std::max(scratch, own + (size.width / 2 + 1) * 2 * columns);
      }
    }
  }
  if (!model_.groups.empty()) {
    shared += sizeof(std::int16_t) * std::uint64_t{positions} * (model_.row + kept);
    const std::uint64_t pass = std::min(positions, pass_rows(size, head) * size.width);
    shared += pass * (kWide * head + sizeof(std::size_t));
    coded = pass * block;
  }
  // Attention that compares all positions with all others holds values as well as keys, and a few rows of scores.
  if (kept > 0 && !model_.linear) {
    shared += sizeof(std::int16_t) * std::uint64_t{positions} * 2 * padded(kept);
    scratch += 14 * (kWide + sizeof(std::int16_t)) * std::uint64_t{positions};
  }
  if (encode) shared += (sizeof(std::int16_t) + 1) * std::uint64_t{positions} * m;
  return shared + running + coded * (kWide + 1) + threads * scratch;
}

void Engine::check_sizes(Sections sections, Size size) const {
  constexpr std::size_t kMaxSide = std::size_t{1} << 24;  // far beyond any image; products stay exact
  if (size.height < 1 || size.width < model_.least_width || size.height > kMaxSide || size.width > kMaxSide) {
    throw InvalidArgument("latents must be 1 to 2^24 positions high and " + to_string(model_.least_width) +
                          " to 2^24 wide");
  }
  require_room(model_, size);
  if (sections.size() != model_.sections()) {
    throw InvalidArgument("this model has " + to_string(model_.sections()) + " sections, got " +
                          to_string(sections.size()));
  }
  const auto hyper_count = static_cast<double>(size.hyper_positions() * model_.hyper_channels());
  check_section("z", sections[0].size(), hyper_count, model_.z_fewest_bits);
  Vector<double> counts(sections.size());
  if (model_.wavefront) counts[1] = static_cast<double>(size.positions() * model_.latent_channels);
  for (const Group& group : model_.groups) {
    for (const Step& step : group.steps) {
      const auto* code = std::get_if<Code>(&step);
      if (code == nullptr) continue;
      counts[code->section] += static_cast<double>(code->region.positions(size.height, size.width) * group.channels);
    }
  }
  for (std::size_t i = 1; i < sections.size(); ++i) {
    check_section("y", sections[i].size(), counts[i], model_.y_fewest_bits);
  }
}

}  // namespace fastlic::latents

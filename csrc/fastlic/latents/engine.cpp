#include "fastlic/latents/engine.hpp"

#include <algorithm>
#include <optional>

#include "fastlic/errors.hpp"
#include "fastlic/latents/schedules.hpp"
#include "fastlic/memory.hpp"
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
        kept_{Buffer<std::uint8_t>(positions * channels), Buffer<std::int32_t>(positions * channels)} {}

  std::uint8_t* indexes(std::size_t) override { return kept_.indexes.data() + done_; }

  const std::int32_t* symbols(const Pass& pass, const std::int32_t* means, std::size_t means_stride) override {
    if (pass.section > begin_.size()) begin_.push_back(done_);
    std::int32_t* out = kept_.symbols.data() + done_;
    for (std::size_t i = 0; i < pass.where.size(); ++i) {
      nn::quantise_row(kernels_, target_.y + pass.where[i] * channels_ + pass.first, means + i * means_stride,
                       kept_.indexes.data() + done_ + i * pass.channels, target_.zones, pass.channels,
                       out + i * pass.channels);
    }
    done_ += pass.where.size() * pass.channels;
    return out;
  }

  Engine::Symbols take() { return std::move(kept_); }

  void finish(const CdfTables& tables, Team& team, Vector<Bytes>& sections) const {
    const std::size_t first = sections.size();
    sections.resize(first + begin_.size());
    parallel_for(begin_.size(), team, [&](std::size_t i) {
      const std::size_t begin = begin_[i], end = i + 1 < begin_.size() ? begin_[i + 1] : done_;
      sections[first + i] = rans_encode(&kept_.symbols[begin], &kept_.indexes[begin], end - begin, tables);
    });
  }

 private:
  const Target& target_;
  std::size_t channels_;
  const nn::Kernels& kernels_;
  Engine::Symbols kept_;
  Vector<std::size_t> begin_;  // of each section of y
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

// Multiply-adds of hyper synthesis for a position of y.
double hyper_work_of(const Model& model, std::size_t threads) {
  double work = 0, positions = 1;  // of y that one of a layer's output stands for
  for (auto layer = model.hyper.rbegin(); layer != model.hyper.rend(); ++layer) {
    work += nn::work_of(*layer, 1) * positions;
    positions /= static_cast<double>(layer->up * layer->up);
  }
  return work / static_cast<double>(threads);
}

// About those of all passes, and what else takes as long. A wavefront has one thread.
double work_of(const Model& model, std::size_t threads) {
  constexpr double kSymbol = 300;  // measured: a symbol takes as long
  double work = kSymbol * static_cast<double>(model.latent_channels);
  if (model.wavefront) {
    work += nn::work_of(model.wavefront->context, 1) + nn::work_of(model.wavefront->share, 1);
    for (const Layer& layer : model.wavefront->parameters) work += nn::work_of(layer, 1);
    return work;
  }
  // Of attention is counted what its groups have in common.
  const auto add = [&](const Stack& stack) {
    for (const Layer& layer : stack) work += nn::work_of(layer, 1);
  };
  for (const Group& group : model.groups) {
    for (const Step& step : group.steps) {
      if (const auto* context = std::get_if<Context>(&step)) add(context->stack);
      if (const auto* code = std::get_if<Code>(&step)) add(code->parameters);
      if (const auto* residual = std::get_if<Residual>(&step)) add(residual->stack);
    }
  }
  return work / static_cast<double>(threads);
}

void run(const Model& model, Size size, SymbolSource& source, const Outputs& out, const attention::Tools& tools) {
  nn::Plane x;
  const nn::Target input = x.shape(size.hyper_height(), size.hyper_width(), model.hyper_channels());
  nn::hyper_input(out.z, model.z_median, model.z_input, input, tools);
  Run run{model, size, source, out, tools};
  if (Progress::watched()) {
    run.hyper_work = hyper_work_of(model, tools.team.size());
    run.work = work_of(model, tools.team.size());
  }
  model.wavefront ? run_wavefront(run, x.source()) : run_board(run, x.source());
}

// ---- what memory() adds up

// Activations of a map.
std::uint64_t map_bytes(std::size_t positions, std::size_t channels) {
  return sizeof(std::int16_t) * std::uint64_t{positions} * padded(channels);
}

struct Needs {
  std::uint64_t shared = 0;   // maps
  std::uint64_t scratch = 0;  // of a thread

  // All maps of a stack, as if none took the place of another.
  void add(const Stack& stack, Size size) {
    std::size_t height = size.height, width = size.width;
    for (const Layer& layer : stack) {
      height = (height * layer.up + layer.down - 1) / layer.down;
      width = (width * layer.up + layer.down - 1) / layer.down;
      shared += map_bytes(height * width, layer.outputs);
      scratch = std::max(scratch, nn::scratch_of(layer));
    }
  }
};

// Planes of attention that all groups share: what the widest of them asks for.
struct Planes {
  std::size_t wide = 0, narrow = 0;

  void take(const Attention& net) {
    narrow = std::max({narrow, padded(net.channels), padded(net.reprojection.outputs), padded(net.mlp.out.outputs)});
    for (const auto* projection : {&net.query, &net.key, &net.value}) {
      narrow = std::max({narrow, padded(projection->mix.outputs), padded(projection->spread.channels)});
    }
    wide = std::max({wide, padded(net.mlp.in.outputs), padded(net.mlp.spread.channels)});
  }
};

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

void Run::code(const Pass& pass, const std::int32_t* head, std::size_t stride) const {
  const std::size_t c = pass.channels, m = model.latent_channels;
  const nn::Kernels& kernels = tools.kernels;
  std::uint8_t* indexes = source.indexes(pass.where.size() * c);
  each_run(pass.where.size(), tools.team, [&](std::size_t first, std::size_t last) {
    for (std::size_t i = first; i < last; ++i) kernels.choose(head + i * stride, c, model.thresholds, indexes + i * c);
  });
  const std::int32_t* means = head + c;
  const std::int32_t* symbols = source.symbols(pass, means, stride);
  each_run(pass.where.size(), tools.team, [&](std::size_t first, std::size_t last) {
    for (std::size_t i = first; i < last; ++i) {
      const std::size_t place = pass.where[i] * m + pass.first;
      if (model.offsets.empty()) {
        kernels.reconstruct(symbols + i * c, means + i * stride, c, out.y + place);
      } else {
        kernels.reconstruct_offset(symbols + i * c, means + i * stride, indexes + i * c, model.offsets.data(), c,
                                   out.y + place);
      }
      if (out.symbols != nullptr) std::copy_n(symbols + i * c, c, out.symbols + place);
    }
  });
}

void Run::activate(std::size_t position, std::size_t first, std::size_t channels, const Requantiser& input,
                   Buffer<std::int32_t>& wide, std::int16_t* activations) const {
  std::copy_n(out.y + position * model.latent_channels + first, channels, wide.data());
  tools.kernels.requantise16(wide.data(), input, {0, wide.size()}, activations);
}

void Engine::analyse(const std::int32_t* y, Size size, std::int32_t* z, unsigned threads) const {
  if (model_.analysis.empty()) throw InvalidArgument("this model has no analysis of y");
  require_room(model_, size);
  Team team(threads);
  const attention::Tools tools = tools_for(model_, team);
  const std::size_t n = model_.hyper_channels(), m = model_.latent_channels;
  check_latents(y, size.positions() * m);
  nn::Plane x, scratch[2];
  const nn::Target input = x.shape(size.height, size.width, m);
  parallel_for(size.height, team, [&](std::size_t row) {
    Buffer<std::int32_t> latent(input.stride);
    for (std::size_t column = 0; column < size.width; ++column) {
      std::copy_n(y + (row * size.width + column) * m, m, latent.data());
      tools.kernels.requantise16(latent.data(), model_.y_input, {0, input.stride}, input.at(row, column));
    }
  });
  const std::size_t columns = model_.analysis.back().columns();
  Buffer<std::int32_t> head(size.hyper_positions() * columns);
  nn::run(model_.analysis, x.source(), nn::Head{head.data(), columns, size.hyper_height(), size.hyper_width()}, scratch,
          tools);
  for (std::size_t p = 0; p < size.hyper_positions(); ++p) std::copy_n(&head[p * columns], n, z + p * n);
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
  Buffer<std::int32_t> y(size.positions() * model_.latent_channels);
  check_and_round(target, size, z.data());
  EncoderSource source(target, size.positions(), model_.latent_channels, tools.kernels);
  run(model_, size, source, {z.data(), y.data()}, tools);
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
  return (hyper_work_of(model_, threads) + work_of(model_, threads)) * static_cast<double>(size.positions());
}

std::uint64_t Engine::memory(Size size, unsigned threads, bool encode) const {
  const std::size_t m = model_.latent_channels, positions = size.positions();
  constexpr std::uint64_t kWide = sizeof(std::int32_t);
  Needs needs;
  needs.shared += map_bytes(size.hyper_positions(), model_.hyper_channels());
  needs.add(model_.hyper, {size.hyper_height(), size.hyper_width()});
  std::uint64_t coded = positions * m;  // symbols and indexes that are there together
  if (model_.wavefront) {
    const Wavefront& net = *model_.wavefront;
    const std::size_t batch = std::min(size.height, (size.width + 2) / 3);
    std::size_t widest = net.context.columns();
    for (const Layer& layer : net.parameters) widest = std::max(widest, layer.columns());
    const ShareWindow window = share_window(model_, size);
    needs.shared += map_bytes(positions, model_.hyper.back().outputs);
    needs.shared += kWide * window.rows * window.columns * net.share.columns();
    needs.shared += map_bytes((size.height + 2) * (size.width + 4), m);
    needs.shared += batch * (2 * net.context.depth + 6 * widest + 16);
    if (!encode) coded = batch * m;
  }
  Planes planes;
  std::size_t packed = model_.hyper_blocks.size() > 1 ? padded(model_.hyper.back().outputs) : 0, head = 0, block = 0;
  Needs stacks;  // they share two planes: the largest alone counts
  const auto take = [&](const Stack& stack) {
    Needs own;
    own.add(stack, size);
    stacks.shared = std::max(stacks.shared, own.shared);
    stacks.scratch = std::max(stacks.scratch, own.scratch);
  };
  for (const Group& group : model_.groups) {
    block = std::max(block, padded(group.channels));
    for (const Step& step : group.steps) {
      if (const auto* context = std::get_if<Context>(&step)) {
        std::size_t width = 0;
        for (const Context::Piece& piece : context->pieces) width += piece.size;
        packed = std::max(packed, padded(width));
        take(context->stack);
      } else if (const auto* code = std::get_if<Code>(&step)) {
        const Stack& stack = code->parameters.empty() ? model_.hyper : code->parameters;
        head = std::max(head, stack.back().columns());
        take(code->parameters);
      } else if (const auto* residual = std::get_if<Residual>(&step)) {
        take(residual->stack);
      } else if (const auto* board = std::get_if<BoardContext>(&step)) {
        stacks.scratch = std::max(stacks.scratch, nn::scratch_of(board->layer));
      } else if (const auto* inter = std::get_if<InterContext>(&step)) {
        planes.take(inter->net);
      } else if (const auto* intra = std::get_if<IntraContext>(&step)) {
        planes.take(intra->net);
      } else if (const auto* local = std::get_if<LocalContext>(&step)) {
        planes.narrow = std::max(planes.narrow, 3 * padded(group.channels) + 96);
        const std::uint64_t columns = local->net.fusion.columns() + 3 * local->net.proj.columns() +
                                      local->net.mlp_in.columns() + attention::kTokens * padded(group.channels);
        stacks.scratch = std::max<std::uint64_t>(stacks.scratch, (size.width / 2 + 1) * 2 * columns);
      }
    }
  }
  if (!model_.groups.empty()) {
    needs.shared +=
        2 * std::uint64_t{positions} * (model_.row + packed + 3 * block + 7 * planes.narrow + 2 * planes.wide);
    needs.shared += positions * (kWide * head + sizeof(std::size_t));
    if (!encode) coded = positions * block;
  }
  // Attention that compares all positions with all others holds a few rows of scores, and keys and values by head.
  if (planes.narrow > 0 && !model_.linear) {
    needs.shared += positions * (sizeof(std::int16_t) * planes.narrow + 2 * kWide);
    stacks.scratch += 14 * (kWide + sizeof(std::int16_t)) * std::uint64_t{positions};
  }
  needs.shared += stacks.shared + coded * (kWide + 1);
  return needs.shared + threads * std::max(needs.scratch, stacks.scratch);
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

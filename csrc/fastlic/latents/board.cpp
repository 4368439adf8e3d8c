// The board: groups of channels one after the other, each a list of steps (model.hpp), the same passes as the schedules
// of fastlic/entropy/groups and fastlic/entropy/mlic.
#include <algorithm>

#include "fastlic/latents/schedules.hpp"
#include "fastlic/memory.hpp"
#include "fastlic/parallel.hpp"
#include "fastlic/progress.hpp"

namespace fastlic::latents {
namespace {

using nn::as_source;
using nn::Plane;
using nn::Source;
using View = nn::Target;

// Group after group, step after step.
class Board {
 public:
  Board(const Run& run, const Source& hyper_input)
      : run_(run), size_(run.size), hyper_input_(hyper_input), rows_(size_.positions() * run.model.row) {}

  void all() {
    hyper();
    Progress::done(run_.hyper_work * static_cast<double>(size_.positions()));
    for (index_ = 0; index_ < run_.model.groups.size(); ++index_) {
      const double steps = static_cast<double>(run_.model.groups.size() * group().steps.size());
      for (const Step& step : group().steps) {
        std::visit([&](const auto& own) { take(own); }, step);
        Progress::done(run_.work * static_cast<double>(size_.positions()) / steps);
      }
    }
  }

 private:
  const Group& group() const { return run_.model.groups[index_]; }
  View block(std::size_t offset) { return {rows_.data() + offset, run_.model.row, size_.height, size_.width}; }
  Source read(std::size_t offset) { return as_source(block(offset)); }

  void hyper() {
    const auto& blocks = run_.model.hyper_blocks;
    if (blocks.empty()) return;
    const Stack& stack = run_.model.hyper;
    if (blocks.size() == 1) return nn::run(stack, hyper_input_, block(blocks[0]), scratch_, run_.tools);
    const std::size_t channels = stack.back().outputs / blocks.size();
    const View features = packed_.shape(size_.height, size_.width, stack.back().outputs);
    nn::run(stack, hyper_input_, features, scratch_, run_.tools);
    for (std::size_t p = 0; p < features.positions(); ++p) {
      for (std::size_t b = 0; b < blocks.size(); ++b) {
        std::copy_n(features.at(p) + b * channels, channels, block(blocks[b]).at(p));
      }
    }
  }

  void take(const Context& step) {
    nn::run(step.stack, step.pieces.empty() ? read(step.from) : together(step.pieces), block(step.to), scratch_,
            run_.tools);
  }

  Source together(const Vector<Context::Piece>& pieces) {
    std::size_t width = 0;
    for (const Context::Piece& piece : pieces) width += piece.size;
    const View packed = packed_.shape(size_.height, size_.width, width);
    for (std::size_t p = 0; p < packed.positions(); ++p) {
      std::int16_t* to = packed.at(p);
      for (const Context::Piece& piece : pieces) to = std::copy_n(block(piece.offset).at(p), piece.size, to);
    }
    return as_source(packed);
  }

  void take(const BoardContext& step) {
    convolve_at(step.layer, read(step.from), Region::of(step.colour).list(size_.height, size_.width), block(step.to),
                run_.tools);
  }

  void take(const InterContext& step) {
    inter_context(step.net, run_.model.linear, read(step.from), block(step.to), work_, run_.tools);
  }

  void take(const IntraContext& step) {
    const View others = others_.shape(size_.height, size_.width, group().channels);
    const View anchors = anchors_.shape(size_.height, size_.width, group().channels);
    for (std::size_t r = 0; r < size_.height; ++r) {
      for (std::size_t c = 0; c < size_.width; ++c) {
        const bool anchor = (r + c) % 2 == attention::kAnchors.parity;
        std::copy_n(block(step.previous).at(r, c), others.stride, (anchor ? anchors : others).at(r, c));
        std::fill_n((anchor ? others : anchors).at(r, c), others.stride, std::int16_t{0});
      }
    }
    intra_context(step.net, run_.model.linear, as_source(others), as_source(anchors), read(group().block),
                  block(step.to), work_, run_.tools);
  }

  void take(const LocalContext& step) {
    const attention::Latents latents{run_.out.y + group().first, run_.model.latent_channels, group().channels};
    local_context(step.net, latents, block(step.to), work_, run_.tools);
  }

  void take(const Code& step) {
    const Vector<std::size_t> where = step.region.list(size_.height, size_.width);
    if (where.empty()) return;  // a map of one row has no odd ones
    // Scales and means from hyper synthesis itself, from convolutions, or from 1x1 layers at some positions.
    const Stack& stack = step.parameters.empty() ? run_.model.hyper : step.parameters;
    const std::size_t columns = stack.back().columns();
    head_.resize(where.size() * columns);
    if (step.region.all) {
      const nn::Head head{head_.data(), columns, size_.height, size_.width};
      nn::run(stack, step.parameters.empty() ? hyper_input_ : read(step.from), head, scratch_, run_.tools);
    } else {
      parameters(step);
    }
    run_.code({where, group().first, group().channels, index_, step.section}, head_.data(), columns);
    activate(where);
  }

  // Into head_, half a row of the map at a time: its positions lie two rows of memory apart.
  void parameters(const Code& step) {
    const Stack& stack = step.parameters;
    const Region& region = step.region;
    const std::size_t columns = stack.back().columns(), w = size_.width;
    const View from = block(step.from);
    Vector<std::size_t> begin;  // of each row's positions
    std::size_t sum = 0;
    for (std::size_t r = region.row; r < size_.height; sum += region.count(r, w), r += region.row_step) {
      begin.push_back(sum);
    }
    constexpr std::size_t kBand = 2;  // rows of the map
    parallel_for((begin.size() + kBand - 1) / kBand, run_.tools.team, [&](std::size_t band) {
      Buffer<std::int16_t> hidden[2];
      for (std::size_t k = band * kBand; k < std::min(begin.size(), (band + 1) * kBand); ++k) {
        const std::size_t r = region.row + k * region.row_step, count = region.count(r, w);
        if (count == 0) continue;
        const std::int16_t* a = from.at(r, region.first(r));
        std::size_t stride = region.step() * from.stride;
        for (std::size_t l = 0; l + 1 < stack.size(); ++l) {
          Buffer<std::int16_t>& to = hidden[l % 2];
          to.resize(count * stack[l].columns());
          apply(stack[l], a, stride, count, to.data(), stack[l].columns(), run_.tools);
          a = to.data();
          stride = stack[l].columns();
        }
        apply_head(stack.back(), a, stride, count, &head_[begin[k] * columns], run_.tools);
      }
    });
  }

  // Activations of the group at these positions, for the networks behind; none where no network reads them.
  void activate(std::span<const std::size_t> where) {
    if (run_.model.row == 0) return;
    const View to = block(group().block);
    each_run(where.size(), run_.tools.team, [&](std::size_t first, std::size_t last) {
      Buffer<std::int32_t> wide(padded(group().channels));
      for (std::size_t i = first; i < last; ++i) {
        run_.activate(where[i], group().first, group().channels, group().input, wide, to.at(where[i]));
      }
    });
  }

  void take(const Residual& step) {
    const View residue = residue_.shape(size_.height, size_.width, group().channels);
    nn::run(step.stack, read(step.from), residue, scratch_, run_.tools);
    const Vector<std::size_t> where = Region::of(step.colour).list(size_.height, size_.width);
    for (const std::size_t position : where) {
      std::int32_t* latent = run_.out.y + position * run_.model.latent_channels + group().first;
      for (std::size_t k = 0; k < group().channels; ++k) {
        latent[k] += run_.model.tables.tanh[static_cast<std::size_t>(residue.at(position)[k] + 2048)];
      }
    }
    activate(where);
  }

  const Run& run_;
  const Size size_;
  const Source hyper_input_;
  std::size_t index_ = 0;
  Buffer<std::int16_t> rows_;  // [positions][model.row]
  Buffer<std::int32_t> head_;  // of the pass in flight
  Plane packed_, others_, anchors_, residue_, scratch_[2];
  attention::Workspace work_;
};

}  // namespace

void run_board(const Run& run, const Source& hyper_input) { Board(run, hyper_input).all(); }

}  // namespace fastlic::latents

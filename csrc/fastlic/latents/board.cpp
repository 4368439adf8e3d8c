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
using nn::Ends;
using nn::Source;
using View = nn::Target;

// Group after group, step after step.
class Board {
 public:
  explicit Board(const Run& run) : run_(run), size_(run.size), rows_(size_.positions() * run.model.row) {
    if (run.out.y != nullptr || run.model.row == 0) return;
    std::size_t widest = 0;
    for (const Group& own : run.model.groups) widest = std::max(widest, own.channels);
    own_.resize(size_.positions() * widest);
  }

  void all() {
    hyper();
    Progress::done(run_.hyper_work);
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
  // Of the group in flight; of a pass where no network reads them.
  Latents latents() {
    if (run_.out.y == nullptr) return {own_.data(), group().channels, run_.model.row == 0};
    return {run_.out.y + group().first, run_.model.latent_channels};
  }
  View block(std::size_t offset) { return {rows_.data() + offset, run_.model.row, size_.height, size_.width}; }
  Source read(std::size_t offset) { return as_source(block(offset)); }
  Ends reading(std::size_t offset) {
    Ends ends;
    ends.from = read(offset);
    return ends;
  }

  void hyper() {
    const auto& blocks = run_.model.hyper_blocks;
    if (blocks.empty()) return;
    Ends ends;
    if (blocks.size() == 1) {
      ends.to = block(blocks[0]);
      return run_.hyper(std::move(ends));
    }
    const std::size_t channels = run_.model.hyper.output().channels / blocks.size();
    ends.size = size_.map();
    ends.take = [&, channels](nn::Rows rows, const Source& features) {
      for (std::size_t p = rows.first * size_.width; p < rows.last * size_.width; ++p) {
        for (std::size_t b = 0; b < blocks.size(); ++b) {
          std::copy_n(features.at(p) + b * channels, channels, block(blocks[b]).at(p));
        }
      }
    };
    run_.hyper(std::move(ends));
  }

  void take(const Context& step) {
    Ends ends;
    if (step.pieces.empty()) {
      ends.from = read(step.from);
    } else {
      ends.feed = [&](nn::Rows rows, const View& out) {
        for (std::size_t p = rows.first * size_.width; p < rows.last * size_.width; ++p) {
          std::int16_t* to = out.at(p);
          for (const Context::Piece& piece : step.pieces) to = std::copy_n(block(piece.offset).at(p), piece.size, to);
        }
      };
    }
    ends.to = block(step.to);
    nn::run(step.network, size_.map(), ends, run_.tools);
  }

  void take(const BoardContext& step) {
    convolve_at(step.layer, read(step.from), Region::of(step.colour).list(0, size_.height, size_.width), block(step.to),
                run_.tools);
  }

  void take(const InterContext& step) {
    const bool enough = step.net.channels <= step.size;
    inter_context(step.net, run_.model.linear, read(step.from), block(step.to),
                  enough ? std::optional(block(step.room)) : std::nullopt, work_, run_.tools);
  }

  void take(const IntraContext& step) {
    intra_context(step.net, run_.model.linear, read(step.previous), read(group().block), block(step.to), work_,
                  run_.tools);
  }

  void take(const LocalContext& step) {
    const attention::Latents own{latents().data, latents().stride, group().channels};
    local_context(step.net, own, block(step.to), work_, run_.tools);
  }

  // Scales and means from hyper synthesis itself, from convolutions, or from 1x1 layers at some positions.
  void take(const Code& step) {
    if (step.region.all) {
      Ends ends = step.parameters.steps.empty() ? Ends{} : reading(step.from);
      ends.size = size_.map();
      ends.take_wide = [&](nn::Rows rows, const nn::View<const std::int32_t>& head) {
        code(step, rows, head.at(rows.first, 0), head.stride);
      };
      return step.parameters.steps.empty() ? run_.hyper(std::move(ends))
                                           : nn::run(step.parameters, size_.map(), ends, run_.tools);
    }
    const std::size_t columns = step.parameters.layer(step.parameters.steps.size() - 1).columns();
    const std::size_t band = pass_rows(size_, columns);
    for (std::size_t first = 0; first < size_.height; first += band) {
      const nn::Rows rows{first, std::min(first + band, size_.height)};
      parameters(step, rows, columns);
      code(step, rows, head_.data(), columns);
    }
  }

  // No network that the head came from reads what this writes.
  void code(const Code& step, nn::Rows rows, const std::int32_t* head, std::size_t stride) {
    const Vector<std::size_t> where = step.region.list(rows.first, rows.last, size_.width);
    if (where.empty()) return;  // a map of one row has no odd ones
    if (latents().dense && own_.size() < where.size() * group().channels) own_.resize(where.size() * group().channels);
    run_.code({where, group().first, group().channels, index_, step.section}, head, stride, latents());
    activate(where);
  }

  // Into head_, half a row of the map at a time: its positions lie two rows of memory apart.
  void parameters(const Code& step, nn::Rows rows, std::size_t columns) {
    const nn::Network& network = step.parameters;
    const Region& region = step.region;
    const std::size_t last = network.steps.size() - 1, w = size_.width;
    const View from = block(step.from);
    struct Line {
      std::size_t row, begin;
    };
    Vector<Line> lines;
    std::size_t sum = 0;
    for (std::size_t r = region.begin(rows.first); r < rows.last; r += region.row_step) {
      lines.push_back({r, sum});
      sum += region.count(r, w);
    }
    head_.resize(sum * columns);
    constexpr std::size_t kBand = 2;  // rows of the map
    parallel_for((lines.size() + kBand - 1) / kBand, run_.tools.team, [&](std::size_t band) {
      Buffer<std::int16_t> hidden[2];
      for (std::size_t k = band * kBand; k < std::min(lines.size(), (band + 1) * kBand); ++k) {
        const std::size_t r = lines[k].row, count = region.count(r, w);
        if (count == 0) continue;
        const std::int16_t* a = from.at(r, region.first(r));
        std::size_t stride = region.step() * from.stride;
        for (std::size_t l = 0; l < last; ++l) {
          Buffer<std::int16_t>& to = hidden[l % 2];
          const std::size_t wide = network.layer(l).columns();
          to.resize(count * wide);
          apply(network.layer(l), a, stride, count, to.data(), wide, run_.tools);
          a = to.data();
          stride = wide;
        }
        apply(network.layer(last), a, stride, count, &head_[lines[k].begin * columns], columns, run_.tools);
      }
    });
  }

  // Activations of the group at these positions, for the networks behind; none where no network reads them.
  void activate(std::span<const std::size_t> where) {
    if (run_.model.row == 0) return;
    const View to = block(group().block);
    each_run(where.size(), run_.tools.team, [&](std::size_t first, std::size_t last) {
      for (std::size_t i = first; i < last; ++i) {
        const std::int32_t* from = latents().data + where[i] * latents().stride;
        nn::activate(from, group().input, to.at(where[i]), run_.tools.kernels);
      }
    });
  }

  void take(const Residual& step) {
    const Region region = Region::of(step.colour);
    Ends ends = reading(step.from);
    ends.take = [&](nn::Rows rows, const Source& residue) {
      for (const std::size_t position : region.list(rows.first, rows.last, size_.width)) {
        std::int32_t* latent = latents().data + position * latents().stride;
        for (std::size_t k = 0; k < group().channels; ++k) {
          latent[k] += run_.model.tables.tanh[static_cast<std::size_t>(residue.at(position)[k] + 2048)];
        }
      }
    };
    nn::run(step.network, size_.map(), ends, run_.tools);
    // Not before: rows below still read them.
    const std::size_t band = pass_rows(size_, padded(group().channels));
    for (std::size_t first = 0; first < size_.height; first += band) {
      activate(region.list(first, std::min(first + band, size_.height), size_.width));
    }
  }

  const Run& run_;
  const Size size_;
  std::size_t index_ = 0;
  Buffer<std::int16_t> rows_;  // [positions][model.row]
  Buffer<std::int32_t> own_;   // latents of the group in flight, where nobody asks for all of them
  Buffer<std::int32_t> head_;  // of a band of the pass in flight
  attention::Workspace work_;
};

}  // namespace

void run_board(const Run& run) { Board(run).all(); }

}  // namespace fastlic::latents

// The wavefront: all positions of equal column + 3 row together, the passes of fastlic/entropy/wavefront.py.
#include <algorithm>
#include <cstring>

#include "fastlic/latents/schedules.hpp"
#include "fastlic/memory.hpp"
#include "fastlic/nn/tiles.hpp"
#include "fastlic/parallel.hpp"
#include "fastlic/progress.hpp"

namespace fastlic::latents {
namespace {

// The context reaches two rows up and two columns to either side.
constexpr std::size_t kReach = 2;
// Rows above, then the columns to the left: in this order the taps of a row lie next to each other (model.py's order).
constexpr std::size_t kFullTaps = 2 * kReach + 1, kLeftTaps = kReach;
static_assert(kReach * kFullTaps + kLeftTaps == kContextTaps);

// The hyperprior's share of the first parameter layer, bias included: of a window of positions, [rows][columns] of it.
class HyperShare {
 public:
  HyperShare(const Layer& layer, const nn::Source& features, const ShareWindow& window, const nn::Tools& tools)
      : layer_(layer),
        features_(features),
        window_(window),
        tools_(tools),
        values_(window.rows * window.columns * layer.columns()) {
    if (!whole()) return;
    const std::size_t positions = features.positions();
    parallel_for((positions + kTile - 1) / kTile, tools.team, [&](std::size_t tile) {
      const std::size_t first = tile * kTile;
      make(features_.at(first), std::min(kTile, positions - first), &values_[first * layer_.columns()]);
    });
  }

  // Makes what rows first.. need at the columns t - 3 row, which they reach one after the other.
  void reach(std::size_t t, std::size_t first_row, std::size_t rows) {
    if (whole()) return;
    begin_.clear();
    for (std::size_t row = first_row; row < first_row + rows; ++row) {
      if ((t - 3 * row) % window_.columns == 0) begin_.push_back(row);
    }
    parallel_for(begin_.size(), tools_.team, [&](std::size_t i) {
      const std::size_t row = begin_[i], column = t - 3 * row;
      make(features_.at(row, column), std::min(window_.columns, features_.width - column), at(row, column));
    });
  }

  std::int32_t* at(std::size_t row, std::size_t column) noexcept {
    return &values_[(row % window_.rows * window_.columns + column % window_.columns) * layer_.columns()];
  }

 private:
  static constexpr std::size_t kTile = ShareWindow::kTile;

  bool whole() const noexcept { return window_.columns == features_.width && window_.rows == features_.height; }
  void make(const std::int16_t* features, std::size_t count, std::int32_t* out) const {
    const nn::Part& part = layer_.parts[0];
    const std::int32_t* start[kTile];
    std::fill_n(start, count, part.bias.data());
    tools_.kernels.multiply(job_of(features, features_.stride, count, part.weights, start, out));
  }

  const Layer& layer_;
  const nn::Source features_;
  const ShareWindow window_;
  const nn::Tools& tools_;
  Buffer<std::int32_t> values_;
  Vector<std::size_t> begin_;  // rows that begin a tile
};

// All positions of one wavefront are coded together.
class Steps {
 public:
  Steps(const Run& run, const nn::Source& features)
      : run_(run),
        net_(*run.model.wavefront),
        height_(features.height),
        width_(features.width),
        batch_(std::min(height_, (width_ + 2) / 3)),
        share_(net_.share, features, share_window(run.model, run.size), run.tools),
        gathered_(batch_ * net_.context.depth),
        dense_(run.out.y != nullptr ? 0 : batch_ * run.model.latent_channels),
        sums_(batch_ * widest()),
        activations_(batch_ * widest()),
        start_(batch_),
        where_(batch_) {
    const nn::Target seen = seen_.shape(height_ + kReach, width_ + 2 * kReach, run.model.latent_channels);
    std::fill_n(seen.data, seen.positions() * seen.stride, std::int16_t{0});
  }

  // Position (r, c) reads nothing of equal or larger t = c + 3r but itself.
  void all() {
    for (std::size_t t = 0; t < width_ + 3 * (height_ - 1); ++t) {
      const std::size_t first = t < width_ ? 0 : (t - width_) / 3 + 1;
      const std::size_t last = std::min(height_ - 1, t / 3);
      if (first > last) continue;
      step(t, first, last - first + 1);
      Progress::done(run_.work * static_cast<double>(last - first + 1));
    }
  }

 private:
  // Columns of the widest row of sums.
  std::size_t widest() const {
    std::size_t columns = net_.context.columns();
    for (const Layer& layer : net_.parameters) columns = std::max(columns, layer.columns());
    return columns;
  }

  void step(std::size_t t, std::size_t first_row, std::size_t n) {
    const nn::ReadyTiles ready(run_.tools.kernels);  // not while others are told of progress, who may run anything
    const std::size_t depth = net_.context.depth;
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t row = first_row + i, column = t - 3 * row;
      where_[i] = row * width_ + column;
      gather(row, column, &gathered_[i * depth]);
    }
    share_.reach(t, first_row, n);
    apply(net_.context, gathered_.data(), n, false);
    const Layer& last = net_.parameters.back();
    for (const Layer& layer : net_.parameters) {
      apply(layer, activations_.data(), n, &layer == &net_.parameters.front());
    }
    // The last layer's accumulators become fixed-point scales and means, in place.
    const std::size_t columns = last.columns(), m = run_.model.latent_channels;
    for (std::size_t i = 0; i < n; ++i) {
      std::int32_t* row = &sums_[i * columns];
      run_.tools.kernels.requantise32(row, last.parts[0].requantiser, {0, columns}, row);
    }
    const Pass pass{{where_.data(), n}, 0, m};
    const Latents latents = run_.out.y != nullptr ? Latents{run_.out.y, m} : Latents{dense_.data(), m, true};
    run_.code(pass, sums_.data(), columns, latents);
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t row = first_row + i, column = t - 3 * row;
      nn::activate(latents.at(pass, i), run_.model.y_input, seen_.target().at(row + kReach, column + kReach),
                   run_.tools.kernels);
    }
  }

  // One matrix product; all layers but the last leave activations, the last leaves accumulators.
  void apply(const Layer& layer, const std::int16_t* inputs, std::size_t n, bool on_hyper_share) {
    const nn::Part& part = layer.parts[0];
    const std::size_t columns = layer.columns();
    for (std::size_t i = 0; i < n; ++i) {
      start_[i] = on_hyper_share ? share_.at(where_[i] / width_, where_[i] % width_) : part.bias.data();
    }
    run_.tools.kernels.multiply(job_of(inputs, layer.depth, n, part.weights, start_.data(), sums_.data()));
    if (&layer == &net_.parameters.back()) return;
    for (std::size_t i = 0; i < n; ++i) {
      run_.tools.kernels.requantise16(&sums_[i * columns], part.requantiser, {0, columns}, &activations_[i * columns]);
    }
  }

  void gather(std::size_t row, std::size_t column, std::int16_t* out) {
    const nn::Source seen = seen_.source();
    for (std::size_t above = 0; above < kReach; ++above, out += kFullTaps * seen.stride) {
      std::memcpy(out, seen.at(row + above, column), kFullTaps * seen.stride * sizeof *out);
    }
    std::memcpy(out, seen.at(row + kReach, column), kLeftTaps * seen.stride * sizeof *out);
  }

  const Run& run_;
  const Wavefront& net_;
  std::size_t height_, width_, batch_;
  HyperShare share_;
  nn::Plane seen_;  // activations of the latent so far, inside a border of zeros
  Buffer<std::int16_t> gathered_;
  Buffer<std::int32_t> dense_;  // latents of the step in flight, where nobody asks for all of them
  Buffer<std::int32_t> sums_;
  Buffer<std::int16_t> activations_;
  Buffer<const std::int32_t*> start_;
  Buffer<std::size_t> where_;
};

}  // namespace

ShareWindow share_window(const Model& model, Size size) {
  constexpr std::size_t kSmall = std::size_t{16} << 20;  // bytes
  const std::size_t columns = model.wavefront->share.columns();
  if (size.positions() <= kSmall / sizeof(std::int32_t) / columns) return {size.height, size.width};
  return {std::min(size.height, (size.width + 2) / 3), std::min(size.width, ShareWindow::kTile)};
}

void run_wavefront(const Run& run) {
  nn::Plane features;
  nn::Ends ends;
  ends.to = features.shape(run.size.height, run.size.width, run.model.hyper.output().channels);
  run.hyper(std::move(ends));
  Progress::done(run.hyper_work);
  Steps(run, features.source()).all();
}

}  // namespace fastlic::latents

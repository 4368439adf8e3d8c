#include "fastlic/engine/wavefront.hpp"

#include <algorithm>
#include <cstring>

#include "fastlic/parallel.hpp"

namespace fastlic::engine {
namespace {

// The context reaches two rows up and two columns to either side.
constexpr std::size_t kReach = 2;
// Rows above, then the columns to the left: in this order the taps of a row lie next to each other (model.py's order).
constexpr std::size_t kFullTaps = 2 * kReach + 1, kLeftTaps = kReach;
static_assert(kReach * kFullTaps + kLeftTaps == kContextTaps);

// Positions of one pass: scale indexes and symbols of all of them, then their latents.
// head: [n][head_stride], scales then means.
void code_positions(const Model& model, std::span<const std::size_t> where, const std::int32_t* head,
                    std::size_t head_stride, SymbolSource& source, std::int32_t* y, const Kernels& kernels) {
  const std::size_t m = model.latent_channels();
  std::uint8_t* indexes = source.indexes(where.size());
  for (std::size_t i = 0; i < where.size(); ++i) {
    kernels.choose(head + i * head_stride, m, model.thresholds, indexes + i * m);
  }
  const std::int32_t* means = head + m;
  const std::int32_t* symbols = source.symbols(where, means, head_stride);
  for (std::size_t i = 0; i < where.size(); ++i) {
    if (model.offsets.empty()) {
      kernels.reconstruct(symbols + i * m, means + i * head_stride, m, y + where[i] * m);
    } else {
      kernels.reconstruct_offset(symbols + i * m, means + i * head_stride, indexes + i * m, model.offsets.data(), m,
                                 y + where[i] * m);
    }
  }
}

// The hyperprior's share of the first parameter layer, bias included, for all positions: [positions][columns].
Buffer<std::int32_t> hyper_share(const Model& model, const Map<std::int16_t>& features, const Kernels& kernels,
                                 unsigned threads) {
  constexpr std::size_t kTile = 48;
  const std::size_t positions = features.height * features.width, columns = model.of_hyper.columns;
  Buffer<std::int32_t> out(positions * columns);
  parallel_for((positions + kTile - 1) / kTile, threads, [&](std::size_t tile) {
    const std::size_t first = tile * kTile, count = std::min(kTile, positions - first);
    const std::int32_t* start[kTile];
    std::fill_n(start, count, model.parameters.front().bias.data());
    kernels.multiply(
        job_of(features.at(0, first), features.row_size, count, model.of_hyper, start, &out[first * columns]));
  });
  return out;
}

class Wavefront {
 public:
  Wavefront(const Model& model, const Map<std::int16_t>& features, SymbolSource& source, std::int32_t* y,
            const Kernels& kernels, unsigned threads)
      : model_(model),
        source_(source),
        y_(y),
        kernels_(kernels),
        height_(features.height),
        width_(features.width),
        batch_(std::min(height_, (width_ + 2) / 3)),
        share_(hyper_share(model, features, kernels, threads)),
        seen_(height_ + kReach, width_ + 2 * kReach, model.latent_channels()),
        gathered_(batch_ * model.context.phases[0].weights.depth),
        latent_(seen_.row_size),
        sums_(batch_ * model.widest()),
        activations_(batch_ * model.widest()),
        start_(batch_),
        where_(batch_) {}

  // Position (r, c) reads nothing of equal or larger t = c + 3r but itself.
  void run() {
    for (std::size_t t = 0; t < width_ + 3 * (height_ - 1); ++t) {
      const std::size_t first = t < width_ ? 0 : (t - width_) / 3 + 1;
      const std::size_t last = std::min(height_ - 1, t / 3);
      if (first <= last) step(t, first, last - first + 1);
    }
  }

 private:
  void step(std::size_t t, std::size_t first_row, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t row = first_row + i, column = t - 3 * row;
      where_[i] = row * width_ + column;
      gather(row, column, &gathered_[i * model_.context.phases[0].weights.depth]);
    }
    apply(model_.context, gathered_.data(), n, false);
    const Layer& last = model_.parameters.back();
    for (const Layer& layer : model_.parameters)
      apply(layer, activations_.data(), n, &layer == &model_.parameters.front());
    // The last layer's accumulators become fixed-point scales and means, in place.
    const std::size_t columns = last.bias.size();
    for (std::size_t i = 0; i < n; ++i) {
      kernels_.requantise32(&sums_[i * columns], last.requantiser, {0, columns}, &sums_[i * columns]);
    }
    code_positions(model_, {where_.data(), n}, sums_.data(), columns, source_, y_, kernels_);
    const std::size_t m = model_.latent_channels();
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t row = first_row + i, column = t - 3 * row;
      std::memcpy(latent_.data(), y_ + where_[i] * m, m * sizeof(std::int32_t));
      kernels_.requantise16(latent_.data(), model_.y_input, {0, seen_.row_size},
                            seen_.at(row + kReach, column + kReach));
    }
  }

  // One matrix product; all layers but the last leave activations, the last leaves accumulators.
  void apply(const Layer& layer, const std::int16_t* inputs, std::size_t n, bool on_hyper_share) {
    const PackedMatrix& weights = layer.phases[0].weights;
    for (std::size_t i = 0; i < n; ++i) {
      start_[i] = on_hyper_share ? &share_[where_[i] * weights.columns] : layer.bias.data();
    }
    kernels_.multiply(job_of(inputs, weights.depth, n, weights, start_.data(), sums_.data()));
    if (&layer == &model_.parameters.back()) return;
    for (std::size_t i = 0; i < n; ++i) {
      kernels_.requantise16(&sums_[i * weights.columns], layer.requantiser, {0, weights.columns},
                            &activations_[i * weights.columns]);
    }
  }

  void gather(std::size_t row, std::size_t column, std::int16_t* out) {
    const std::size_t size = seen_.row_size;
    for (std::size_t above = 0; above < kReach; ++above, out += kFullTaps * size) {
      std::memcpy(out, seen_.at(row + above, column), kFullTaps * size * sizeof *out);
    }
    std::memcpy(out, seen_.at(row + kReach, column), kLeftTaps * size * sizeof *out);
  }

  const Model& model_;
  SymbolSource& source_;
  std::int32_t* y_;
  const Kernels& kernels_;
  std::size_t height_, width_, batch_;
  Buffer<std::int32_t> share_;
  Map<std::int16_t> seen_;  // activations of the latent so far, inside a border of zeros
  Buffer<std::int16_t> gathered_;
  Buffer<std::int32_t> latent_;  // one row, its padding stays zero
  Buffer<std::int32_t> sums_;
  Buffer<std::int16_t> activations_;
  Buffer<const std::int32_t*> start_;
  Buffer<std::size_t> where_;
};

}  // namespace

void run_wavefront(const Model& model, const Map<std::int16_t>& features, SymbolSource& source, std::int32_t* y,
                   const Kernels& kernels, unsigned threads) {
  Wavefront(model, features, source, y, kernels, threads).run();
}

void run_parallel(const Model& model, const Map<std::int32_t>& head, SymbolSource& source, std::int32_t* y,
                  const Kernels& kernels) {
  Buffer<std::size_t> where(head.height * head.width);
  for (std::size_t i = 0; i < where.size(); ++i) where[i] = i;
  code_positions(model, {where.data(), where.size()}, head.data.data(), head.row_size, source, y, kernels);
}

}  // namespace fastlic::engine

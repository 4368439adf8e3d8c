#include "fastlic/float_convolution.hpp"

#include <algorithm>
#include <array>

#include "fastlic/errors.hpp"
#include "fastlic/isa.hpp"
#include "fastlic/memory.hpp"
#include "fastlic/parallel.hpp"

// Outputs are A^T [(G g G^T) * (B^T d B)] A. Points of F(4x4, 3x3) are 0, 1, -1, 1/2, -2 and infinity, which lose the
// fewest bits (Barabasz et al. 2018):
//
//         2 -3 -4  3  2  0         1/2     0     0
//         0 -2  1  5  2  0         1/6    1/6   1/6            1  1  1   1   1  0
//   B^T = 0 -2  5 -1 -2  0     G = 1/6   -1/6   1/6      A^T = 0  1 -1  1/2 -2  0
//         0  2  1 -2 -1  0        16/15   8/15  4/15           0  1  1  1/4  4  0
//         0  1 -2 -1  2  0         1/30  -2/30  4/30           0  1 -1  1/8 -8  1
//         0  2 -3 -4  3  2          0      0    1/2
//
// A kernel whose first or last tap is none has nothing at the point 0 or at infinity.
namespace fastlic {
namespace {

constexpr std::size_t kTileSide = 6, kComponents = kTileSide * kTileSide, kOutputSide = 4;

// Products that are added up in float32 one after the other.
constexpr std::size_t kBlock = 32;
// Inputs are a multiple of it: the widest vector.
constexpr std::size_t kUnit = 16;

struct WinogradKernels {
  void (*transform_kernels)(const float* taps, float* const* out);
  void (*transform_inputs)(const float* const* tile, std::size_t channels, float* const* out);
  void (*multiply)(const float* a, std::size_t rows, std::size_t depth, const float* b, std::size_t panels, float* out);
  void (*transform_outputs)(const float* const* products, const float* bias, std::size_t channels, float* const* out);
  std::size_t panel;  // outputs side by side
  std::size_t rows;   // tiles multiplied at a time
};

}  // namespace
}  // namespace fastlic

#define FASTLIC_BODY "fastlic/float_convolution_body.hpp"
#include "fastlic/simd/for_each_target.hpp"

namespace fastlic {
namespace {

const WinogradKernels& kernels_of(Isa isa) { FASTLIC_CHOOSE(isa, kKernels); }

// Tiles that are worked on together: a megabyte of transformed inputs and of products, but as many as reuse kernels
// that come from the last cache.
constexpr std::size_t kTogether = std::size_t{1} << 18, kFewestTiles = 36, kMostTiles = 96;

constexpr std::size_t kNone = static_cast<std::size_t>(-1);
using Taps = std::array<std::size_t, 3>;  // of the kernel, at the position before, here and behind

// Along one axis: taps on positions of one parity of the inputs (down) or for one of the outputs (up).
Taps taps_of(Stride stride, std::size_t parity) {
  switch (stride) {
    case Stride::down: return parity == 0 ? Taps{0, 2, 4} : Taps{1, 3, kNone};
    case Stride::up: return parity == 0 ? Taps{4, 2, 0} : Taps{kNone, 3, 1};
    default: return {0, 1, 2};
  }
}

std::size_t side_of(Stride stride) { return stride == Stride::one ? 3 : 5; }

bool has(const Taps& taps, std::size_t point) {
  return point == 0 ? taps[0] != kNone : point + 1 == kTileSide ? taps[2] != kNone : true;
}

// What one part of the inputs brings to one part of the outputs; a part is a parity along both axes.
struct Link {
  Taps rows, columns;

  bool feeds(std::size_t component) const {
    return has(rows, component / kTileSide) && has(columns, component % kTileSide);
  }
};

class Winograd {
 public:
  Winograd(const MapConvolution& map, const WinogradKernels& kernels)
      : map_(map),
        kernels_(kernels),
        read_(map.stride == Stride::down ? 2 : 1),
        written_(map.stride == Stride::up ? 2 : 1),
        panels_((map.outputs + kernels.panel - 1) / kernels.panel) {
    for (std::size_t part = 0; part < read_ * read_ * written_ * written_; ++part) {
      const std::size_t row = part / (read_ * written_), column = part % (read_ * written_);
      links_.push_back({taps_of(map.stride, row), taps_of(map.stride, column)});
    }
    for (std::size_t k = 0; k < kComponents; ++k) {
      for (std::size_t phase = 0; phase < phases(); ++phase) {
        // Inputs of all parts of the outputs: one has all its taps.
        place_[k][phase] = links_[phase].feeds(k) || written_ == 2 ? depth_[k] : kNone;
        if (place_[k][phase] != kNone) depth_[k] += map.inputs;
      }
      numbers_ += depth_[k];
    }
  }

  void take(std::span<const float> weight, unsigned threads) {
    const std::size_t panel = kernels_.panel, taps = side_of(map_.stride) * side_of(map_.stride);
    for (std::size_t part = 0; part < parts(); ++part) {
      for (std::size_t k = 0; k < kComponents; ++k) {
        begins_[part][k] = size_;
        if (fed(part, k)) size_ += depth_[k] * panels_ * panel;
      }
    }
    weights_.resize(size_);
    const bool up = map_.stride == Stride::up;
    parallel_for(panels_ * links_.size(), threads, [&](std::size_t job) {
      const std::size_t own = job / links_.size(), number = job % links_.size();
      const std::size_t phase = up ? 0 : number, part = up ? number : 0, first = own * panel;
      const Link& link = links_[number];
      Vector<float> g(9 * panel, 0.0f);
      for (std::size_t c = 0; c < map_.inputs; ++c) {
        for (std::size_t i = 0; i < 9; ++i) {
          const std::size_t row = link.rows[i / 3], column = link.columns[i % 3];
          if (row == kNone || column == kNone) continue;
          const float* from = weight.data() + row * side_of(map_.stride) + column;
          for (std::size_t o = 0; o < panel && first + o < map_.outputs; ++o) {
            g[i * panel + o] = from[(up ? c * map_.outputs + first + o : (first + o) * map_.inputs + c) * taps];
          }
        }
        float* to[kComponents];
        for (std::size_t k = 0; k < kComponents; ++k) {
          to[k] =
              link.feeds(k) ? &weights_[begins_[part][k] + (own * depth_[k] + place_[k][phase] + c) * panel] : nullptr;
        }
        kernels_.transform_kernels(g.data(), to);
      }
    });
  }

  void run(const float* x, float* out, std::span<const float> bias, unsigned threads) const {
    const std::size_t columns = panels_ * kernels_.panel;
    Vector<float> start(columns, 0.0f), zeros(std::max(map_.inputs, columns), 0.0f);
    std::copy(bias.begin(), bias.end(), start.begin());
    const std::size_t down = tiles(rows()), across = tiles(this->columns()), all = map_.images * down * across;
    const std::size_t fit = kTogether / (numbers_ + kComponents * columns) / kernels_.rows * kernels_.rows;
    const std::size_t workers = thread_count(threads, all);
    const std::size_t together = std::min(std::clamp(fit, kFewestTiles, kMostTiles), (all + workers - 1) / workers);
    parallel_for((all + together - 1) / together, threads, [&](std::size_t chunk) {
      const std::size_t first = chunk * together, count = std::min(together, all - first);
      const std::size_t room = std::max(count, kernels_.rows);
      thread_local Scratch<Vector<float>> kept;
      Vector<float>& scratch = kept.values;
      scratch.resize(std::max(scratch.size(), room * (numbers_ + kComponents * columns)));
      std::array<float*, kComponents> inputs, products;
      float* next = scratch.data();
      for (std::size_t k = 0; k < kComponents; ++k, next += room * depth_[k - 1]) inputs[k] = next;
      for (std::size_t k = 0; k < kComponents; ++k, next += room * columns) products[k] = next;
      for (std::size_t i = 0; i < count; ++i) {
        for (std::size_t phase = 0; phase < phases(); ++phase) enter(x, first + i, phase, zeros.data(), inputs, i);
      }
      for (std::size_t part = 0; part < parts(); ++part) {
        for (std::size_t k = 0; k < kComponents; ++k) {
          if (!fed(part, k)) continue;
          kernels_.multiply(inputs[k], count, depth_[k], &weights_[begins_[part][k]], panels_, products[k]);
        }
        for (std::size_t i = 0; i < count; ++i) leave(products, i, part, zeros.data(), start.data(), out, first + i);
      }
    });
  }

 private:
  struct Tile {
    std::size_t image, row, column;  // of its first output, before sizes are doubled
  };

  std::size_t phases() const { return read_ * read_; }
  std::size_t parts() const { return written_ * written_; }
  // Positions that tiles cover.
  std::size_t rows() const { return (map_.height + read_ - 1) / read_; }
  std::size_t columns() const { return (map_.width + read_ - 1) / read_; }
  static std::size_t tiles(std::size_t positions) { return (positions + kOutputSide - 1) / kOutputSide; }
  bool fed(std::size_t part, std::size_t k) const { return written_ == 2 ? links_[part].feeds(k) : depth_[k] > 0; }

  Tile tile(std::size_t number) const {
    const std::size_t across = tiles(columns()), each = tiles(rows()) * across, within = number % each;
    return {number / each, within / across * kOutputSide, within % across * kOutputSide};
  }

  void enter(const float* x, std::size_t number, std::size_t phase, const float* zeros,
             const std::array<float*, kComponents>& inputs, std::size_t i) const {
    const auto [image, top, left] = tile(number);
    const float* from[kComponents];
    float* to[kComponents];
    for (std::size_t k = 0; k < kComponents; ++k) {
      // One position before the tile; above and left of the map wraps to large.
      const std::size_t row = read_ * (top + k / kTileSide - 1) + phase / read_;
      const std::size_t column = read_ * (left + k % kTileSide - 1) + phase % read_;
      const bool inside = row < map_.height && column < map_.width;
      from[k] = inside ? x + ((image * map_.height + row) * map_.width + column) * map_.inputs : zeros;
      to[k] = place_[k][phase] != kNone ? inputs[k] + i * depth_[k] + place_[k][phase] : nullptr;
    }
    kernels_.transform_inputs(from, map_.inputs, to);
  }

  void leave(const std::array<float*, kComponents>& products, std::size_t i, std::size_t part, const float* zeros,
             const float* start, float* out, std::size_t number) const {
    const auto [image, top, left] = tile(number);
    const std::size_t height = written_ * rows(), width = written_ * columns();
    const float* from[kComponents];
    for (std::size_t k = 0; k < kComponents; ++k) {
      from[k] = fed(part, k) ? products[k] + i * panels_ * kernels_.panel : zeros;
    }
    float* to[kOutputSide * kOutputSide];
    for (std::size_t k = 0; k < kOutputSide * kOutputSide; ++k) {
      const std::size_t row = written_ * (top + k / kOutputSide) + part / written_;
      const std::size_t column = written_ * (left + k % kOutputSide) + part % written_;
      to[k] = row < height && column < width ? out + ((image * height + row) * width + column) * map_.outputs : nullptr;
    }
    kernels_.transform_outputs(from, start, map_.outputs, to);
  }

  const MapConvolution& map_;
  const WinogradKernels& kernels_;
  std::size_t read_, written_;  // how far apart neighbours are that a tile reads, and writes
  std::size_t panels_;
  Vector<Link> links_;  // by part of the inputs or of the outputs
  std::array<std::size_t, kComponents> depth_{};
  std::array<std::array<std::size_t, 4>, kComponents> place_{};  // of each part of the inputs among a component's
  std::array<std::array<std::size_t, kComponents>, 4> begins_{};
  std::size_t numbers_ = 0, size_ = 0;  // of a tile's transformed inputs, and of all kernels
  Vector<float> weights_;               // by part and component: [panels][depth][panel]
};

}  // namespace

void float_convolution(std::span<const float> x, std::span<float> out, std::span<const float> weight,
                       std::span<const float> bias, const MapConvolution& map, unsigned threads) {
  const WinogradKernels& kernels = kernels_of(active_isa());
  if (map.inputs == 0 || map.inputs % kUnit != 0 || map.outputs == 0) {
    throw InvalidArgument("convolution: inputs must be a multiple of " + to_string(kUnit) + ", got " +
                          to_string(map.inputs) + " and " + to_string(map.outputs) + " outputs");
  }
  const std::size_t side = side_of(map.stride), pixels = map.images * map.height * map.width;
  const std::size_t made = map.stride == Stride::one  ? pixels
                           : map.stride == Stride::up ? 4 * pixels
                                                      : map.images * ((map.height + 1) / 2) * ((map.width + 1) / 2);
  if (x.size() != pixels * map.inputs || out.size() != made * map.outputs ||
      weight.size() != map.inputs * map.outputs * side * side || (!bias.empty() && bias.size() != map.outputs)) {
    throw InvalidArgument("convolution: x of " + to_string(x.size()) + ", out of " + to_string(out.size()) +
                          ", weight of " + to_string(weight.size()) + " and bias of " + to_string(bias.size()) +
                          " numbers do not fit " + to_string(pixels) + " pixels, " + to_string(map.inputs) +
                          " inputs and " + to_string(map.outputs) + " outputs");
  }
  if (pixels == 0) return;
  Winograd winograd(map, kernels);
  winograd.take(weight, threads);
  winograd.run(x.data(), out.data(), bias, threads);
}

}  // namespace fastlic

#include "fastlic/gdn.hpp"

#include <algorithm>

#include "fastlic/errors.hpp"
#include "fastlic/isa.hpp"
#include "fastlic/memory.hpp"
#include "fastlic/parallel.hpp"

namespace fastlic {
namespace {

// Rows that a thread takes at a time.
constexpr std::size_t kChunk = 768;

// gamma: [panels][channels][panel], panel outputs side by side, zero beyond the last channel; beta: [panels * panel].
struct GdnJob {
  const float* gamma;
  const float* beta;
  std::size_t channels;
  bool inverse;
};

struct GdnKernel {
  // squares: scratch of rows_per_tile * channels.
  void (*run)(const GdnJob&, const float* x, float* out, std::size_t rows, float* squares);
  std::size_t panel;          // outputs computed side by side
  std::size_t rows_per_tile;  // positions computed side by side
};

}  // namespace
}  // namespace fastlic

#define FASTLIC_BODY "fastlic/gdn_body.hpp"
#include "fastlic/simd/for_each_target.hpp"

namespace fastlic {
namespace {

const GdnKernel& kernel_of(Isa isa) { FASTLIC_CHOOSE(isa, kKernel); }

}  // namespace

void gdn(std::span<const float> x, std::span<float> out, std::span<const float> beta, std::span<const float> gamma,
         bool inverse, unsigned threads) {
  const std::size_t channels = beta.size();
  if (channels == 0 || gamma.size() != channels * channels || x.size() % channels != 0 || out.size() != x.size()) {
    throw InvalidArgument("gdn: " + to_string(channels) + " channels do not fit gamma of " + to_string(gamma.size()) +
                          ", x of " + to_string(x.size()) + " and out of " + to_string(out.size()) + " numbers");
  }
  const GdnKernel& kernel = kernel_of(active_isa());
  const std::size_t panels = (channels + kernel.panel - 1) / kernel.panel;
  Vector<float> packed(panels * kernel.panel * channels, 0.0f);
  Vector<float> shift(panels * kernel.panel, 1.0f);  // 1, so that padding divides by no zero
  std::copy(beta.begin(), beta.end(), shift.begin());
  for (std::size_t i = 0; i < channels; ++i) {
    float* column = packed.data() + i / kernel.panel * channels * kernel.panel + i % kernel.panel;
    for (std::size_t j = 0; j < channels; ++j) column[j * kernel.panel] = gamma[i * channels + j];
  }
  const GdnJob job = {packed.data(), shift.data(), channels, inverse};
  const std::size_t rows = x.size() / channels;
  parallel_for((rows + kChunk - 1) / kChunk, threads, [&](std::size_t chunk) {
    thread_local Scratch<Vector<float>> kept;
    Vector<float>& squares = kept.values;
    squares.resize(std::max(squares.size(), kernel.rows_per_tile * channels));
    const std::size_t first = chunk * kChunk, count = std::min(kChunk, rows - first);
    kernel.run(job, x.data() + first * channels, out.data() + first * channels, count, squares.data());
  });
}

}  // namespace fastlic

// The two orders in which y is coded. Either runs an encoder that knows the latent, or a decoder that reads the stream.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "fastlic/attention/attention.hpp"
#include "fastlic/latents/engine.hpp"

namespace fastlic::latents {

// What is coded together: positions and channels [first, first + channels) of the latent, in one section of the stream.
struct Pass {
  std::span<const std::size_t> where;
  std::size_t first, channels;
  std::size_t group = 0, section = 1;
};

class SymbolSource {
 public:
  virtual ~SymbolSource() = default;
  // Where the scale indexes of the next pass go, [count]; they stay there until the next call.
  virtual std::uint8_t* indexes(std::size_t count) = 0;
  // The pass's symbols [n][channels] after its indexes were written; means are [n][means_stride], `channels` used.
  virtual const std::int32_t* symbols(const Pass& pass, const std::int32_t* means, std::size_t means_stride) = 0;
};

// Where latents of a pass are left, `stride` apart: each at its position, or one behind the other.
struct Latents {
  std::int32_t* data;
  std::size_t stride;
  bool dense = false;

  std::int32_t* at(const Pass& pass, std::size_t i) const noexcept {
    return data + (dense ? i : pass.where[i]) * stride;
  }
};

// One image on its way: what both schedules work with.
struct Run {
  const Model& model;
  const Size size;
  SymbolSource& source;
  const Outputs& out;
  const attention::Tools& tools;
  // As Progress counts it: hyper synthesis, and all passes for a position of y.
  double hyper_work = 0, work = 0;

  // Hyper synthesis, from z's symbols to where `ends` says.
  void hyper(nn::Ends ends) const;

  // head: [n][stride], scales then means of the pass. Leaves its latents in `to`, and its symbols where they are asked.
  void code(const Pass& pass, const std::int32_t* head, std::size_t stride, const Latents& to) const;
};

// For how many positions a wavefront keeps the hyperprior's share of its first parameter layer: all of a small map, of
// a larger one a tile of each row that is in flight.
struct ShareWindow {
  static constexpr std::size_t kTile = 48;
  std::size_t rows, columns;
};
ShareWindow share_window(const Model& model, Size size);

// Rows of a board that are coded together, `columns` numbers for each position: as many as suit the caches.
inline std::size_t pass_rows(Size size, std::size_t columns) {
  constexpr std::size_t kBytes = std::size_t{1} << 20;
  return std::max<std::size_t>(kBytes / (sizeof(std::int32_t) * columns * size.width) / 4 * 4, 4);
}

void run_wavefront(const Run& run);
void run_board(const Run& run);

// job(first, last) for runs of 0..count, each on one thread.
template <typename Job>
void each_run(std::size_t count, Team& team, const Job& job) {
  constexpr std::size_t kRun = 128;
  if (count <= kRun) return job(std::size_t{0}, count);
  parallel_for((count + kRun - 1) / kRun, team, [&](std::size_t i) { job(i * kRun, std::min(count, (i + 1) * kRun)); });
}

}  // namespace fastlic::latents

// GDN, for each instruction set (simd/for_each_target.hpp): kRows positions by two vectors of outputs stay in registers
// while all inputs pass by.
namespace fastlic {
namespace {
namespace FASTLIC_SET {

namespace v = simd::FASTLIC_SET;

constexpr std::size_t kRows = v::kRegisters > 16 ? 12 : 6, kPanel = 2 * v::kLanes;

[[FASTLIC_TARGET]] void run(const GdnJob& job, const float* x, float* out, std::size_t rows, float* squares) {
  const std::size_t channels = job.channels;
  for (std::size_t first = 0; first < rows; first += kRows) {
    const std::size_t count = rows - first < kRows ? rows - first : kRows;
    for (std::size_t r = 0; r < kRows; ++r) {
      // Beyond the end the last row is repeated; its results are not stored.
      const float* row = x + (first + (r < count ? r : count - 1)) * channels;
      float* square = squares + r * channels;
      std::size_t c = 0;
      for (; c + v::kLanes <= channels; c += v::kLanes) v::store(v::load(row + c) * v::load(row + c), square + c);
      for (; c < channels; ++c) square[c] = row[c] * row[c];
    }
    for (std::size_t panel = 0; panel * kPanel < channels; ++panel) {
      v::Floats sums[kRows][2];
      const float* beta = job.beta + panel * kPanel;
#pragma GCC unroll 12
      for (std::size_t r = 0; r < kRows; ++r) {
        sums[r][0] = v::load(beta);
        sums[r][1] = v::load(beta + v::kLanes);
      }
      const float* gamma = job.gamma + panel * channels * kPanel;
      for (std::size_t j = 0; j < channels; ++j, gamma += kPanel) {
        const v::Floats left = v::load(gamma), right = v::load(gamma + v::kLanes);
#pragma GCC unroll 12
        for (std::size_t r = 0; r < kRows; ++r) {
          const v::Floats square = v::all<v::Floats>(squares[r * channels + j]);
          sums[r][0] = v::add_product(sums[r][0], square, left);
          sums[r][1] = v::add_product(sums[r][1], square, right);
        }
      }
      const std::size_t at = panel * kPanel, width = channels - at < kPanel ? channels - at : kPanel;
      for (std::size_t r = 0; r < count; ++r) {
        const float* from = x + (first + r) * channels + at;
        float* to = out + (first + r) * channels + at;
        float edge[kPanel] = {};
        if (width < kPanel) {
          for (std::size_t c = 0; c < width; ++c) edge[c] = from[c];
          from = edge;
        }
        float* target = width < kPanel ? edge : to;
        for (std::size_t half = 0; half < 2; ++half) {
          const v::Floats value = v::load(from + half * v::kLanes), norm = v::square_root(sums[r][half]);
          v::store(job.inverse ? value * norm : value / norm, target + half * v::kLanes);
        }
        if (width < kPanel) {
          for (std::size_t c = 0; c < width; ++c) to[c] = edge[c];
        }
      }
    }
  }
}

constexpr GdnKernel kKernel = {run, kPanel, kRows};

}  // namespace FASTLIC_SET
}  // namespace
}  // namespace fastlic

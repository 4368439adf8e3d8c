// For any processor: four rows against eight words, as plain loops.
#include "fastlic/codebook/kernels.hpp"

namespace fastlic::codebook {
namespace {

constexpr std::size_t kRows = 4, kWords = 8;

void scan(const Scan& job) {
  const auto* panel = static_cast<const float*>(job.panels);
  const float* half = job.half;
  std::uint32_t first = job.first;
  for (std::size_t p = 0; p < job.count; ++p, half += kWords, first += kWords) {
    float scores[kRows][kWords];
    for (std::size_t r = 0; r < kRows; ++r) {
      for (std::size_t w = 0; w < kWords; ++w) scores[r][w] = half[w];
    }
    const auto* x = static_cast<const float*>(job.tile);
    for (std::size_t i = 0; i < job.depth; ++i, x += kRows, panel += kWords) {
      for (std::size_t r = 0; r < kRows; ++r) {
        for (std::size_t w = 0; w < kWords; ++w) scores[r][w] -= x[r] * panel[w];
      }
    }
    for (std::size_t r = 0; r < kRows; ++r) {
      bool close = false;
      for (std::size_t w = 0; w < kWords; ++w) close |= scores[r][w] <= job.bars[r];
      if (close) job.bars[r] = job.rows[r].note(scores[r], first, kWords);
    }
  }
}

}  // namespace

const Kernel kScalar = {kRows, kWords, false, scan};

}  // namespace fastlic::codebook

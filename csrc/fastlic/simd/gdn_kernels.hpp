// The inner loop of GDN. One body (gdn_body.hpp) is compiled for each instruction set.
#pragma once

#include <cstddef>

namespace fastlic::simd {

// gamma: [panels][channels][panel], panel outputs side by side, zero beyond the last channel; beta: [panels * panel].
// squares: scratch of rows_per_tile * channels.
struct GdnJob {
  const float* gamma;
  const float* beta;
  std::size_t channels;
  bool inverse;
};

struct GdnKernel {
  void (*run)(const GdnJob&, const float* x, float* out, std::size_t rows, float* squares);
  std::size_t panel;          // outputs computed side by side
  std::size_t rows_per_tile;  // positions computed side by side
};

extern const GdnKernel kGdnScalar;
#if defined(__x86_64__)
extern const GdnKernel kGdnAvx2;  // and FMA
extern const GdnKernel kGdnAvx512;
#endif

}  // namespace fastlic::simd

// Generalised divisive normalisation of channels-last maps in one pass: x / sqrt(beta + gamma x^2) over channels, or
// x * sqrt(...) for its inverse. A product of matrices whose left side is squared on the way in and whose result is
// consumed on the way out, so no intermediate map is ever written.
#pragma once

#include <cstddef>
#include <span>

namespace fastlic {

// x, out: [rows][channels], may be the same memory. beta: [channels], gamma: [channels out][channels in], both the
// values themselves, not a parametrisation of them. Sums are float32; threads: 0 means one per core.
// Throws std::invalid_argument if sizes do not fit each other.
void gdn(std::span<const float> x, std::span<float> out, std::span<const float> beta, std::span<const float> gamma,
         bool inverse, unsigned threads);

}  // namespace fastlic

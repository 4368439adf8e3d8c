// Inner loops of attention, a table of them for each instruction set; those of fastlic/nn do the rest. All compute the
// same integers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fastlic/attention/model.hpp"
#include "fastlic/isa.hpp"

namespace fastlic::attention {

// From products to scores of one head.
struct Score {
  std::int64_t multiplier, negative, shift;
  std::int32_t limit;
};

// One head of one window.
struct Window {
  // Queries, keys and values of each token, `stride` apart, each padded with zeros to `stride`.
  const std::int16_t* tokens[kTokens];
  const std::int16_t* common;  // what every token inside the map that is no anchor points to
  std::size_t dims, stride;    // stride: a multiple of 16
  const std::int32_t* bias;    // [25][kPanel]
  std::uint32_t anchors;       // bit t: token t is an anchor inside the map
  Score score;
  std::size_t out_stride;
};

struct Kernels {
  // out[j] = round(sum_i p[i] * context[i][j] / total), rows of padded dims; sums are exact in double.
  void (*apply)(const std::int16_t* p, const double* context, std::size_t dims, std::int64_t total, std::int64_t* out);
  // In place, from products to scores by one channel of a requantiser; returns the highest. count: whole panels.
  std::int32_t (*score)(std::int32_t* products, std::size_t count, const Score& score);
  // Softmax weights of scores that lie at or below `highest`; returns their sum. count: whole panels, up to 2^15.
  std::int32_t (*soften)(const std::int32_t* scores, std::size_t count, std::int32_t highest, const Tables& tables,
                         std::int16_t* weights);
  // Attention of one head of one window: out[t] = weighted means in units of 2^-8, [25][stride], out_stride apart.
  void (*window)(const Window& window, const Tables& tables, std::int32_t* out);
};

const Kernels& kernels(Isa isa) noexcept;

}  // namespace fastlic::attention

// What stands between CompressAI's float parameters and integer coders: the row of each scale, and rounded differences.
// Both give what torch's own operations give, bit for bit, in one pass over the maps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "fastlic/memory.hpp"

namespace fastlic {

// index = how many bounds lie below max(scale, least); all of them for NaN.
class ScaleSearch {
 public:
  // Throws std::invalid_argument unless bounds are ascending numbers, at most 2^24.
  ScaleSearch(std::span<const float> bounds, float least);

  void operator()(const float* scales, std::size_t count, std::int32_t* indexes) const;

 private:
  std::int32_t search(float scale) const;

  // Sign, exponent and four bits of the mantissa: buckets narrower than neighbouring bounds of CompressAI's table.
  static constexpr unsigned kBucketShift = 19;
  Vector<float> bounds_;        // and infinity
  Vector<std::int32_t> first_;  // by bucket: bounds below all of its values
  float least_;
  bool one_step_;  // whether a bucket holds at most one bound, and no negative scale is left to search for
};

// symbols = inputs - means, rounded half to even; means may be null. False if one is not finite or not within
// +-(2^31 - 1): symbols are then of no use.
bool round_differences(const float* inputs, const float* means, std::size_t count, std::int32_t* symbols);

}  // namespace fastlic

#include "fastlic/float_symbols.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

#include "fastlic/bit_cast.hpp"
#include "fastlic/errors.hpp"

namespace fastlic {

ScaleSearch::ScaleSearch(std::span<const float> bounds, float least)
    : bounds_(bounds.begin(), bounds.end()), least_(least) {
  const bool comparable = std::none_of(bounds.begin(), bounds.end(), [](float b) { return std::isnan(b); });
  if (!comparable || !std::is_sorted(bounds.begin(), bounds.end()) || bounds.size() > (std::size_t{1} << 24)) {
    throw InvalidArgument("bounds of scales must be ascending numbers, at most 2^24");
  }
  const auto below = [&](float value) {
    return static_cast<std::int32_t>(std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin());
  };
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr std::uint32_t kBuckets = 1u << (32 - kBucketShift), kFirstNegative = kBuckets / 2;
  constexpr std::uint32_t kInfinities = 0x7f800000u >> kBucketShift;
  const auto count = static_cast<std::int32_t>(bounds_.size());
  // NaNs of either sign, and negative numbers, which are searched for one by one but for -0.
  first_.assign(kBuckets, count);
  first_[kFirstNegative] = below(-0.0f);
  for (std::uint32_t bucket = 0; bucket <= kInfinities; ++bucket) {
    first_[bucket] = below(bit_cast<float>(bucket << kBucketShift));
  }
  one_step_ = least_ >= 0 && (bounds_.empty() || bounds_.back() < kInfinity);
  for (std::uint32_t bucket = 0; bucket < kInfinities; ++bucket) {
    one_step_ = one_step_ && first_[bucket + 1] - first_[bucket] <= 1;
  }
  bounds_.push_back(kInfinity);
}

std::int32_t ScaleSearch::search(float scale) const {
  const auto end = bounds_.end() - 1;
  if (std::isnan(scale)) return static_cast<std::int32_t>(end - bounds_.begin());
  return static_cast<std::int32_t>(std::lower_bound(bounds_.begin(), end, scale) - bounds_.begin());
}

void ScaleSearch::operator()(const float* scales, std::size_t count, std::int32_t* indexes) const {
  const float least = least_;
  if (!one_step_) {
    for (std::size_t i = 0; i < count; ++i) indexes[i] = search(scales[i] < least ? least : scales[i]);
    return;
  }
  // No branch to mispredict: at most one bound lies inside a bucket, and infinity lies behind the last.
  const std::int32_t* first = first_.data();
  const float* bounds = bounds_.data();
  for (std::size_t i = 0; i < count; ++i) {
    const float scale = scales[i] < least ? least : scales[i];
    const std::int32_t index = first[bit_cast<std::uint32_t>(scale) >> kBucketShift];
    indexes[i] = index + (bounds[index] < scale ? 1 : 0);
  }
}

bool round_differences(const float* inputs, const float* means, std::size_t count, std::int32_t* symbols) {
  constexpr std::int32_t kInvalid = std::numeric_limits<std::int32_t>::min();
  bool good = true;
  std::size_t i = 0;
#if defined(__x86_64__)
  // Conversion rounds half to even, the mode that all of torch runs in; what does not fit becomes -2^31.
  __m128i bad = _mm_setzero_si128();
  for (; i + 4 <= count; i += 4) {
    __m128 value = _mm_loadu_ps(inputs + i);
    if (means != nullptr) value = _mm_sub_ps(value, _mm_loadu_ps(means + i));
    const __m128i symbol = _mm_cvtps_epi32(value);
    bad = _mm_or_si128(bad, _mm_cmpeq_epi32(symbol, _mm_set1_epi32(kInvalid)));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(symbols + i), symbol);
  }
  good = _mm_movemask_epi8(bad) == 0;
#endif
  for (; i < count; ++i) {
    const float value = std::nearbyint(means == nullptr ? inputs[i] : inputs[i] - means[i]);
    const bool fits = std::abs(value) < 2147483648.0f;  // false for NaN
    symbols[i] = fits ? static_cast<std::int32_t>(value) : kInvalid;
    good = good && fits;
  }
  return good;
}

}  // namespace fastlic

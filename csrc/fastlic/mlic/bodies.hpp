// Loops of attention; each kernel file compiles them for its own target (vectors.hpp).
#pragma once

#include <algorithm>

#include "fastlic/mlic/kernels.hpp"
#include "fastlic/vectors.hpp"

namespace fastlic::mlic::bodies {

using namespace fastlic::bodies;

// What the compiler's vectors lack, one by one: products of pairs, sums over lanes. Instruction sets bring their own.
struct OneByOne : LookUpOneByOne {
  // sums[l] += a[0] * b[2l] + a[1] * b[2l + 1]
  FASTLIC_INLINE static void dot(Ints& sums, const std::int16_t* a, const std::int16_t* b) {
    for (std::size_t k = 0; k < kLanes; ++k) sums[k] += a[0] * b[2 * k] + a[1] * b[2 * k + 1];
  }
  // (x * factor + 1/2) >> shift, with another factor below 0; both factors fit int32, results saturate to it.
  FASTLIC_INLINE static void scale(const Ints& x, std::int64_t factor, std::int64_t negative, std::int64_t shift,
                                   Ints& out) {
    for (std::size_t k = 0; k < kLanes; ++k) {
      const std::int64_t product = x[k] * (x[k] < 0 ? negative : factor);
      const std::int64_t scaled = (product + (std::int64_t{1} << (shift - 1))) >> shift;
      out[k] = static_cast<std::int32_t>(std::clamp<std::int64_t>(scaled, INT32_MIN, INT32_MAX));
    }
  }
  FASTLIC_INLINE static std::int32_t highest(const Ints& x) {
    std::int32_t out = x[0];
    for (std::size_t k = 1; k < kLanes; ++k) out = std::max(out, x[k]);
    return out;
  }
  FASTLIC_INLINE static std::int32_t sum(const Ints& x) {
    std::int32_t out = 0;
    for (std::size_t k = 0; k < kLanes; ++k) out += x[k];
    return out;
  }
};

FASTLIC_INLINE std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
  const std::int64_t q = a / b;
  return q - ((a % b != 0) && ((a < 0) != (b < 0)));
}

FASTLIC_INLINE void apply(const std::int16_t* p, const double* context, std::size_t dims, std::int64_t total,
                          std::int64_t* out) {
  const std::int64_t inverse = (std::int64_t{1} << kReciprocalBits) / total;
  for (std::size_t j = 0; j < padded(dims); j += kWideLanes) {
    Doubles sums = {};  // below 2^53: exact, in any order, fused or not
    for (std::size_t i = 0; i < dims; ++i) {
      Doubles row;
      load(context + i * padded(dims) + j, row);
      sums += static_cast<double>(p[i]) * row;
    }
    Longs means = __builtin_convertvector(sums, Longs);
    if (dims <= kReciprocalTokens) {
      means = (means * inverse + (std::int64_t{1} << (kReciprocalBits - 1))) >> static_cast<int>(kReciprocalBits);
      store(means, out + j);
    } else {
      for (std::size_t k = 0; k < kWideLanes; ++k) out[j + k] = floor_divide(2 * means[k] + total, 2 * total);
    }
  }
}

// Softmax weights of one query: 32 scores of which those not in `allowed` are left out; returns their sum.
template <typename Simd>
FASTLIC_INLINE std::int32_t weigh(Ints (&scores)[2], std::uint32_t allowed, const Tables& tables,
                                  std::int16_t* weights) {
  constexpr std::int32_t kLowest = -(1 << 24);
  constexpr Ints kLane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  for (std::size_t half = 0; half < 2; ++half) {
    const Ints bit = ((Ints{} + static_cast<std::int32_t>(allowed >> (kLanes * half) & 0xFFFF)) >> kLane) & 1;
    scores[half] = bit != 0 ? scores[half] : Ints{} + kLowest;
  }
  const std::int32_t highest = Simd::highest(scores[0] > scores[1] ? scores[0] : scores[1]);
  const Ints last = Ints{} + tables.last;
  Ints total = {};
  for (std::size_t half = 0; half < 2; ++half) {
    const Ints distance = highest - scores[half];
    Ints weight;
    Simd::look_up(tables.exp.data(), distance > last ? last : distance, weight);
    store(__builtin_convertvector(weight, Shorts), weights + kLanes * half);
    total += weight;
  }
  return Simd::sum(total);
}

template <typename Simd>
FASTLIC_INLINE void score(const Ints& products, const Score& s, Ints& out) {
  Simd::scale(products, s.multiplier, s.negative, s.shift, out);
  out = out > s.limit ? Ints{} + s.limit : out;
  out = out < -s.limit ? Ints{} - s.limit : out;
}

template <typename Simd>
FASTLIC_INLINE std::int32_t score_all(std::int32_t* products, std::size_t count, const Score& s) {
  Ints highest = Ints{} - s.limit;
  for (std::size_t k = 0; k < count; k += kLanes) {
    Ints x;
    load(products + k, x);
    score<Simd>(x, s, x);
    store(x, products + k);
    highest = x > highest ? x : highest;
  }
  return Simd::highest(highest);
}

template <typename Simd>
FASTLIC_INLINE std::int32_t soften(const std::int32_t* scores, std::size_t count, std::int32_t highest,
                                   const Tables& tables, std::int16_t* weights) {
  const Ints last = Ints{} + tables.last;
  Ints total = {};
  for (std::size_t k = 0; k < count; k += kLanes) {
    Ints distance, weight;
    load(scores + k, distance);
    distance = highest - distance;
    Simd::look_up(tables.exp.data(), distance > last ? last : distance, weight);
    store(__builtin_convertvector(weight, Shorts), weights + k);
    total += weight;
  }
  return Simd::sum(total);
}

template <typename Simd>
FASTLIC_INLINE void window(const Window& w, const Tables& tables, std::int32_t* out) {
  constexpr std::uint32_t kAll = (1u << kTokens) - 1;
  constexpr int kShift = kReciprocalBits - kValueBits;
  constexpr std::size_t kPairs = (kTokens + 1) / 2;
  // Keys by pairs of dimensions [pair][token][2], values by pairs of tokens [pair][dimension][2].
  alignas(64) std::int16_t keys[kMaxLocalDims * kPanel], values[kPairs * 2 * kMaxLocalDims];
  for (std::size_t d = 0; d < w.dims; d += 2) {
    std::int16_t* row = keys + d * kPanel;
    for (std::size_t t = 0; t < kTokens; ++t) {
      __builtin_memcpy(row + 2 * t, w.tokens[t] + w.stride + d, 2 * sizeof row[0]);
    }
    __builtin_memset(row + 2 * kTokens, 0, 2 * (kPanel - kTokens) * sizeof row[0]);
  }
  for (std::size_t p = 0; p < kPairs; ++p) {
    const bool single = 2 * p + 1 == kTokens;  // the last token goes with a weight of 0
    const std::int16_t* a = w.tokens[2 * p] + 2 * w.stride;
    const std::int16_t* b = single ? a : w.tokens[2 * p + 1] + 2 * w.stride;
    std::int16_t* row = values + p * 2 * w.stride;
    for (std::size_t d = 0; d < w.stride; ++d) {
      row[2 * d] = a[d];
      row[2 * d + 1] = b[d];
    }
  }
  // Tokens that are no anchors all ask the same: their queries are constants of the model, or zero outside the map.
  bool asked = false;
  Ints shared[2] = {};
  for (std::size_t i = 0; i < kTokens; ++i) {
    const std::int16_t* q = w.tokens[i];
    Ints scores[2];
    if (asked && q == w.common) {
      scores[0] = shared[0];
      scores[1] = shared[1];
    } else {
      Ints products[2] = {};
      for (std::size_t d = 0; d < w.dims; d += 2) {
        Simd::dot(products[0], q + d, keys + d * kPanel);
        Simd::dot(products[1], q + d, keys + d * kPanel + kPanel);
      }
      score<Simd>(products[0], w.score, scores[0]);
      score<Simd>(products[1], w.score, scores[1]);
      if (q == w.common) {
        asked = true;
        shared[0] = scores[0];
        shared[1] = scores[1];
      }
    }
    for (std::size_t half = 0; half < 2; ++half) {
      Ints bias;
      load(w.bias + i * kPanel + half * kLanes, bias);
      scores[half] += bias;
    }
    alignas(64) std::int16_t weights[kPanel];
    // An anchor sees anchors, every other query all tokens.
    const std::uint32_t allowed = (w.anchors >> i & 1) != 0 ? w.anchors : kAll;
    const std::int32_t total = weigh<Simd>(scores, allowed, tables, weights);
    // Exact: at 25 bits the quotient is further from the next whole number than double precision rounds.
    const auto inverse = static_cast<std::int64_t>(static_cast<double>(std::int64_t{1} << kReciprocalBits) / total);
    for (std::size_t d = 0; d < w.stride; d += kLanes) {
      Ints sums = {};  // 25 products of 15 and 11 bits
      for (std::size_t p = 0; p < kPairs; ++p) Simd::dot(sums, weights + 2 * p, values + 2 * (p * w.stride + d));
      Simd::scale(sums, inverse, inverse, kShift, sums);
      store(sums, out + i * w.out_stride + d);
    }
  }
}

}  // namespace fastlic::mlic::bodies

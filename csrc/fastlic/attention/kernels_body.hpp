// The kernels of attention, for each instruction set (simd/for_each_target.hpp).
namespace fastlic::attention {
namespace {
namespace FASTLIC_SET {

namespace v = simd::FASTLIC_SET;

constexpr std::size_t kParts = kPanel / v::kLanes;  // vectors of a panel
constexpr std::size_t kBlock = 16 / v::kLanes;      // vectors of the values that a window multiplies at a time

FASTLIC_INLINE std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
  const std::int64_t q = a / b;
  return q - ((a % b != 0) && ((a < 0) != (b < 0)));
}

[[FASTLIC_TARGET]] void apply(const std::int16_t* p, const double* context, std::size_t dims, std::int64_t total,
                              std::int64_t* out) {
  const std::int64_t inverse = (std::int64_t{1} << kReciprocalBits) / total;
  for (std::size_t j = 0; j < padded(dims); j += v::kLongLanes) {
    v::Doubles sums = {};  // below 2^53: exact, in any order, fused or not
    for (std::size_t i = 0; i < dims; ++i) sums += static_cast<double>(p[i]) * v::load(context + i * padded(dims) + j);
    const v::Longs means = __builtin_convertvector(sums, v::Longs);
    if (dims <= kReciprocalTokens) {
      constexpr std::int64_t kHalf = std::int64_t{1} << (kReciprocalBits - 1);
      v::store((means * inverse + kHalf) >> static_cast<int>(kReciprocalBits), out + j);
    } else {
      for (std::size_t k = 0; k < v::kLongLanes; ++k) out[j + k] = floor_divide(2 * means[k] + total, 2 * total);
    }
  }
}

FASTLIC_INLINE v::Ints score(v::Ints products, const Score& s) {
  const v::Ints factor = products < 0 ? v::all<v::Ints>(static_cast<std::int32_t>(s.negative))
                                      : v::all<v::Ints>(static_cast<std::int32_t>(s.multiplier));
  return v::requantise(products, factor, v::wide(std::int64_t{1} << (s.shift - 1)), v::wide(s.shift), s.limit);
}

[[FASTLIC_TARGET]] std::int32_t score_all(std::int32_t* products, std::size_t count, const Score& s) {
  const Score copy = s;
  v::Ints highest = v::all<v::Ints>(-s.limit);
  for (std::size_t k = 0; k < count; k += v::kLanes) {
    const v::Ints x = score(v::load(products + k), copy);
    v::store(x, products + k);
    highest = v::most(highest, x);
  }
  return v::highest(highest);
}

// Softmax weights of scores at these distances from the highest; they are stored, and added to `total`.
FASTLIC_INLINE void soften_pair(v::Ints a, v::Ints b, const std::uint16_t* exp, v::Ints last, v::Ints& total,
                                std::int16_t* weights) {
  a = v::look_up(exp, v::least(a, last));
  b = v::look_up(exp, v::least(b, last));
  v::store_pair(a, b, weights);
  total += a + b;
}

[[FASTLIC_TARGET]] std::int32_t soften(const std::int32_t* scores, std::size_t count, std::int32_t highest,
                                       const Tables& tables, std::int16_t* weights) {
  const std::uint16_t* exp = tables.exp.data();
  const v::Ints last = v::all<v::Ints>(tables.last);
  v::Ints total = {};
  for (std::size_t k = 0; k < count; k += v::kWordLanes) {
    const v::Ints low = highest - v::load(scores + k), high = highest - v::load(scores + k + v::kLanes);
    soften_pair(low, high, exp, last, total, weights + k);
  }
  return v::sum(total);
}

// Softmax weights of one query: 32 scores of which those not in `allowed` are left out; returns their sum.
FASTLIC_INLINE std::int32_t weigh(v::Ints (&scores)[kParts], std::uint32_t allowed, const Tables& tables,
                                  std::int16_t* weights) {
  constexpr std::int32_t kLowest = -(1 << 24);
  v::Ints lane, most = v::all<v::Ints>(kLowest), total = {};
#pragma GCC unroll 16
  for (std::size_t k = 0; k < v::kLanes; ++k) lane[k] = 1 << k;
#pragma GCC unroll 8
  for (std::size_t i = 0; i < kParts; ++i) {
    const v::Ints bit = v::all<v::Ints>(static_cast<std::int32_t>(allowed >> (v::kLanes * i))) & lane;
    scores[i] = bit != 0 ? scores[i] : v::all<v::Ints>(kLowest);
    most = v::most(most, scores[i]);
  }
  const std::int32_t highest = v::highest(most);
  const v::Ints last = v::all<v::Ints>(tables.last);
#pragma GCC unroll 8
  for (std::size_t i = 0; i < kParts; i += 2) {
    soften_pair(highest - scores[i], highest - scores[i + 1], tables.exp.data(), last, total, weights + i * v::kLanes);
  }
  return v::sum(total);
}

[[FASTLIC_TARGET]] void window(const Window& w, const Tables& tables, std::int32_t* out) {
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
  v::Ints shared[kParts] = {};
  for (std::size_t i = 0; i < kTokens; ++i) {
    const std::int16_t* q = w.tokens[i];
    v::Ints scores[kParts] = {};
    if (asked && q == w.common) {
#pragma GCC unroll 8
      for (std::size_t j = 0; j < kParts; ++j) scores[j] = shared[j];
    } else {
      for (std::size_t d = 0; d < w.dims; d += 2) {
        const v::Pair pair = v::pair(q + d);
#pragma GCC unroll 8
        for (std::size_t j = 0; j < kParts; ++j) {
          scores[j] = v::dot(scores[j], pair, v::load_pairs(keys + d * kPanel + j * v::kWordLanes));
        }
      }
#pragma GCC unroll 8
      for (std::size_t j = 0; j < kParts; ++j) scores[j] = score(scores[j], w.score);
      if (q == w.common) {
        asked = true;
#pragma GCC unroll 8
        for (std::size_t j = 0; j < kParts; ++j) shared[j] = scores[j];
      }
    }
#pragma GCC unroll 8
    for (std::size_t j = 0; j < kParts; ++j) scores[j] += v::load(w.bias + i * kPanel + j * v::kLanes);
    alignas(64) std::int16_t weights[kPanel];
    // An anchor sees anchors, every other query all tokens.
    const std::uint32_t allowed = (w.anchors >> i & 1) != 0 ? w.anchors : kAll;
    const std::int32_t total = weigh(scores, allowed, tables, weights);
    // Exact: at 25 bits the quotient is further from the next whole number than double precision rounds.
    const auto inverse = static_cast<std::int64_t>(static_cast<double>(std::int64_t{1} << kReciprocalBits) / total);
    const v::Ints factor = v::all<v::Ints>(static_cast<std::int32_t>(inverse));
    const v::Wide rounding = v::wide(std::int64_t{1} << (kShift - 1)), shift = v::wide(kShift);
    for (std::size_t d = 0; d < w.stride; d += kBlock * v::kLanes) {
      v::Ints sums[kBlock] = {};  // 25 products of 15 and 11 bits
      for (std::size_t p = 0; p < kPairs; ++p) {
        const v::Pair pair = v::pair(weights + 2 * p);
#pragma GCC unroll 4
        for (std::size_t j = 0; j < kBlock; ++j) {
          sums[j] = v::dot(sums[j], pair, v::load_pairs(values + 2 * (p * w.stride + d + j * v::kLanes)));
        }
      }
#pragma GCC unroll 4
      for (std::size_t j = 0; j < kBlock; ++j) {
        const v::Ints means = v::requantise(sums[j], factor, rounding, shift, INT32_MAX);
        v::store(means, out + i * w.out_stride + d + j * v::kLanes);
      }
    }
  }
}

constexpr Kernels kKernels = {apply, score_all, soften, window};

}  // namespace FASTLIC_SET
}  // namespace
}  // namespace fastlic::attention

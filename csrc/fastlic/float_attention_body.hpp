// Attention within one window and of one head, for each instruction set (simd/for_each_target.hpp): kRows queries at a
// time by all keys, whose scores never leave the first cache.
namespace fastlic {
namespace {
namespace FASTLIC_SET {

namespace v = simd::FASTLIC_SET;

constexpr std::size_t kRows = v::kRegisters > 16 ? 8 : 4;

// e^x for x <= 0 to two units of the last place; what is below -87 as e^-87.
FASTLIC_INLINE v::Floats exponential(v::Floats x) {
  x = v::most(x, v::all<v::Floats>(-87.0f));
  const v::Ints n = v::nearest(x * 1.44269504f);
  const v::Floats whole = v::to_floats(n);
  const v::Floats r = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;  // the first product is exact
  v::Floats p = v::all<v::Floats>(1.0f / 5040);
  p = v::add_product(v::all<v::Floats>(1.0f / 720), p, r);
  p = v::add_product(v::all<v::Floats>(1.0f / 120), p, r);
  p = v::add_product(v::all<v::Floats>(1.0f / 24), p, r);
  p = v::add_product(v::all<v::Floats>(1.0f / 6), p, r);
  p = v::add_product(v::all<v::Floats>(0.5f), p, r);
  p = v::add_product(v::all<v::Floats>(1.0f), p, r);
  p = v::add_product(v::all<v::Floats>(1.0f), p, r);
  return p * v::from_bits((n + 127) << 23);
}

// to [kRows][kVectors vectors] = left [kRows][steps], rows `stride` apart, times right [steps][...], rows `wide` apart.
template <std::size_t kVectors>
FASTLIC_INLINE void multiply(const float* left, std::size_t stride, const float* right, std::size_t wide,
                             std::size_t steps, v::Floats (&sums)[kRows][kVectors]) {
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (std::size_t k = 0; k < kVectors; ++k) sums[r][k] = v::all<v::Floats>(0.0f);
  }
  for (std::size_t s = 0; s < steps; ++s, right += wide) {
    v::Floats own[kVectors];
#pragma GCC unroll 2
    for (std::size_t k = 0; k < kVectors; ++k) own[k] = v::load(right + k * v::kLanes);
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kRows; ++r) {
      const v::Floats factor = v::all<v::Floats>(left[r * stride + s]);
#pragma GCC unroll 2
      for (std::size_t k = 0; k < kVectors; ++k) sums[r][k] = v::add_product(sums[r][k], factor, own[k]);
    }
  }
}

[[FASTLIC_TARGET]] void run(const AttentionJob& job) {
  const std::size_t third = job.row / 3;
  for (std::size_t i = 0; i < job.count; ++i) {
    const float* from = job.qkv + job.places[i] * job.row;
    for (std::size_t c = 0; c < job.depth; ++c) {
      job.queries[i * job.depth + c] = from[c] * job.scale;
      job.keys[c * job.padded + i] = from[third + c];
      job.values[i * job.padded_depth + c] = from[2 * third + c];
    }
  }
  for (std::size_t first = 0; first < job.count; first += kRows) {
    const std::size_t rows = job.count - first < kRows ? job.count - first : kRows;
    // Beyond the end, where a window has fewer rows than that: the last ones once more.
    const std::size_t begin = job.count < kRows ? 0 : first + rows - kRows;
    const float* queries = job.queries + begin * job.depth;
    for (std::size_t j = 0; j < job.padded; j += 2 * v::kLanes) {
      v::Floats sums[kRows][2];
      multiply<2>(queries, job.depth, job.keys + j, job.padded, job.depth, sums);
      for (std::size_t r = 0; r < kRows; ++r) {
        const std::size_t row = begin + r < job.count ? begin + r : job.count - 1;
        const float* bias = job.bias + row * job.padded + j;
        v::store(sums[r][0] + v::load(bias), job.scores + r * job.padded + j);
        v::store(sums[r][1] + v::load(bias + v::kLanes), job.scores + r * job.padded + j + v::kLanes);
      }
    }
    float inverse[kRows];
    for (std::size_t r = 0; r < kRows; ++r) {
      float* scores = job.scores + r * job.padded;
      v::Floats top = v::load(scores), sum = v::all<v::Floats>(0.0f);
      for (std::size_t j = v::kLanes; j < job.padded; j += v::kLanes) top = v::most(top, v::load(scores + j));
      alignas(64) float lanes[v::kLanes];
      v::store(top, lanes);
      float most = lanes[0];
      for (std::size_t k = 1; k < v::kLanes; ++k) most = lanes[k] > most ? lanes[k] : most;
      const v::Floats highest = v::all<v::Floats>(most);
      for (std::size_t j = 0; j < job.padded; j += v::kLanes) {
        const v::Floats e = exponential(v::load(scores + j) - highest);
        v::store(e, scores + j);
        sum += e;
      }
      v::store(sum, lanes);
      float total = lanes[0];
      for (std::size_t k = 1; k < v::kLanes; ++k) total += lanes[k];
      inverse[r] = 1.0f / total;
    }
    for (std::size_t c = 0; c < job.padded_depth; c += v::kLanes) {
      v::Floats sums[kRows][1];
      multiply<1>(job.scores, job.padded, job.values + c, job.padded_depth, job.count, sums);
      const std::size_t width = job.depth - c < v::kLanes ? job.depth - c : v::kLanes;
      for (std::size_t r = 0; r < kRows && begin + r < job.count; ++r) {
        float* to = job.out + job.places[begin + r] * third + job.start + c;
        const v::Floats mean = sums[r][0] * inverse[r];
        if (width == v::kLanes) {
          v::store(mean, to);
        } else {
          alignas(64) float lanes[v::kLanes];
          v::store(mean, lanes);
          for (std::size_t k = 0; k < width; ++k) to[k] = lanes[k];
        }
      }
    }
  }
}

constexpr AttentionKernel kKernel = {run, v::kLanes, kRows};

}  // namespace FASTLIC_SET
}  // namespace
}  // namespace fastlic

// The Gaussian coder's arithmetic, for each instruction set (simd/for_each_target.hpp).
//
// Every float operation here is a single correctly rounded one (and contraction is off), so all vectors, and the plain
// Python twin, agree to the bit.
namespace fastlic {
namespace {
namespace FASTLIC_SET {

namespace v = simd::FASTLIC_SET;
using v::Floats, v::Ints, v::Uints;

FASTLIC_INLINE Ints ints(std::int32_t value) { return v::all<Ints>(value); }
FASTLIC_INLINE Floats floats(float value) { return v::all<Floats>(value); }

struct GaussianRow {
  Ints shift;
  Ints middle;  // t at the centre of the window
  Ints half;    // w
  Ints base;    // (mean + 1/2) * 256 - middle * 2^shift * 256: what the edge of bin 0 lacks
  Ints range;   // 2^k - 2 - 2w
  Floats grid;  // Phi steps per 1/256: 512 / (256 * sigma)
  Floats sigma;
};

FASTLIC_INLINE GaussianRow gaussian_row(const float* mean_at, const float* scale_at) {
  // A NaN goes to the lower limit: least and most give their second operand.
  const Floats scale = v::least(v::most(v::load(scale_at), floats(kMinScale)), floats(kMaxScale));
  constexpr int kDropped = 23 - kScaleMantissaBits;
  const Ints level = (v::bits(scale) + (1 << (kDropped - 1))) >> kDropped << kDropped;
  const Floats sigma = v::from_bits(level);
  const Ints octave = (level >> 23) - 127;
  const Ints shift = v::most(octave - (kFirstShiftedOctave - 1), ints(0));

  const Floats mean = v::least(v::most(v::load(mean_at), floats(-kMaxMean)), floats(kMaxMean));
  const Ints centre = v::nearest(mean);
  const Ints fraction = v::nearest((mean - v::to_floats(centre)) * float{1 << kMeanBits});
  const Ints middle = centre >> shift;
  const Ints within = centre - (middle << shift);
  const Ints base = (within << kMeanBits) + fraction + (1 << (kMeanBits - 1));

  const Floats unit = v::from_bits((127 - shift) << 23);  // 2^-shift as a float, by its exponent
  const Ints half = v::truncate(sigma * unit * 4.5f + 1.0f);
  constexpr float kGridPerSigma = static_cast<float>(kPhiStepsPerUnit) / (1 << kMeanBits);
  return {shift, middle, half, base, (kGaussianTotal - 2) - (half + half), kGridPerSigma / sigma, sigma};
}

// At 0 <= at <= kPhiLimit.
FASTLIC_INLINE Ints upper_tail(Ints at) {
  if constexpr (v::kPermutes) {
    // The cubic of each lane's segment: four permutations and three multiplications, about a third of sixteen loads.
    const Ints segment = at >> static_cast<int>(kPhiSegmentBits), d = at & ((1 << kPhiSegmentBits) - 1);
    Ints value = v::look_up_32(kPhiCoefficients[3], segment);
    for (std::size_t j = 3; j-- > 0;) {
      value = (value * d >> static_cast<int>(kPhiSegmentBits)) + v::look_up_32(kPhiCoefficients[j], segment);
    }
    constexpr int kDrop = kPhiFractionBits - kPhiBits;
    return (value + (1 << (kDrop - 1))) >> kDrop;
  } else {
    return v::load_each(kTailTable.data(), at);
  }
}

// F(u) for -w <= u <= w + 1.
FASTLIC_INLINE Ints gaussian_cdf(const GaussianRow& row, Ints u) {
  const Ints edge = (u << (row.shift + kMeanBits)) - row.base;
  const Floats limit = floats(static_cast<float>(kPhiLimit));
  const Ints grid = v::nearest(v::least(v::most(v::to_floats(edge) * row.grid, -limit), limit));
  const Ints tail = upper_tail(v::most(grid, -grid));
  Ints phi = grid < 0 ? tail : (1 << kPhiBits) - tail;
  phi = u <= -row.half ? ints(0) : phi;            // u == -w
  phi = u > row.half ? ints(1 << kPhiBits) : phi;  // u == w + 1
  return u + row.half + (row.range * phi >> static_cast<int>(kPhiBits));
}

constexpr unsigned kAllLanes = (1u << v::kLanes) - 1;

FASTLIC_INLINE void store_bits(std::uint8_t* bits, std::size_t at, unsigned lanes) {
  if constexpr (v::kLanes >= 8) {
    std::memcpy(bits + at / 8, &lanes, v::kLanes / 8);
  } else {
    bits[at / 8] = static_cast<std::uint8_t>(bits[at / 8] | lanes << at % 8);
  }
}

// The interval of each symbol: needs no state, so many vectors of it overlap.
FASTLIC_INLINE void interval(const GaussianEncodeJob& job, const std::int32_t* symbols, const float* means,
                             const float* scales, std::size_t at, std::int32_t* start_at, std::int32_t* frequency_at) {
  const GaussianRow row = gaussian_row(means + at, scales + at);
  const Ints symbol = v::least(v::most(v::load(symbols + at), ints(-kSymbolClamp)), ints(kSymbolClamp));
  const Ints u = (symbol >> row.shift) - row.middle;
  const Ints bounded = v::least(v::most(u, -row.half), row.half);
  const auto escape = u != bounded;
  store_bits(job.escapes, at, v::equal_bits(u, bounded) ^ kAllLanes);
  store_bits(job.shifted, at, v::equal_bits(row.shift, ints(0)) ^ kAllLanes);

  const Ints low = gaussian_cdf(row, bounded), high = gaussian_cdf(row, bounded + 1);
  v::store(escape ? ints(kGaussianTotal - 1) : low, start_at);
  v::store(escape ? ints(1) : high - low, frequency_at);
}

FASTLIC_INLINE void code_interval(std::uint8_t*& next, std::uint32_t* state_at, const std::int32_t* start_at,
                                  const std::int32_t* frequency_at) {
  constexpr int kPrecision = kGaussianPrecision;
  const Ints start = v::load(start_at), frequency = v::load(frequency_at);
  const Ints state = v::load(reinterpret_cast<const std::int32_t*>(state_at));
  const Ints x = v::give_words(state, frequency << (31 - kPrecision), next);
  // x / frequency is below 2^(31 - k) = 2^17; two roundings of 2^-24 leave the guess at most one off, either way.
  const Ints guess = v::truncate(v::to_floats(x) / v::to_floats(frequency));
  const Ints remainder = x - guess * frequency, gain = kGaussianTotal - frequency;
  const Ints up = remainder < frequency ? ints(0) : gain, down = remainder < 0 ? gain : ints(0);
  v::store(Uints(remainder + start) + (Uints(guess) << kPrecision) + Uints(up - down), state_at);
}

FASTLIC_INLINE void decode_vector(GaussianDecodeJob& job, std::uint32_t* state_at, const float* means,
                                  const float* scales, std::int32_t* out, std::size_t at) {
  constexpr int kPrecision = kGaussianPrecision;
  const GaussianRow row = gaussian_row(means + at, scales + at);
  const Ints state = v::load(reinterpret_cast<const std::int32_t*>(state_at));
  const Ints code = state & (kGaussianTotal - 1);
  const auto escape = code == kGaussianTotal - 1;
  store_bits(job.escapes, at, v::equal_bits(code, ints(kGaussianTotal - 1)));
  store_bits(job.shifted, at, v::equal_bits(row.shift, ints(0)) ^ kAllLanes);

  // Start at the quantile, then walk: both edges are recomputed until the code point lies between them.
  const Ints hint = v::load_each(kQuantiles.data(), code >> (kPrecision - static_cast<int>(kQuantileBits)));
  const Ints edge = v::nearest(v::to_floats(hint) * (row.sigma * 0.5f));
  Ints u = (edge + row.base) >> (row.shift + kMeanBits);
  u = v::least(v::most(u, -row.half), row.half);
  Ints low = gaussian_cdf(row, u), high = gaussian_cdf(row, u + 1);
  while (true) {
    const Ints above = (escape ? ints(0) : code) >= high ? ints(1) : ints(0), below = low > code ? ints(1) : ints(0);
    if (v::equal_bits(above, below) == kAllLanes) break;  // they are never both 1
    u += above - below;
    low = gaussian_cdf(row, u);
    high = gaussian_cdf(row, u + 1);
  }
  v::store((u + row.middle) << row.shift, out + at);

  const Ints start = escape ? ints(kGaussianTotal - 1) : low, frequency = escape ? ints(1) : high - low;
  const Ints reduced = frequency * (state >> kPrecision) + (code - start);
  v::store(v::take_words(reduced, static_cast<std::int32_t>(kStateLow), job.next), state_at);
}

// In two passes over chunks that stay in L1: intervals need no state, so their long chains overlap. Worth 3 % with
// AVX-512 and 7 % with AVX2 (Zen 4), where 103 of 122 cycles for 16 symbols go into the intervals.
[[FASTLIC_TARGET]] void encode_groups(GaussianEncodeJob& job, const std::int32_t* symbols, const float* means,
                                      const float* scales, std::size_t groups) {
  constexpr std::size_t kChunk = 512;
  static_assert(kChunk % kMaxLanes == 0);
  alignas(64) std::int32_t starts[kChunk], frequencies[kChunk];
  std::uint8_t* next = job.next;
  for (std::size_t end = groups * job.lanes; end > 0;) {
    const std::size_t begin = (end - 1) / kChunk * kChunk;
    for (std::size_t at = begin; at < end; at += v::kLanes) {
      interval(job, symbols, means, scales, at, starts + (at - begin), frequencies + (at - begin));
    }
    for (std::size_t at = end; at > begin;) {
      at -= v::kLanes;
      code_interval(next, job.states + at % job.lanes, starts + (at - begin), frequencies + (at - begin));
    }
    end = begin;
  }
  job.next = next;
}

[[FASTLIC_TARGET]] std::size_t decode_groups(GaussianDecodeJob& job, const float* means, const float* scales,
                                             std::int32_t* out, std::size_t groups) {
  std::size_t done = 0;
  for (; done < groups && job.next <= job.limit; ++done) {
    for (unsigned lane = 0; lane < job.lanes; lane += v::kLanes) {
      decode_vector(job, job.states + lane, means, scales, out, job.begin + done * job.lanes + lane);
    }
  }
  return done;
}

constexpr LaneKernels<GaussianKernels> kKernels = {{encode_groups, decode_groups}, v::kLanes};

}  // namespace FASTLIC_SET
}  // namespace
}  // namespace fastlic

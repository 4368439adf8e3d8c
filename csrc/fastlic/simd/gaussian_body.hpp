// The Gaussian coder's arithmetic, once, over a vector type `V`. Included by one file per instruction set, inside an
// unnamed namespace and after that file's target pragma; no include guard, no includes of its own.
//
// Every float operation here is a single correctly rounded one (and contraction is off), so all vector types, and the
// plain Python twin, agree to the bit.

template <typename V>
struct GaussianRow {
  typename V::Int shift;
  typename V::Int middle;  // t at the centre of the window
  typename V::Int half;    // w
  typename V::Int base;    // (mean + 1/2) * 256 - middle * 2^shift * 256: what the edge of bin 0 lacks
  typename V::Int range;   // 2^k - 2 - 2w
  typename V::Float grid;  // Phi steps per 1/256: 512 / (256 * sigma)
  typename V::Float sigma;
};

template <typename V>
[[gnu::always_inline]] inline GaussianRow<V> gaussian_row(const float* mean_at, const float* scale_at) {
  using Int = typename V::Int;
  using Float = typename V::Float;
  const Float scale = V::min(V::max(V::load(scale_at), V::set(kMinScale)), V::set(kMaxScale));
  constexpr int kDropped = 23 - kScaleMantissaBits;
  const Int rounded = V::add(V::bits(scale), V::set(1 << (kDropped - 1)));
  const Int level = V::sll(V::template srl<kDropped>(rounded), V::set(kDropped));
  const Float sigma = V::from_bits(level);
  const Int octave = V::sub(V::template srl<23>(level), V::set(127));
  const Int shift = V::max(V::sub(octave, V::set(kFirstShiftedOctave - 1)), V::set(0));

  const Float mean = V::min(V::max(V::load(mean_at), V::set(-kMaxMean)), V::set(kMaxMean));
  const Int centre = V::round(mean);
  const Float rest = V::sub(mean, V::to_float(centre));
  const Int fraction = V::round(V::mul(rest, V::set(float{1 << kMeanBits})));
  const Int middle = V::sra(centre, shift);
  const Int within = V::sub(centre, V::sll(middle, shift));
  const Int base = V::add(V::add(V::sll(within, V::set(kMeanBits)), fraction), V::set(1 << (kMeanBits - 1)));

  // 2^-shift as a float, by its exponent.
  const Float unit = V::from_bits(V::sll(V::sub(V::set(127), shift), V::set(23)));
  const Int half = V::truncate(V::add(V::mul(V::mul(sigma, unit), V::set(4.5f)), V::set(1.0f)));
  const Int range = V::sub(V::set(kGaussianTotal - 2), V::add(half, half));
  constexpr float kGridPerSigma = static_cast<float>(kPhiStepsPerUnit) / (1 << kMeanBits);
  return {shift, middle, half, base, range, V::div(V::set(kGridPerSigma), sigma), sigma};
}

// F(u) for -w <= u <= w + 1.
template <typename V>
[[gnu::always_inline]] inline typename V::Int gaussian_cdf(const GaussianRow<V>& row, typename V::Int u) {
  using Int = typename V::Int;
  const Int edge = V::sub(V::sll(u, V::add(row.shift, V::set(kMeanBits))), row.base);
  const typename V::Float z = V::mul(V::to_float(edge), row.grid);
  const typename V::Float limit = V::set(static_cast<float>(kPhiLimit));
  const Int grid = V::round(V::min(V::max(z, V::set(-static_cast<float>(kPhiLimit))), limit));
  const Int tail = V::upper_tail(V::max(grid, V::sub(V::set(0), grid)));
  Int phi = V::select(V::greater(V::set(0), grid), tail, V::sub(V::set(1 << kPhiBits), tail));
  phi = V::select(V::greater(V::sub(V::set(1), row.half), u), V::set(0), phi);  // u == -w
  phi = V::select(V::greater(u, row.half), V::set(1 << kPhiBits), phi);         // u == w + 1
  return V::add(V::add(u, row.half), V::template srl<kPhiBits>(V::mul(row.range, phi)));
}

// The interval of each symbol: needs no state, so many vectors of it overlap.
template <typename V>
[[gnu::always_inline]] inline void gaussian_interval(const GaussianEncodeJob& job, const std::int32_t* symbols,
                                                     const float* means, const float* scales, std::size_t at,
                                                     std::int32_t* start_at, std::int32_t* frequency_at) {
  using Int = typename V::Int;
  const GaussianRow<V> row = gaussian_row<V>(means + at, scales + at);
  const Int symbol = V::min(V::max(V::load(symbols + at), V::set(-kSymbolClamp)), V::set(kSymbolClamp));
  const Int u = V::sub(V::sra(symbol, row.shift), row.middle);
  const Int bounded = V::min(V::max(u, V::sub(V::set(0), row.half)), row.half);
  const auto escape = V::differ(u, bounded);
  V::store_mask(job.escapes, at, escape);
  V::store_mask(job.shifted, at, V::greater(row.shift, V::set(0)));

  const Int low = gaussian_cdf<V>(row, bounded);
  const Int high = gaussian_cdf<V>(row, V::add(bounded, V::set(1)));
  V::store(start_at, V::select(escape, V::set(kGaussianTotal - 1), low));
  V::store(frequency_at, V::select(escape, V::set(1), V::sub(high, low)));
}

template <typename V>
[[gnu::always_inline]] inline void gaussian_code_interval(std::uint8_t*& next, std::uint32_t* state_at,
                                                          const std::int32_t* start_at,
                                                          const std::int32_t* frequency_at) {
  using Int = typename V::Int;
  const Int start = V::load(start_at);
  const Int frequency = V::load(frequency_at);
  const Int state = V::load(reinterpret_cast<const std::int32_t*>(state_at));
  const Int x = V::shrink(state, V::sll(frequency, V::set(31 - static_cast<int>(kGaussianPrecision))), next);
  // x / frequency is below 2^(31 - k) = 2^17; two roundings of 2^-24 leave the guess at most one off, either way.
  const Int guess = V::truncate(V::div(V::to_float(x), V::to_float(frequency)));
  const Int remainder = V::sub(x, V::mul(guess, frequency));
  const Int gain = V::sub(V::set(kGaussianTotal), frequency);
  const Int coded = V::add(V::add(remainder, start), V::sll(guess, V::set(static_cast<int>(kGaussianPrecision))));
  const Int up = V::select(V::greater(frequency, remainder), V::set(0), gain);
  const Int down = V::select(V::greater(V::set(0), remainder), gain, V::set(0));
  V::store(reinterpret_cast<std::int32_t*>(state_at), V::sub(V::add(coded, up), down));
}

template <typename V>
[[gnu::always_inline]] inline void gaussian_decode_vector(GaussianDecodeJob& job, std::uint32_t* state_at,
                                                          const float* means, const float* scales, std::int32_t* out,
                                                          std::size_t at) {
  using Int = typename V::Int;
  const GaussianRow<V> row = gaussian_row<V>(means + at, scales + at);
  const Int state = V::load(reinterpret_cast<const std::int32_t*>(state_at));
  const Int code = V::and_(state, V::set(kGaussianTotal - 1));
  const auto escape = V::equal(code, V::set(kGaussianTotal - 1));
  V::store_mask(job.escapes, at, escape);
  V::store_mask(job.shifted, at, V::greater(row.shift, V::set(0)));

  // Start at the quantile, then walk: both edges are recomputed until the code point lies between them.
  const Int hint = V::lookup_signed(gaussian_quantiles(), V::template srl<kGaussianPrecision - kQuantileBits>(code));
  const Int edge = V::round(V::mul(V::to_float(hint), V::mul(row.sigma, V::set(0.5f))));
  Int u = V::sra(V::add(edge, row.base), V::add(row.shift, V::set(kMeanBits)));
  u = V::min(V::max(u, V::sub(V::set(0), row.half)), row.half);
  Int low = gaussian_cdf<V>(row, u);
  Int high = gaussian_cdf<V>(row, V::add(u, V::set(1)));
  while (true) {
    const auto above = V::and_not(V::greater(V::add(code, V::set(1)), high), escape);
    const auto below = V::greater(low, code);
    if (!V::any(above, below)) break;
    u = V::add(u, V::sub(V::select(above, V::set(1), V::set(0)), V::select(below, V::set(1), V::set(0))));
    low = gaussian_cdf<V>(row, u);
    high = gaussian_cdf<V>(row, V::add(u, V::set(1)));
  }
  V::store(out + at, V::sll(V::add(u, row.middle), row.shift));

  const Int start = V::select(escape, V::set(kGaussianTotal - 1), low);
  const Int frequency = V::select(escape, V::set(1), V::sub(high, low));
  const Int reduced =
      V::sub(V::add(V::mul(frequency, V::template srl<static_cast<int>(kGaussianPrecision)>(state)), code), start);
  V::store(reinterpret_cast<std::int32_t*>(state_at), V::refill(reduced, job.next));
}

// In two passes over chunks that stay in L1: intervals need no state, so their long chains overlap. Worth 3 % with
// AVX-512 and 7 % with AVX2 (Zen 4), where 103 of 122 cycles for 16 symbols go into the intervals.
template <typename V>
void gaussian_encode_groups(GaussianEncodeJob& job, const std::int32_t* symbols, const float* means,
                            const float* scales, std::size_t groups) {
  constexpr std::size_t kChunk = 512;
  static_assert(kChunk % kMaxLanes == 0);
  alignas(64) std::int32_t starts[kChunk];
  alignas(64) std::int32_t frequencies[kChunk];
  std::uint8_t* next = job.next;
  for (std::size_t end = groups * job.lanes; end > 0;) {
    const std::size_t begin = (end - 1) / kChunk * kChunk;
    for (std::size_t at = begin; at < end; at += V::kWidth) {
      gaussian_interval<V>(job, symbols, means, scales, at, starts + (at - begin), frequencies + (at - begin));
    }
    for (std::size_t at = end; at > begin;) {
      at -= V::kWidth;
      gaussian_code_interval<V>(next, job.states + at % job.lanes, starts + (at - begin), frequencies + (at - begin));
    }
    end = begin;
  }
  job.next = next;
}

template <typename V>
std::size_t gaussian_decode_groups(GaussianDecodeJob& job, const float* means, const float* scales, std::int32_t* out,
                                   std::size_t groups) {
  std::size_t done = 0;
  for (; done < groups && job.next <= job.limit; ++done) {
    for (unsigned lane = 0; lane < job.lanes; lane += V::kWidth) {
      gaussian_decode_vector<V>(job, job.states + lane, means, scales, out, job.begin + done * job.lanes + lane);
    }
  }
  return done;
}

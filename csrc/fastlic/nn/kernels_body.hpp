// The kernels of layers and entropy models, for each instruction set (simd/for_each_target.hpp).
namespace fastlic::nn {
namespace {
namespace FASTLIC_SET {

namespace v = simd::FASTLIC_SET;

// Tiles of as many vectors as registers hold; where vectors are wide, what is left of a panel has smaller tiles.
constexpr std::size_t kTile = v::kTileVectors * v::kLanes;
constexpr bool kHalves = v::kLanes == kHalfPanel;

template <typename Weight, std::size_t R, std::size_t V>
[[FASTLIC_TARGET]] void multiply_rows(const GemmJob<Weight>& job, std::size_t first_row, std::size_t first_column) {
  const std::size_t columns = job.out_stride, stride = job.a_stride;
  v::Sum sums[R][V];
#pragma GCC unroll 16
  for (std::size_t r = 0; r < R; ++r) {
    const std::int32_t* start = job.start[first_row + r] + first_column;
#pragma GCC unroll 8
    for (std::size_t i = 0; i < V; ++i) sums[r][i] = v::load_as<v::Sum>(start + i * v::kLanes);
  }
  const std::int16_t* a = job.a + first_row * stride;
  const std::size_t within = first_column % kPanel;  // a tile may be less than a panel
  const Weight* b = job.b + (first_column - within) * job.depth + 2 * within;
  for (std::size_t k = 0; k < job.depth; k += 2, a += 2, b += 2 * kPanel) {
    if constexpr (V == v::kTileVectors) {
      const auto weights = v::load_weights(b);
#pragma GCC unroll 16
      for (std::size_t r = 0; r < R; ++r) v::dot(sums[r], v::pair(a + r * stride), weights);
    } else {
      v::Pairs weights[V];
#pragma GCC unroll 8
      for (std::size_t i = 0; i < V; ++i) weights[i] = v::load_pairs(b + i * v::kWordLanes);
#pragma GCC unroll 16
      for (std::size_t r = 0; r < R; ++r) {
        const auto pair = v::pair(a + r * stride);
#pragma GCC unroll 8
        for (std::size_t i = 0; i < V; ++i) {
          sums[r][i] = reinterpret_cast<v::Sum>(v::dot(reinterpret_cast<v::Ints>(sums[r][i]), pair, weights[i]));
        }
      }
    }
  }
  std::int32_t* out = job.out + first_row * columns + first_column;
#pragma GCC unroll 16
  for (std::size_t r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (std::size_t i = 0; i < V; ++i) v::store(sums[r][i], out + r * columns + i * v::kLanes);
  }
}

// A quarter of a panel of int16 weights.
template <std::size_t R>
[[FASTLIC_TARGET]] void multiply_quarter(const GemmJob<std::int16_t>& job, std::size_t first_row,
                                         std::size_t first_column) {
  if constexpr (kHalves) {
    const std::size_t columns = job.out_stride, stride = job.a_stride, within = first_column % kPanel;
    v::Narrow sums[R];
#pragma GCC unroll 16
    for (std::size_t r = 0; r < R; ++r) sums[r] = v::load_as<v::Narrow>(job.start[first_row + r] + first_column);
    const std::int16_t* a = job.a + first_row * stride;
    const std::int16_t* b = job.b + (first_column - within) * job.depth + 2 * within;
    for (std::size_t k = 0; k < job.depth; k += 2, a += 2, b += 2 * kPanel) {
#pragma GCC unroll 16
      for (std::size_t r = 0; r < R; ++r) sums[r] = v::narrow_dot(sums[r], a + r * stride, b);
    }
#pragma GCC unroll 16
    for (std::size_t r = 0; r < R; ++r) v::store(sums[r], job.out + (first_row + r) * columns + first_column);
  }
}

// One row against whole panels, where tiles are narrow: every line of weights is read once.
template <typename Weight>
[[FASTLIC_TARGET]] void multiply_single(const GemmJob<Weight>& job) {
  constexpr std::size_t kTiles = kPanel / kTile;
  for (std::size_t column = 0; column < job.columns; column += kPanel) {
    v::Sum sums[kTiles][v::kTileVectors];
    for (std::size_t i = 0; i < kPanel / v::kLanes; ++i) {
      sums[i / v::kTileVectors][i % v::kTileVectors] = v::load_as<v::Sum>(job.start[0] + column + i * v::kLanes);
    }
    const Weight* b = job.b + column * job.depth;
    for (std::size_t k = 0; k < job.depth; k += 2, b += 2 * kPanel) {
      const auto pair = v::pair(job.a + k);
      for (std::size_t i = 0; i < kTiles; ++i) v::dot(sums[i], pair, v::load_weights(b + 2 * i * kTile));
    }
    for (std::size_t i = 0; i < kPanel / v::kLanes; ++i) {
      v::store(sums[i / v::kTileVectors][i % v::kTileVectors], job.out + column + i * v::kLanes);
    }
  }
}

template <std::size_t... R>
constexpr auto quarter_table(std::index_sequence<R...>) {
  using MultiplyRows = void (*)(const GemmJob<std::int16_t>&, std::size_t, std::size_t);
  return std::array<MultiplyRows, sizeof...(R)>{multiply_quarter<R + 1>...};
}

template <typename Weight, std::size_t V, std::size_t... R>
constexpr auto rows_table(std::index_sequence<R...>) {
  using MultiplyRows = void (*)(const GemmJob<Weight>&, std::size_t, std::size_t);
  return std::array<MultiplyRows, sizeof...(R)>{multiply_rows<Weight, R + 1, V>...};
}

template <typename Weight>
void multiply(const GemmJob<Weight>& job) {
  constexpr auto kRows = std::make_index_sequence<v::kTileRows>();
  static constexpr auto kWhole = rows_table<Weight, v::kTileVectors>(kRows);
  // Half a panel is one of the wide vectors; with others tiles of int16 may leave a quarter.
  constexpr bool kQuarters = !kHalves && kTile > kQuarterPanel && std::is_same_v<Weight, std::int16_t>;
  constexpr std::size_t kFewer = kHalves ? 1 : kQuarters ? kQuarterPanel / v::kLanes : v::kTileVectors;
  static constexpr auto kRest = rows_table<Weight, kFewer>(kRows);
  // Tiles of nearly equal height: 16 rows are 8 + 8, not 14 + 2. The first `taller` of them have a row more.
  const std::size_t blocks = (job.rows + v::kTileRows - 1) / v::kTileRows;
  if (blocks == 0) return;
  const std::size_t height = job.rows / blocks, taller = job.rows % blocks;
  if constexpr (v::kWideRows) {
    if (job.rows == 1 && job.columns % kPanel == 0) return multiply_single(job);
  }
  const auto with = [&](const auto& table, std::size_t column) {
    for (std::size_t i = 0, first = 0; i < blocks; ++i) {
      const std::size_t rows = height + (i < taller ? 1 : 0);
      table[rows - 1](job, first, column);
      first += rows;
    }
  };
  std::size_t column = 0;
  for (; column + kTile <= job.columns; column += kTile) with(kWhole, column);
  if constexpr (!kHalves) {
    for (; column < job.columns; column += kFewer * v::kLanes) with(kRest, column);
    return;
  }
  if (column + kHalfPanel <= job.columns) {
    with(kRest, column);
    column += kHalfPanel;
  }
  if (column == job.columns) return;
  if constexpr (std::is_same_v<Weight, std::int16_t>) {
    with(quarter_table(kRows), column);
  } else {
    with(kRest, column);
  }
}

// use(finished), of which finished(c, x) gives the outputs of channels from c on from their sums.
template <typename Use>
FASTLIC_INLINE void requantised(const Requantiser& r, const Use& use) {
  // Pointers and the limit are read once: stores of outputs might change them, for all that compilers know.
  const std::int32_t *factor = r.multiplier.data(), *negative = r.negative.data(), limit = r.limit;
  const auto factors = [&] [[FASTLIC_TARGET, gnu::always_inline]] (std::size_t c, v::Ints x) {
    return x < 0 ? v::load(negative + c) : v::load(factor + c);
  };
  if constexpr (v::kHighProducts) {
    if (!r.high_shift.empty()) {
      const std::int32_t *rounding = r.high_rounding.data(), *shift = r.high_shift.data();
      const v::Ints most = v::all<v::Ints>(limit);
      // Below 2^30 + 2^29.
      return use([&] [[FASTLIC_TARGET, gnu::always_inline]] (std::size_t c, v::Ints x) {
        const v::Ints value = (v::multiply_high(x, factors(c, x)) + v::load(rounding + c)) >> v::load(shift + c);
        return v::most(v::least(value, most), -most);
      });
    }
  }
  const std::int64_t *rounding = r.rounding.data(), *shift = r.shift.data();
  use([&] [[FASTLIC_TARGET, gnu::always_inline]] (std::size_t c, v::Ints x) {
    return v::requantise(x, factors(c, x), v::load(rounding + c), v::load(shift + c), limit);
  });
}

// Two vectors at a time, and where half a panel is one vector, one may be left: out is int16 or int32.
template <typename Out>
[[FASTLIC_TARGET]] void requantise(const std::int32_t* acc, const Requantiser& r, Channels channels, Out* out) {
  requantised(r, [&] [[FASTLIC_TARGET, gnu::always_inline]] (const auto& finished) {
    std::size_t c = channels.first, i = 0;
    for (; c + v::kWordLanes <= channels.last; c += v::kWordLanes, i += v::kWordLanes) {
      v::store_pair(finished(c, v::load(acc + i)), finished(c + v::kLanes, v::load(acc + i + v::kLanes)), out + i);
    }
    if (c < channels.last) v::store_single(finished(c, v::load(acc + i)), out + i);
  });
}

// winograd.hpp has the matrices.
[[FASTLIC_TARGET]] void winograd_input(const std::int16_t* const* tile, std::size_t channels,
                                       const TransformedTile& to) {
  std::int16_t* out = to.data + to.at;
  const std::size_t stride = to.component;
  for (std::size_t c = 0; c < channels; c += v::kWordLanes) {
    v::Words t[16];
#pragma GCC unroll 4
    for (std::size_t j = 0; j < 4; ++j) {  // columns: combine rows
      const v::Words d0 = v::load(tile[j] + c), d1 = v::load(tile[4 + j] + c);
      const v::Words d2 = v::load(tile[8 + j] + c), d3 = v::load(tile[12 + j] + c);
      t[j] = d0 - d2;
      t[4 + j] = d1 + d2;
      t[8 + j] = d2 - d1;
      t[12 + j] = d1 - d3;
    }
#pragma GCC unroll 4
    for (std::size_t i = 0; i < 16; i += 4) {
      v::store(t[i] - t[i + 2], out + i * stride + c);
      v::store(t[i + 1] + t[i + 2], out + (i + 1) * stride + c);
      v::store(t[i + 2] - t[i + 1], out + (i + 2) * stride + c);
      v::store(t[i + 1] - t[i + 3], out + (i + 3) * stride + c);
    }
  }
}

// A^T m A is four times the sum modulo 2^32, and the sum is below 2^29.
FASTLIC_INLINE void winograd_sums(const std::int32_t* products, std::size_t stride, v::Ints start, v::Ints (&sums)[4]) {
  v::Uints t[8];
#pragma GCC unroll 4
  for (std::size_t j = 0; j < 4; ++j) {
    const std::int32_t* row = products + j * stride;
    const auto m0 = v::load_as<v::Uints>(row), m1 = v::load_as<v::Uints>(row + 4 * stride);
    const auto m2 = v::load_as<v::Uints>(row + 8 * stride), m3 = v::load_as<v::Uints>(row + 12 * stride);
    t[j] = m0 + m1 + m2;
    t[4 + j] = m1 - m2 - m3;
  }
#pragma GCC unroll 2
  for (std::size_t i = 0; i < 2; ++i) {
    const v::Uints left = t[4 * i] + t[4 * i + 1] + t[4 * i + 2], right = t[4 * i + 1] - t[4 * i + 2] - t[4 * i + 3];
    sums[2 * i] = (reinterpret_cast<v::Ints>(left) >> 2) + start;
    sums[2 * i + 1] = (reinterpret_cast<v::Ints>(right) >> 2) + start;
  }
}

template <typename Out>
[[FASTLIC_TARGET]] void winograd_output(const std::int32_t* products, std::size_t stride, const std::int32_t* bias,
                                        const Requantiser& r, Channels channels, Out* const* out) {
  Out* const to[4] = {out[0], out[1], out[2], out[3]};
  requantised(r, [&] [[FASTLIC_TARGET, gnu::always_inline]] (const auto& finished) {
    std::size_t c = channels.first, i = 0;
    for (; c + v::kWordLanes <= channels.last; c += v::kWordLanes, i += v::kWordLanes) {
      const std::size_t d = c + v::kLanes, j = i + v::kLanes;
      v::Ints first[4], second[4];
      winograd_sums(products + i, stride, v::load(bias + i), first);
      winograd_sums(products + j, stride, v::load(bias + j), second);
#pragma GCC unroll 4
      for (std::size_t k = 0; k < 4; ++k) v::store_pair(finished(c, first[k]), finished(d, second[k]), to[k] + i);
    }
    if (c < channels.last) {
      v::Ints sums[4];
      winograd_sums(products + i, stride, v::load(bias + i), sums);
#pragma GCC unroll 4
      for (std::size_t k = 0; k < 4; ++k) v::store_single(finished(c, sums[k]), to[k] + i);
    }
  });
}

// Branchless binary search: after the loop, `below` thresholds are smaller than the scale.
FASTLIC_INLINE std::uint8_t choose_one(std::int32_t scale, const std::int32_t* thresholds, std::size_t size) {
  std::size_t below = 0;
  for (std::size_t step = size / 2; step > 0; step /= 2) below += thresholds[below + step - 1] < scale ? step : 0;
  return static_cast<std::uint8_t>(below);
}

// Of 64 thresholds, those of nearly all models.
FASTLIC_INLINE v::Ints choose(v::Ints scale, const v::Table& table, v::Ints middle) {
  const v::Ints above = scale > middle;
  v::Ints below = above & 32;
#pragma GCC unroll 5
  for (int step = 16; step > 0; step /= 2) {
    below = table(below + (step - 1), above) < scale ? below + step : below;
  }
  return below;
}

[[FASTLIC_TARGET]] void choose(const std::int32_t* scales, std::size_t count, const Thresholds& thresholds,
                               std::uint8_t* indexes) {
  const std::size_t size = thresholds.values.size();
  const std::int32_t* values = thresholds.values.data();
  if (!v::kGathers || size != 64 || count < v::kLanes) {
    for (std::size_t i = 0; i < count; ++i) indexes[i] = choose_one(scales[i], values, size);
    return;
  }
  const v::Table table{values};
  const v::Ints middle = v::all<v::Ints>(values[31]);
  for (std::size_t i = 0; i < count; i += v::kLanes) {
    const std::size_t at = std::min(i, count - v::kLanes);  // the last ones may be chosen twice
    v::store_bytes(choose(v::load(scales + at), table, middle), indexes + at);
  }
}

// The rest are plain loops, which compilers turn into vectors as they stand.

FASTLIC_INLINE std::uint32_t difference(std::int32_t a, std::int32_t b) {
  return static_cast<std::uint32_t>(a) - static_cast<std::uint32_t>(b);
}

// A difference loses its index's zone, but not beyond zero, before it is rounded.
[[FASTLIC_TARGET]] void quantise(const std::int32_t* latents, const std::int32_t* means, const std::uint8_t* indexes,
                                 const std::int32_t* zones, std::size_t count, std::int32_t* symbols) {
  // |latent| <= 2^26 and |mean| <= 2^26: no overflow, unless another thread changes latents: then it wraps.
  for (std::size_t i = 0; i < count; ++i) {
    auto distance = static_cast<std::int32_t>(difference(latents[i], means[i]));
    if (zones != nullptr) {
      const std::int32_t zone = zones[indexes[i]];
      distance = static_cast<std::int32_t>(difference(distance, std::clamp(distance, -zone, zone)));
    }
    symbols[i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(distance) + (1u << (kMeanBits - 1))) >> kMeanBits;
  }
}

[[FASTLIC_TARGET]] void reconstruct(const std::int32_t* symbols, const std::int32_t* means, const std::uint8_t* indexes,
                                    const std::int32_t* offsets, std::size_t count, std::int32_t* latents) {
  for (std::size_t i = 0; i < count; ++i) {
    const std::int32_t symbol = std::clamp(symbols[i], -kSymbolLimit, kSymbolLimit);
    std::int32_t value = symbol * (1 << kMeanBits) + means[i];
    if (offsets != nullptr) value += ((symbol > 0) - (symbol < 0)) * offsets[indexes[i]];
    latents[i] = std::clamp(value, -kLatentLimit, kLatentLimit);
  }
}

FASTLIC_INLINE v::WordTable table(const LookUp& numbers) {
  return v::WordTable{numbers.words.data(), numbers.bytes.data()};
}

// What a distribution function lacks to 1 at magnitudes in units of channels from `at` on.
FASTLIC_INLINE v::Words tail_of(v::Words magnitude, const Curve& curve, std::size_t at, const v::WordTable& start,
                                const v::WordTable& falls) {
  v::Words fine = v::shift_left(v::least(magnitude, v::load(&curve.reach[at])), v::load(&curve.up[at]));
  fine = v::least(v::shift_right(fine, v::load(&curve.down[at])), v::all<v::Words>(kTailLast));
  const v::Words line = fine >> kTailStep, part = (fine & ((1 << kTailStep) - 1)) << (kTailBits - kTailStep);
  return start(line) - v::multiply_rounded(falls(line), part);
}

// x Phi(x) = max(x, 0) - |x| Q(|x|).
[[FASTLIC_TARGET]] void curve(std::int16_t* x, const Curve& curve, std::size_t first, std::size_t channels,
                              const TailLines& tail) {
  const v::WordTable start = table(tail.start), falls = table(tail.fall);
  for (std::size_t c = 0; c < channels; c += v::kWordLanes) {
    const v::Words a = v::load(x + c), magnitude = v::magnitude(a);
    const v::Words q = tail_of(magnitude, curve, first + c, start, falls);
    v::store(v::most(a, v::Words{}) - v::multiply_rounded(magnitude, q), x + c);
  }
}

[[FASTLIC_TARGET]] void gate(const std::int16_t* a, const std::int16_t* b, const Curve& curve, std::size_t channels,
                             const TailLines& tail, std::int16_t* out) {
  const v::WordTable start = table(tail.start), falls = table(tail.fall);
  for (std::size_t c = 0; c < channels; c += v::kWordLanes) {
    const v::Words x = v::load(a + c), by = v::load(b + c);
    const v::Words low = v::multiply_rounded(x, tail_of(v::magnitude(by), curve, c, start, falls));
    v::store(by < 0 ? low : x - low, out + c);
  }
}

template <bool kPaired = v::kPairedSums>
FASTLIC_INLINE void depthwise_sums(const std::int16_t* const* taps, std::size_t count, const std::int16_t* weights,
                                   const std::int32_t* bias, std::size_t channels, std::int32_t* out) {
  for (std::size_t c = 0; c < channels; c += v::kWordLanes) {
    v::Ints sums[2] = {};
    std::size_t t = 0;
    if constexpr (kPaired) {
#pragma GCC unroll 4
      for (; t + 1 < count; t += 2) {
        const std::int16_t* own = weights + t * channels + c;
        v::multiply_add_both(sums, taps[t] + c, own, taps[t + 1] + c, own + channels);
      }
      v::put_in_order(sums);
    }
#pragma GCC unroll 9
    for (; t < count; ++t) v::multiply_add(sums, taps[t] + c, weights + t * channels + c);
    v::store_pair(sums[0] + v::load(bias + c), sums[1] + v::load(bias + c + v::kLanes), out + c);
  }
}

[[FASTLIC_TARGET]] void depthwise(const std::int16_t* const* taps, std::size_t count, const std::int16_t* weights,
                                  const std::int32_t* bias, std::size_t channels, std::int32_t* out) {
  if (count == 9) {  // of most kernels, without a loop over taps
    depthwise_sums(taps, 9, weights, bias, channels, out);
  } else {
    depthwise_sums(taps, count, weights, bias, channels, out);
  }
}

[[FASTLIC_TARGET]] void square(const std::int16_t* x, std::size_t channels, std::int16_t up, std::int16_t* out) {
  for (std::size_t c = 0; c < channels; c += v::kWordLanes) {
    const v::Words large = v::load(x + c) << up;
    v::store(v::multiply_rounded(large, large), out + c);
  }
}

template <bool kInverse>
FASTLIC_INLINE v::Ints normalised(v::Ints x, v::Ints norm, v::Floats factor, v::Floats limit) {
  const v::Floats root = v::square_root(v::to_floats(norm)), value = v::to_floats(x);
  const v::Floats scaled = (kInverse ? value * root : value / root) * factor;
  return v::nearest(v::most(v::least(scaled, limit), -limit));
}

template <bool kInverse>
FASTLIC_INLINE void normalise_all(const std::int16_t* x, const std::int32_t* norms, const float* factors,
                                  std::size_t channels, float limit, std::int16_t* out) {
  const v::Floats most = v::all<v::Floats>(limit);
  for (std::size_t c = 0; c < channels; c += v::kWordLanes) {
    const std::size_t d = c + v::kLanes;
    v::store_pair(normalised<kInverse>(v::load_wide(x + c), v::load(norms + c), v::load(factors + c), most),
                  normalised<kInverse>(v::load_wide(x + d), v::load(norms + d), v::load(factors + d), most), out + c);
  }
}

[[FASTLIC_TARGET]] void normalise(const std::int16_t* x, const std::int32_t* norms, const float* factors,
                                  std::size_t channels, bool inverse, float limit, std::int16_t* out) {
  if (inverse) {
    normalise_all<true>(x, norms, factors, channels, limit, out);
  } else {
    normalise_all<false>(x, norms, factors, channels, limit, out);
  }
}

template <bool kPaired = v::kPairedSums>
FASTLIC_INLINE void add_mixed(v::Ints (&sums)[2], const std::int16_t* a, const std::int16_t* left,
                              const std::int16_t* b, const std::int16_t* right) {
  if constexpr (kPaired) {
    v::multiply_add_both(sums, a, left, b, right);
    v::put_in_order(sums);
  } else {
    v::multiply_add(sums, a, left);
    v::multiply_add(sums, b, right);
  }
}

[[FASTLIC_TARGET]] void mix(const std::int16_t* a, const std::int16_t* b, const std::int16_t* left,
                            const std::int16_t* right, std::size_t channels, int shift, std::int32_t limit,
                            std::int16_t* out) {
  const v::Ints most = v::all<v::Ints>(limit);
  const std::int32_t rounding = 1 << (shift - 1);
  for (std::size_t c = 0; c < channels; c += v::kWordLanes) {
    v::Ints sums[2] = {v::all<v::Ints>(rounding), v::all<v::Ints>(rounding)};
    add_mixed(sums, a + c, left + c, b + c, right + c);
    v::store_pair(v::most(v::least(sums[0] >> shift, most), -most), v::most(v::least(sums[1] >> shift, most), -most),
                  out + c);
  }
}

[[FASTLIC_TARGET]] Moments moments(const std::int16_t* x, const LevelParameters& own, std::size_t channels) {
  const std::int16_t* weight = own.weight.data();
  // Squares are added in two halves, which 2^14 channels leave in int32.
  v::Ints total = {}, low = {}, high = {};
  for (std::size_t c = 0; c < channels; c += v::kWordLanes) {
    alignas(64) std::int16_t even[v::kWordLanes];
    v::store(v::multiply_rounded(v::load(x + c) << own.up, v::load(weight + c)), even);
    v::Ints squares[2] = {};
    v::multiply_add(squares, even, even);
    total += v::load_wide(even) + v::load_wide(even + v::kLanes);
    low += (squares[0] & 0xFFFF) + (squares[1] & 0xFFFF);
    high += (squares[0] >> 16) + (squares[1] >> 16);
  }
  return {v::sum(total), std::int64_t{v::sum(high)} * 65536 + v::sum(low)};
}

[[FASTLIC_TARGET]] void level(const std::int16_t* x, const LevelParameters& own, std::size_t channels, float mean,
                              float rate, std::int16_t* out) {
  const float *scale = own.scale.data(), *factor = own.factor.data(), *bias = own.bias.data();
  const v::Floats most = v::all<v::Floats>(own.limit);
  const auto at = [&] [[FASTLIC_TARGET, gnu::always_inline]] (std::size_t c) {
    const v::Floats even = (v::to_floats(v::load_wide(x + c)) * v::load(scale + c) - mean) * rate;
    const v::Floats y = even * v::load(factor + c) + v::load(bias + c);
    return v::nearest(v::most(v::least(y, most), -most));
  };
  for (std::size_t c = 0; c < channels; c += v::kWordLanes) v::store_pair(at(c), at(c + v::kLanes), out + c);
}

// 2^-distance in units of 2^-14, distances from 0 to 32767 in units of 2^-11.
FASTLIC_INLINE v::Words halved(v::Words distance, const v::WordTable& start, const v::WordTable& falls) {
  const v::Words fine = distance & 2047, line = fine >> 5, part = (fine & 31) << 10;
  const v::Words along = start(line) - v::multiply_rounded(falls(line), part);
  // Both with the other sign, of which 2^15 is an int16.
  const v::Words power = v::shift_left(v::all<v::Words>(std::int16_t{-1}), 15 - (distance >> 11));
  return v::multiply_rounded(-along, power);
}

// Distances of a row's scores from its highest one.
template <bool kAll>
FASTLIC_INLINE void distances(const Weighing& job, const std::int32_t* scores, std::int16_t* out) {
  const v::Floats sharpness = v::all<v::Floats>(job.sharpness), far = v::all<v::Floats>(32767.0f);
  v::Ints highest = v::all<v::Ints>(std::numeric_limits<std::int32_t>::min());
  for (std::size_t k = 0; k < job.columns; k += v::kLanes) {
    const v::Ints score = v::load(scores + k);
    if constexpr (kAll) {
      highest = v::most(highest, score);
    } else {
      highest = v::load(job.present + k) != 0 ? v::most(highest, score) : highest;
    }
  }
  const v::Ints top = v::all<v::Ints>(v::highest(highest));
  const auto at = [&] [[FASTLIC_TARGET, gnu::always_inline]] (std::size_t k) {
    v::Ints below = top - v::load(scores + k);
    if constexpr (!kAll) below &= v::load(job.present + k);
    return v::nearest(v::least(v::to_floats(below) * sharpness, far));
  };
  for (std::size_t k = 0; k < job.columns; k += v::kWordLanes) v::store_pair(at(k), at(k + v::kLanes), out + k);
}

template <bool kAll>
FASTLIC_INLINE void weigh_rows(const Weighing& job, const TailLines& powers) {
  const v::WordTable start = table(powers.start), falls = table(powers.fall);
  const std::size_t columns = job.columns;
  // In a loop of its own: reading a row right behind the two stores that wrote it would wait for them.
  for (std::size_t r = 0; r < job.rows; ++r) {
    distances<kAll>(job, job.scores + r * columns, job.weights + r * columns);
  }
  for (std::size_t r = 0; r < job.rows; ++r) {
    std::int16_t* weights = job.weights + r * columns;
    v::Ints total = {};
    for (std::size_t k = 0; k < columns; k += v::kWordLanes) {
      v::store(halved(v::load(weights + k), start, falls), weights + k);
      if constexpr (!kAll) {
        v::store_pair(v::load_wide(weights + k) & v::load(job.present + k),
                      v::load_wide(weights + k + v::kLanes) & v::load(job.present + k + v::kLanes), weights + k);
      }
      total += v::load_wide(weights + k) + v::load_wide(weights + k + v::kLanes);
    }
    std::int32_t sum = v::sum(total);
    if (sum > job.most) {
      int shift = 1;
      while (sum >> shift > job.most) ++shift;
      const v::Words down = v::all<v::Words>(static_cast<std::int16_t>(1 << (15 - shift)));
      total = v::Ints{};
      for (std::size_t k = 0; k < columns; k += v::kWordLanes) {
        v::store(v::multiply_rounded(v::load(weights + k), down), weights + k);
        total += v::load_wide(weights + k) + v::load_wide(weights + k + v::kLanes);
      }
      sum = v::sum(total);
    }
    job.inverse[r] = 1.0f / static_cast<float>(sum);
  }
}

[[FASTLIC_TARGET]] void weigh(const Weighing& job, const TailLines& powers) {
  if (job.present == nullptr) {
    weigh_rows<true>(job, powers);
  } else {
    weigh_rows<false>(job, powers);
  }
}

[[FASTLIC_TARGET]] void means(const std::int32_t* sums, const float* inverse, std::size_t rows, const float* factors,
                              float limit, std::int16_t* out, std::size_t stride) {
  const v::Floats most = v::all<v::Floats>(limit);
  for (std::size_t r = 0; r < rows; ++r) {
    const v::Floats by = v::all<v::Floats>(inverse[r]);
    const auto at = [&] [[FASTLIC_TARGET, gnu::always_inline]] (std::size_t c) {
      const v::Floats mean = v::to_floats(v::load(sums + r * kPanel + c)) * by * v::load(factors + c);
      return v::nearest(v::most(v::least(mean, most), -most));
    };
    for (std::size_t c = 0; c < kPanel; c += v::kWordLanes) {
      v::store_pair(at(c), at(c + v::kLanes), out + r * stride + c);
    }
  }
}

constexpr Kernels kKernels = {multiply<std::int8_t>,
                              multiply<std::int16_t>,
                              requantise<std::int16_t>,
                              requantise<std::int32_t>,
                              winograd_input,
                              winograd_output<std::int16_t>,
                              winograd_output<std::int32_t>,
                              choose,
                              quantise,
                              reconstruct,
                              curve,
                              gate,
                              depthwise,
                              square,
                              normalise,
                              mix,
                              moments,
                              level,
                              weigh,
                              means};

}  // namespace FASTLIC_SET
}  // namespace
}  // namespace fastlic::nn

// Every instruction set of this build computes what scalar code does: kernels on random numbers of the ranges that
// they are made for, compared to the bit. For sets that Python's tests cannot reach, such as WebAssembly's.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <tuple>
#include <vector>

#include "fastlic/attention/kernels.hpp"
#include "fastlic/codebook/codebook.hpp"
#include "fastlic/codes/kernels.hpp"
#include "fastlic/gaussian_rans.hpp"
#include "fastlic/nn/kernels.hpp"
#include "fastlic/rans.hpp"

namespace {

using namespace fastlic;
using nn::Buffer, nn::kPanel;

std::mt19937 random_numbers(1);

std::int64_t number(std::int64_t low, std::int64_t high) {
  return std::uniform_int_distribution<std::int64_t>(low, high)(random_numbers);
}
template <typename T>
Buffer<T> numbers(std::size_t count, std::int64_t low, std::int64_t high) {
  Buffer<T> out(count);
  for (T& value : out) value = static_cast<T>(number(low, high));
  // Ends of the range are as likely as not to be where sets differ.
  for (int i = 0; i < 4 && count > 0; ++i) {
    const auto at = static_cast<std::size_t>(number(0, static_cast<std::int64_t>(count) - 1));
    out[at] = static_cast<T>(i % 2 == 0 ? low : high);
  }
  return out;
}

Isa other;  // than scalar

// work(isa) gives anything that can be compared.
template <typename Work>
void same(const char* what, const Work& work) {
  for (int round = 0; round < 20; ++round) {
    const std::mt19937 begin = random_numbers;
    const auto expected = work(Isa::scalar);
    random_numbers = begin;
    if (work(other) != expected) {
      std::fprintf(stderr, "sets: %s differs between scalar and %s, round %d\n", what, isa_name(other), round);
      std::exit(1);
    }
  }
}

template <typename Weight>
void products(const char* what, std::int64_t limit, void (*nn::Kernels::*multiply)(const nn::GemmJob<Weight>&)) {
  same(what, [&](Isa isa) {
    const auto rows = static_cast<std::size_t>(number(1, 50)), depth = 2 * static_cast<std::size_t>(number(1, 120));
    const std::size_t part = sizeof(Weight) == 1 ? nn::kHalfPanel : nn::kQuarterPanel;
    const auto columns = part * static_cast<std::size_t>(number(1, 12)), stride = nn::padded(columns);
    const auto a = numbers<std::int16_t>(rows * depth, -32767, 32767);
    const auto b = numbers<Weight>(depth * stride, -limit, limit);
    const auto start = numbers<std::int32_t>(stride, INT32_MIN, INT32_MAX);
    Buffer<std::int32_t> sums(rows * stride), out;
    const std::vector<const std::int32_t*> starts(rows, start.data());
    (nn::kernels(isa).*multiply)({a.data(), depth, rows, b.data(), depth, columns, starts.data(), sums.data(), stride});
    for (std::size_t r = 0; r < rows; ++r) out.insert(out.end(), &sums[r * stride], &sums[r * stride] + columns);
    return out;
  });
}

nn::Requantiser requantiser(std::size_t channels, std::int32_t limit) {
  nn::Requantiser out;
  out.channels = channels;
  out.limit = limit;
  out.multiplier = numbers<std::int32_t>(channels, INT32_MIN, INT32_MAX);
  out.negative = numbers<std::int32_t>(channels, INT32_MIN, INT32_MAX);
  const bool high = number(0, 1) == 1;  // whether high halves of products are enough
  out.shift = numbers<std::int64_t>(channels, high ? 33 : nn::kMinShift, nn::kMaxShift);
  for (const std::int64_t shift : out.shift) {
    out.rounding.push_back(std::int64_t{1} << (shift - 1));
    if (!high) continue;
    out.high_shift.push_back(static_cast<std::int32_t>(shift - 32));
    out.high_rounding.push_back(static_cast<std::int32_t>(out.rounding.back() >> 32));
  }
  return out;
}

nn::TailLines tail_lines() {
  nn::TailLines out;
  auto values = numbers<std::uint16_t>(nn::kTailLines + 1, 0, 1 << (nn::kTailBits - 1));
  std::sort(values.rbegin(), values.rend());
  for (std::size_t i = 0; i < nn::kTailLines; ++i) {
    out.start.set(i, values[i]);
    out.fall.set(i, values[i] - values[i + 1]);
  }
  return out;
}

nn::Curve curve(std::size_t channels) {
  nn::Curve out;
  out.up = out.down = out.reach = Buffer<std::int16_t>(channels);
  for (std::size_t c = 0; c < channels; ++c) {
    const int exponent = static_cast<int>(number(0, 15));
    out.reach[c] = static_cast<std::int16_t>(std::min(4 << exponent, 8191));
    (exponent <= 12 ? out.up : out.down)[c] = static_cast<std::int16_t>(std::abs(12 - exponent));
  }
  return out;
}

// Transformed tiles, and what they give under weights of some of their channels.
void transformed_products() {
  same("Winograd's transform of inputs, multiplied", [](Isa isa) {
    const nn::Kernels& kernels = nn::kernels(isa);
    const auto tiles = static_cast<std::size_t>(number(1, 40)), phases = static_cast<std::size_t>(number(1, 4));
    const std::size_t size = 2 * static_cast<std::size_t>(number(1, 40)), unit = phases * size;
    const auto x = numbers<std::int16_t>(16 * nn::padded(size), -8191, 8191);
    const std::size_t component = nn::TransformedTile::component_of(tiles, unit);
    Buffer<std::int16_t> in(nn::TransformedTile::all_of(tiles, unit));
    for (std::size_t i = 0; i < tiles; ++i) {
      for (std::size_t phase = 0; phase < phases; ++phase) {
        const std::int16_t* tile[nn::kComponents];
        for (auto& at : tile) at = &x[static_cast<std::size_t>(number(0, 15)) * nn::padded(size)];
        kernels.winograd_input(tile, size, {in.data(), i * unit + phase * size, component});
      }
    }
    // From a phase on, to the end of a tile or, but for the last tile, of the next one.
    const auto at = size * static_cast<std::size_t>(number(0, static_cast<std::int64_t>(phases) - 1));
    const std::size_t more = tiles > 1 ? static_cast<std::size_t>(number(0, 1)) : 0, rows = tiles - more;
    const std::size_t depth = (1 + more) * unit - at;
    const auto b = numbers<std::int16_t>(depth * kPanel, -32767, 32767);
    const auto start = numbers<std::int32_t>(kPanel, INT32_MIN, INT32_MAX);
    const std::size_t columns = nn::kQuarterPanel * static_cast<std::size_t>(number(1, 4));
    // Start values are one row for all, or what is there already.
    const bool again = number(0, 1) == 1;
    auto out = numbers<std::int32_t>(nn::kComponents * rows * kPanel, INT32_MIN, INT32_MAX);
    Buffer<std::int32_t> found;
    for (std::size_t k = 0; k < nn::kComponents; ++k) {
      std::int32_t* own = &out[k * rows * kPanel];
      std::vector<const std::int32_t*> starts(rows, start.data());
      for (std::size_t r = 0; again && r < rows; ++r) starts[r] = own + r * kPanel;
      kernels.multiply_wide(
          nn::transformed_job(kernels, at, component,
                              {&in[k * component], unit, rows, b.data(), depth, columns, starts.data(), own, kPanel}));
      for (std::size_t r = 0; r < rows; ++r) found.insert(found.end(), own + r * kPanel, own + r * kPanel + columns);
    }
    return found;
  });
}

void layers() {
  constexpr std::size_t n = 4 * kPanel;
  products<std::int8_t>("a product of int8", 127, &nn::Kernels::multiply);
  products<std::int16_t>("a product of int16", 32767, &nn::Kernels::multiply_wide);
  same("requantise", [&](Isa isa) {
    const auto narrow = requantiser(n, (1 << number(1, 15)) - 1), wide = requantiser(n, (1 << number(1, 26)) - 1);
    auto acc = numbers<std::int32_t>(n, INT32_MIN, INT32_MAX);
    for (std::size_t i = 0; i < n; ++i) acc[i] >>= number(0, 30);
    Buffer<std::int16_t> out16(n);
    Buffer<std::int32_t> out32(n);
    nn::kernels(isa).requantise16(acc.data(), narrow, {0, n}, out16.data());
    nn::kernels(isa).requantise32(acc.data(), wide, {0, n}, out32.data());
    for (const std::int16_t x : out16) out32.push_back(x);
    return out32;
  });
  transformed_products();
  same("Winograd's transform of outputs", [&](Isa isa) {
    const auto y = numbers<std::int32_t>(16 * kPanel, INT32_MIN, INT32_MAX);
    const auto bias = numbers<std::int32_t>(kPanel, -(1 << 28), 1 << 28);
    Buffer<std::int16_t> out16(4 * kPanel);
    Buffer<std::int32_t> out(4 * kPanel);
    std::int16_t* to16[4];
    std::int32_t* to[4];
    for (std::size_t k = 0; k < 4; ++k) to16[k] = &out16[k * kPanel], to[k] = &out[k * kPanel];
    // Of the whole panel, and of half of it.
    const auto narrow = requantiser(kPanel, (1 << number(1, 15)) - 1),
               wide = requantiser(kPanel, (1 << number(1, 26)) - 1);
    const nn::Channels channels{0, kPanel / static_cast<std::size_t>(number(1, 2))};
    nn::kernels(isa).winograd_output16(y.data(), kPanel, bias.data(), narrow, channels, to16);
    nn::kernels(isa).winograd_output32(y.data(), kPanel, bias.data(), wide, channels, to);
    out.insert(out.end(), out16.begin(), out16.end());
    return out;
  });
  same("curves and gates", [&](Isa isa) {
    const auto lines = tail_lines();
    const auto bends = curve(n);
    auto x = numbers<std::int16_t>(n, -8191, 8191), out = Buffer<std::int16_t>(n);
    const auto y = numbers<std::int16_t>(n, -8191, 8191);
    nn::kernels(isa).gate(x.data(), y.data(), bends, n, lines, out.data());
    nn::kernels(isa).curve(x.data(), bends, 0, n, lines);
    x.insert(x.end(), out.begin(), out.end());
    return x;
  });
  same("depthwise sums, squares, GDN and mixtures", [&](Isa isa) {
    const nn::Kernels& kernels = nn::kernels(isa);
    const auto x = numbers<std::int16_t>(9 * n, -8191, 8191), w = numbers<std::int16_t>(9 * n, -2047, 2047);
    const auto bias = numbers<std::int32_t>(n, -(1 << 28), 1 << 28), norms = numbers<std::int32_t>(n, 1, INT32_MAX);
    Buffer<float> factors;
    for (std::size_t i = 0; i < n; ++i) factors.push_back(std::ldexp(1.0f + static_cast<float>(i) / n, -8));
    const std::int16_t* taps[9];
    for (std::size_t t = 0; t < 9; ++t) taps[t] = &x[t * n];
    Buffer<std::int32_t> out(n);
    Buffer<std::int16_t> each[4] = {Buffer<std::int16_t>(n), Buffer<std::int16_t>(n), Buffer<std::int16_t>(n),
                                    Buffer<std::int16_t>(n)};
    kernels.depthwise(taps, 9, w.data(), bias.data(), n, out.data());
    kernels.square(x.data(), n, 2, each[0].data());
    kernels.normalise(x.data(), norms.data(), factors.data(), n, false, 8191, each[1].data());
    kernels.normalise(x.data(), norms.data(), factors.data(), n, true, 8191, each[2].data());
    kernels.mix(x.data(), &x[n], w.data(), &w[n], n, 11, 8191, each[3].data());
    for (const auto& some : each) out.insert(out.end(), some.begin(), some.end());
    return out;
  });
  same("layer norms and weights of windows", [&](Isa isa) {
    const nn::Kernels& kernels = nn::kernels(isa);
    constexpr std::size_t rows = 3;
    const auto x = numbers<std::int16_t>(n, -8191, 8191);
    nn::LevelParameters level;
    level.up = 2;
    level.limit = 8191;
    level.weight = numbers<std::int16_t>(n, 0, 32767);
    nn::TailLines powers;
    for (std::size_t i = 0; i < nn::kTailLines; ++i) {
      powers.start.set(i, 16384 - 128 * static_cast<int>(i));
      powers.fall.set(i, 128);
    }
    const auto floats = [](std::size_t count, int exponent) {
      Buffer<float> out;
      for (std::size_t i = 0; i < count; ++i)
        out.push_back(std::ldexp(static_cast<float>(number(1, 1 << 24)), exponent));
      return out;
    };
    level.scale = floats(n, -23);
    level.factor = floats(n, -16);
    level.bias = floats(n, -14);
    Buffer<std::int16_t> out(n), weights(rows * n), means(rows * n);
    const nn::Moments moments = kernels.moments(x.data(), level, n);
    kernels.level(x.data(), level, n, 30.0f, 1e-3f, out.data());
    const auto scores = numbers<std::int32_t>(rows * n, -(1 << 30) + 1, (1 << 30) - 1);
    auto present = numbers<std::int32_t>(n, -1, 0);
    present[5] = -1;
    Buffer<float> inverse(2 * rows);
    const float sharpness = std::ldexp(1.0f, static_cast<int>(number(-24, 0)));
    const auto most = static_cast<std::int32_t>(number(1 << 15, 1 << 20));
    kernels.weigh({scores.data(), rows, n, nullptr, sharpness, most, weights.data(), inverse.data()}, powers);
    out.insert(out.end(), weights.begin(), weights.end());
    kernels.weigh({scores.data(), rows, n, present.data(), sharpness, most, weights.data(), &inverse[rows]}, powers);
    kernels.means(scores.data(), inverse.data(), rows, level.factor.data(), 8191, means.data(), n);
    for (const auto* some : {&weights, &means}) out.insert(out.end(), some->begin(), some->end());
    return std::tuple(moments.sum, moments.squares, out, inverse);
  });
  same("scale indexes", [&](Isa isa) {
    nn::Thresholds thresholds;
    thresholds.values = numbers<std::int32_t>(64, 0, 1 << 20);
    std::sort(thresholds.values.begin(), thresholds.values.end());
    const auto scales = numbers<std::int32_t>(93, -10, 1 << 20);
    Buffer<std::uint8_t> out(scales.size());
    nn::kernels(isa).choose(scales.data(), scales.size(), thresholds, out.data());
    return out;
  });
}

void attention_and_codes() {
  same("attention", [&](Isa isa) {
    const attention::Kernels& kernels = attention::kernels(isa);
    attention::Tables tables;
    tables.last = 500;
    tables.exp = numbers<std::uint16_t>(502, 0, attention::kWeight);
    tables.exp[0] = attention::kWeight;
    tables.exp[500] = 0;
    constexpr std::size_t kStride = 32;
    const attention::Score score{number(1, INT32_MAX), number(1, INT32_MAX), number(30, 45), attention::kScore};
    const auto tokens = numbers<std::int16_t>(attention::kTokens * 3 * kStride, -2047, 2047);
    const auto bias = numbers<std::int32_t>(attention::kTokens * kPanel, -2000, 2000);
    attention::Window window{};
    for (std::size_t t = 0; t < attention::kTokens; ++t) window.tokens[t] = &tokens[3 * kStride * (t % 5 == 3 ? 3 : t)];
    window.common = window.tokens[3];
    window.dims = window.stride = window.out_stride = kStride;
    window.bias = bias.data();
    window.anchors = 0x0AAAAAA;
    window.score = score;
    Buffer<std::int32_t> out(attention::kTokens * kStride);
    kernels.window(window, tables, out.data());

    auto products = numbers<std::int32_t>(3 * kPanel, -(1 << 27), 1 << 27);
    const std::int32_t highest = kernels.score(products.data(), products.size(), score);
    Buffer<std::int16_t> weights(products.size());
    out.push_back(kernels.soften(products.data(), products.size(), highest, tables, weights.data()));
    out.insert(out.end(), products.begin(), products.end());
    out.insert(out.end(), weights.begin(), weights.end());

    Buffer<double> context;
    for (const std::int64_t x : numbers<std::int64_t>(kStride * kStride, -(1 << 27), 1 << 27)) {
      context.push_back(static_cast<double>(x));
    }
    Buffer<std::int64_t> means(kStride);
    kernels.apply(weights.data(), context.data(), kStride, number(1, 1 << 20), means.data());
    for (const std::int64_t mean : means) {
      out.push_back(static_cast<std::int32_t>(mean));
      out.push_back(static_cast<std::int32_t>(mean >> 32));
    }
    return out;
  });
  same("frequencies of codes", [&](Isa isa) {
    const codes::Kernels& kernels = codes::kernels(isa);
    constexpr std::size_t n = 8 * kPanel;
    const auto logits = numbers<std::int32_t>(n, -4000, 4000), table = numbers<std::int32_t>(256, 1 << 19, 1 << 20);
    Buffer<std::uint32_t> weights(n), shares(n), sums(n / kPanel);
    const codes::Peak peak = kernels.peak(logits.data(), n);
    const std::uint64_t total = kernels.weigh(logits.data(), n, peak.logit, table.data(), weights.data());
    weights.push_back(static_cast<std::uint32_t>(total));
    weights.push_back(static_cast<std::uint32_t>(total >> 32));
    weights.push_back(static_cast<std::uint32_t>(peak.word));
    weights.push_back(kernels.share(weights.data(), n, 99999, 20, shares.data(), sums.data()));
    weights.insert(weights.end(), shares.begin(), shares.end());
    weights.insert(weights.end(), sums.begin(), sums.end());
    return weights;
  });
  same("nearest words", [&](Isa isa) {
    constexpr std::size_t kGroups = 2, kWords = 96, kChannels = 8, kRows = 100;
    const auto drawn = numbers<std::int32_t>((kWords + kRows) * kGroups * kChannels, -100, 100);
    const std::vector<float> words(drawn.begin(), drawn.begin() + kWords * kGroups * kChannels);
    const std::vector<float> rows(drawn.begin() + kWords * kGroups * kChannels, drawn.end());
    const codebook::Codebooks books(words.data(), kGroups, kWords, kChannels, isa);
    std::vector<std::int64_t> found(kRows * kGroups);
    books.nearest(rows.data(), kRows, {kGroups * kChannels, kChannels, 1}, found.data(), 1);
    return found;
  });
}

// encode() and decode(bytes, size, out): the same bytes, and symbols that come back.
template <typename Encode, typename Decode>
Vector<std::uint8_t> both_ways(const Buffer<std::int32_t>& symbols, const Encode& encode, const Decode& decode) {
  Vector<std::uint8_t> data = encode();
  Buffer<std::int32_t> decoded(symbols.size());
  decode(data.data(), data.size(), decoded.data());
  data.push_back(decoded == symbols);
  return data;
}

void coders() {
  for (const unsigned lanes : {1u, 4u, 8u, 16u, 64u}) {
    same("a coder", [&](Isa isa) {
      set_isa(isa);
      const auto n = static_cast<std::size_t>(number(1, 5000));
      const std::int32_t cdf[] = {0, 700, 2000, 3500, 4095, 4096, 0, 1, 2, 3, 4090, 4096};
      const std::int32_t lengths[] = {6, 6}, offsets[] = {-2, -1};
      const std::uint8_t shifts[] = {0, 2};
      const CdfTables tables(cdf, lengths, offsets, shifts, 12);
      const auto symbols = numbers<std::int32_t>(n, -9, 12);
      const auto indexes = numbers<std::uint8_t>(n, 0, 1);
      auto data = both_ways(
          symbols, [&] { return rans_encode(symbols.data(), indexes.data(), n, tables, lanes); },
          [&](auto* at, auto size, auto* out) { RansDecoder(at, size, tables).decode(indexes.data(), out, n); });
      std::vector<float> means, scales;
      for (std::size_t i = 0; i < n; ++i) {
        means.push_back(static_cast<float>(number(-5000, 5000)) / 512);
        scales.push_back(std::ldexp(1.0f + static_cast<float>(number(0, 255)) / 256, static_cast<int>(number(-6, 8))));
      }
      const auto more = both_ways(
          symbols, [&] { return gaussian_encode(symbols.data(), means.data(), scales.data(), n, lanes); },
          [&](auto* at, auto size, auto* out) { gaussian_decode(at, size, means.data(), scales.data(), out, n); });
      data.insert(data.end(), more.begin(), more.end());
      return data;
    });
  }
}

}  // namespace

int main() {
  for (const Isa isa : supported_isas()) {
    if (isa == Isa::scalar) continue;
    other = isa;
    layers();
    attention_and_codes();
    coders();
    std::printf("%s: the same as scalar\n", isa_name(isa));
  }
}

#include "fastlic/nn/windows.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "fastlic/memory.hpp"
#include "fastlic/nn/tiles.hpp"
#include "fastlic/parallel.hpp"

namespace fastlic::nn {
namespace {

constexpr std::size_t kMaxWindow = 16;
constexpr std::size_t kMaxPlaces = std::size_t{1} << 22;  // of biases
constexpr std::int64_t kScores = (std::int64_t{1} << 30) - 1;
constexpr int kBiasBits = 8;

void require_bits(const String& name, unsigned input_bits, unsigned bits, std::int32_t input) {
  const auto good = [](unsigned of) { return of >= 2 && of <= kMaxActivationBits; };
  require(good(input_bits) && good(bits), name, "must have 2 to 16 bits of inputs and outputs");
  require(input <= magnitude_limit(input_bits), name, "accepts fewer bits than its input has");
}

// Sizes of what a thread keeps, in numbers.
struct Sizes {
  std::size_t rows, columns, depth, dims, keys, tokens, values, channels;
  explicit Sizes(const WindowAttention& w)
      : rows(w.tokens()),
        columns(w.columns),
        depth(w.dims + w.dims % 2),
        dims(padded(w.dims)),
        keys(depth * columns),
        tokens(rows + rows % 2),
        values(tokens * dims),
        channels(padded(w.channels()) + kPanel) {}

  // queries, keys, values, weights, outputs
  std::size_t words() const { return rows * depth + kHalfPanel + keys + values + rows * columns + rows * channels; }
  // sums of both products
  std::size_t ints() const { return rows * std::max(columns, dims) + kPanel; }
};

// Where a window's positions lie.
struct Tokens {
  std::size_t count = 0;  // in the map
  std::size_t row[256], column[256];
  std::size_t token[256];         // of each its number in a whole window
  const std::int16_t* from[257];  // of each of a whole window; zeros of those that are none of the map's, and behind
};

// Keys of a head as a matrix (packed.hpp), by pairs of dimensions; the tokens' channels begin at `first`.
void pack_keys(const Tokens& at, std::size_t tokens, std::size_t first, std::size_t dims, std::size_t depth,
               std::int16_t* keys) {
  for (std::size_t t = 0; t < tokens; ++t) {
    const std::int16_t* from = at.from[t] + first;
    std::int16_t* key = keys + t / kPanel * kPanel * depth + 2 * (t % kPanel);
    for (std::size_t d = 0; d + 1 < dims; d += 2) std::memcpy(key + d * kPanel, from + d, 2 * sizeof *key);
    if (dims % 2 != 0) key[(dims - 1) * kPanel] = from[dims - 1];
  }
}

// Values, by pairs of tokens.
void pack_values(const Tokens& at, std::size_t tokens, std::size_t first, std::size_t dims, std::int16_t* values) {
  for (std::size_t panel = 0; panel < dims; panel += kPanel) {
    const std::size_t count = std::min(kPanel, dims - panel);
    for (std::size_t t = 0; t < tokens; t += 2) {
      const std::int16_t *a = at.from[t] + first + panel, *b = at.from[t + 1] + first + panel;
      std::int16_t* to = values + panel * tokens + t * kPanel;
      for (std::size_t d = 0; d < count; ++d) {
        to[2 * d] = a[d];
        to[2 * d + 1] = b[d];
      }
    }
  }
}

}  // namespace

Buffer<std::int32_t> read_window_bias(const ArrayReader& arrays, const String& name, std::size_t heads,
                                      std::size_t size, std::int64_t limit) {
  const std::size_t side = 2 * size - 1, tokens = size * size, columns = padded(tokens);
  const ArrayRef& array = arrays.get(name, Type::int32, 2);
  require(array.shape[0] == heads && array.shape[1] == side * side, name,
          "must be one row per head, a number for each distance: [" + to_string(heads) + ", " + to_string(side * side) +
              "]");
  const auto* values = static_cast<const std::int32_t*>(array.data);
  for (std::size_t i = 0; i < array.size(); ++i) {
    require(std::abs(std::int64_t{values[i]}) <= limit, name, "lets scores leave their bits");
  }
  Buffer<std::int32_t> out(heads * tokens * columns);
  for (std::size_t h = 0; h < heads; ++h) {
    for (std::size_t query = 0; query < tokens; ++query) {
      for (std::size_t key = 0; key < tokens; ++key) {
        const std::size_t behind = query / size + size - 1 - key / size, right = query % size + size - 1 - key % size;
        out[(h * tokens + query) * columns + key] = values[(h * side + behind) * side + right];
      }
    }
  }
  return out;
}

LayerNorm read_layer_norm(const ArrayReader& arrays, const String& name, std::span<const std::uint8_t> numbers,
                          std::size_t channels, std::int32_t input, std::int32_t& output) {
  require_bits(name + ".step", numbers[1], numbers[2], input);
  const auto weight = arrays.int16s(name + ".weight");
  const auto epsilon = arrays.int32s(name + ".epsilon"), bias = arrays.int32s(name + ".bias");
  require(channels <= kMaxChannels, name + ".weight", "serves more than 16384 channels");
  require(weight.size() == channels && bias.size() == channels, name + ".weight", "and bias must be one per channel");
  require(epsilon.size() == 2 && epsilon[0] >= 1 && epsilon[1] >= 0 && epsilon[1] <= 30, name + ".epsilon",
          "must be a number from 1, and a shift of 0 to 30");
  LayerNorm out;
  out.channels = channels;
  out.epsilon = std::int64_t{epsilon[0]} << epsilon[1];
  LevelParameters& own = out.parameters;
  const std::size_t more = padded(channels) - channels;
  own.up = static_cast<std::int16_t>(16 - numbers[1]);
  own.limit = static_cast<float>(magnitude_limit(numbers[2]));
  own.scale = read_factors(arrays, name + ".scale", channels, more);
  own.factor = read_factors(arrays, name, channels, more, true);
  own.weight.assign(padded(channels), 0);
  own.bias.assign(padded(channels), 0);
  for (std::size_t c = 0; c < channels; ++c) {
    require(weight[c] >= 0, name + ".weight", "must not be negative");
    require(bias[c] > -kFactorLimit && bias[c] < kFactorLimit, name + ".bias", "must be below 2^24 in magnitude");
    own.weight[c] = weight[c];
    own.bias[c] = std::ldexp(static_cast<float>(bias[c]), -kBiasBits);
  }
  output = magnitude_limit(numbers[2]);
  return out;
}

WindowAttention read_windows(const ArrayReader& arrays, const String& name, std::span<const std::uint8_t> numbers,
                             std::size_t channels, std::int32_t input, std::int32_t& output) {
  WindowAttention out;
  out.size = numbers[1];
  out.offset = numbers[2];
  out.heads = numbers[3];
  require_bits(name + ".step", numbers[4], numbers[5], input);
  require(out.size >= 1 && out.size <= kMaxWindow && out.offset < out.size, name + ".step",
          "must have windows of 1 to 16, which begin below that");
  require(out.heads >= 1 && channels % (3 * out.heads) == 0, name + ".step",
          "must have heads that share queries, keys and values evenly");
  require(channels / 3 <= kMaxChannels, name + ".step", "serves more than 16384 channels");
  out.dims = channels / 3 / out.heads;
  out.columns = padded(out.tokens());
  require(out.heads * out.tokens() * out.columns <= kMaxPlaces, name + ".step", "has too many heads of such windows");
  const std::int64_t limit = magnitude_limit(numbers[4]);
  out.bias = read_window_bias(arrays, name + ".bias", out.heads, out.size,
                              kScores - static_cast<std::int64_t>(out.dims) * limit * limit);
  out.sharpness = read_factors(arrays, name + ".sharpness", out.heads, 0);
  out.factors = read_factors(arrays, name, out.channels(), padded(out.channels()) - out.channels() + kPanel);
  out.most = static_cast<std::int32_t>(std::numeric_limits<std::int32_t>::max() / limit -
                                       static_cast<std::int64_t>(out.tokens()));
  out.limit = static_cast<float>(magnitude_limit(numbers[5]));
  output = magnitude_limit(numbers[5]);
  return out;
}

Softmax read_softmax(const ArrayReader& arrays, const String& name, std::span<const std::uint8_t> numbers,
                     std::size_t channels, std::int32_t& output) {
  Softmax out;
  out.groups = numbers[1];
  require(numbers[2] >= 2 && numbers[2] <= kMaxActivationBits, name + ".step", "must have 2 to 16 bits of outputs");
  require(channels <= kMaxChannels, name + ".step", "serves more than 16384 channels");
  require(out.groups >= 1 && channels % out.groups == 0, name + ".step", "must have groups that share channels evenly");
  out.each = channels / out.groups;
  out.columns = padded(out.each);
  out.sharpness = read_factors(arrays, name + ".sharpness", out.groups, 0);
  const Buffer<float> factors = read_factors(arrays, name, channels, 0);
  out.factors.assign(out.groups * out.columns, 0);
  out.present.assign(out.columns, 0);
  std::fill_n(out.present.begin(), out.each, -1);
  for (std::size_t g = 0; g < out.groups; ++g) {
    std::copy_n(&factors[g * out.each], out.each, &out.factors[g * out.columns]);
  }
  output = magnitude_limit(numbers[2]);
  out.limit = static_cast<float>(output);
  return out;
}

MapMean read_map_mean(const ArrayReader& arrays, const String& name, std::span<const std::uint8_t> numbers,
                      std::size_t channels, std::int32_t& output) {
  require(numbers[1] >= 2 && numbers[1] <= kMaxActivationBits, name + ".step", "must have 2 to 16 bits of outputs");
  require(channels <= kMaxChannels, name + ".step", "serves more than 16384 channels");
  output = magnitude_limit(numbers[1]);
  return {channels, read_factors(arrays, name, channels, 0), static_cast<float>(output)};
}

void weigh(const Softmax& softmax, const TailLines& powers, const std::int16_t* x, std::int16_t* out,
           const Kernels& kernels) {
  const std::size_t columns = softmax.columns, each = softmax.each;
  std::int16_t* weights = scratch<std::int16_t>(2 * columns);
  std::int32_t* scores = scratch<std::int32_t>(columns);
  for (std::size_t g = 0; g < softmax.groups; ++g) {
    std::fill(std::copy_n(x + g * each, each, scores), scores + columns, 0);
    float inverse = 0;
    const std::int32_t most = std::numeric_limits<std::int32_t>::max();
    kernels.weigh({scores, 1, columns, softmax.present.data(), softmax.sharpness[g], most, weights, &inverse}, powers);
    std::copy_n(weights, columns, scores);
    for (std::size_t c = 0; c < columns; c += kPanel) {
      kernels.means(scores + c, &inverse, 1, &softmax.factors[g * columns + c], softmax.limit, weights + columns + c,
                    kPanel);
    }
    std::copy_n(weights + columns, each, out + g * each);
  }
  const std::size_t channels = softmax.groups * each;
  std::fill(out + channels, out + padded(channels), std::int16_t{0});
}

Buffer<std::int16_t> mean_of(const MapMean& mean, const Source& x, Team& team) {
  const std::size_t channels = mean.channels;
  constexpr std::size_t kRun = std::size_t{1} << 16;  // positions whose sum is an int32
  Buffer<std::int64_t> sums(x.height * channels);     // of each row
  parallel_for(x.height, team, [&](std::size_t row) {
    std::int64_t* to = &sums[row * channels];
    std::int32_t* run = scratch<std::int32_t>(channels);
    for (std::size_t first = 0; first < x.width; first += kRun) {
      std::fill_n(run, channels, 0);
      for (std::size_t column = first; column < std::min(first + kRun, x.width); ++column) {
        const std::int16_t* from = x.at(row, column);
        for (std::size_t c = 0; c < channels; ++c) run[c] += from[c];
      }
      for (std::size_t c = 0; c < channels; ++c) to[c] += run[c];
    }
  });
  Buffer<std::int16_t> out(padded(channels));
  const auto positions = static_cast<double>(x.positions());
  for (std::size_t c = 0; c < channels; ++c) {
    std::int64_t sum = 0;
    for (std::size_t row = 0; row < x.height; ++row) sum += sums[row * channels + c];
    const float own = static_cast<float>(static_cast<double>(sum) / positions) * mean.factors[c];
    out[c] = static_cast<std::int16_t>(std::nearbyint(std::clamp(own, -mean.limit, mean.limit)));
  }
  return out;
}

void normalise(const LayerNorm& norm, const std::int16_t* x, std::int16_t* out, const Kernels& kernels) {
  const std::size_t channels = padded(norm.channels);
  const Moments moments = kernels.moments(x, norm.parameters, channels);
  const auto count = static_cast<std::int64_t>(norm.channels);
  const std::int64_t squares = count * moments.squares - moments.sum * moments.sum + norm.epsilon;
  const auto all = static_cast<double>(count);
  const auto mean = static_cast<float>(static_cast<double>(moments.sum) / all);
  const auto rate = static_cast<float>(all / std::sqrt(static_cast<double>(squares)));
  kernels.level(x, norm.parameters, channels, mean, rate, out);
}

void attend(const WindowAttention& w, const TailLines& powers, const Source& x, const Target& out, Rows rows,
            const Tools& tools) {
  const std::size_t p = w.size, above = (p - w.offset) % p;  // as if so many rows and columns lay in front of the map
  const std::size_t first = (rows.first + above) / p, last = (rows.last + above + p - 1) / p;
  const std::size_t across = (x.width + above + p - 1) / p;
  const Sizes sizes(w);
  const Buffer<std::int16_t> zeros_of_tokens(x.stride);
  parallel_for((last - first) * across, tools.team, [&](std::size_t job) {
    const std::size_t top = (first + job / across) * p, left = job % across * p;  // of that larger map
    Tokens at;
    std::int32_t present[256] = {};
    for (std::size_t t = 0; t < w.tokens(); ++t) {
      const std::size_t row = top + t / p - above, column = left + t % p - above;  // below zero: wrapped to large
      at.from[t] = zeros_of_tokens.data();
      if (row >= x.height || column >= x.width) continue;
      at.from[t] = x.at(row, column);
      at.row[at.count] = row;
      at.column[at.count] = column;
      at.token[at.count++] = t;
      present[t] = -1;
    }
    at.from[w.tokens()] = zeros_of_tokens.data();
    std::int16_t* words = scratch<std::int16_t>(sizes.words());
    std::int16_t *queries = words, *keys = queries + sizes.rows * sizes.depth + kHalfPanel, *values = keys + sizes.keys;
    std::int16_t *weights = values + sizes.values, *outputs = weights + sizes.rows * sizes.columns;
    std::int32_t* sums = scratch<std::int32_t>(sizes.ints());
    float inverse[256];
    const std::int32_t zeros[kPanel] = {};
    const std::int32_t* start[256];
    const bool whole = at.count == w.columns;
    const std::size_t channels = w.channels();
    const ReadyTiles ready(tools.kernels);
    // What stays between the heads: columns of no token, and of no dimension.
    std::memset(keys, 0, sizes.keys * sizeof *keys);
    std::memset(values, 0, sizes.values * sizeof *values);
    for (std::size_t h = 0; h < w.heads; ++h) {
      for (std::size_t i = 0; i < at.count; ++i) {
        const std::size_t token = at.token[i];
        std::int16_t* query = queries + i * sizes.depth;
        std::copy_n(at.from[token] + h * w.dims, w.dims, query);
        if (w.dims % 2 != 0) query[w.dims] = 0;
        start[i] = &w.bias[(h * w.tokens() + token) * w.columns];
      }
      pack_keys(at, w.tokens(), channels + h * w.dims, w.dims, sizes.depth, keys);
      pack_values(at, sizes.tokens, 2 * channels + h * w.dims, w.dims, values);
      tools.kernels.multiply_wide(
          {queries, sizes.depth, at.count, keys, sizes.depth, sizes.columns, start, sums, sizes.columns});
      tools.kernels.weigh(
          {sums, at.count, sizes.columns, whole ? nullptr : present, w.sharpness[h], w.most, weights, inverse}, powers);
      std::fill_n(start, at.count, zeros);
      for (std::size_t d = 0; d < sizes.dims; d += kPanel) {
        tools.kernels.multiply_wide(
            {weights, sizes.columns, at.count, values + d * sizes.tokens, sizes.tokens, kPanel, start, sums, kPanel});
        tools.kernels.means(sums, inverse, at.count, &w.factors[h * w.dims + d], w.limit, outputs + h * w.dims + d,
                            sizes.channels);
      }
    }
    // A head's last panel goes beyond it: into the next one, which comes later, or into padding.
    const std::size_t used = padded(channels);
    for (std::size_t i = 0; i < at.count; ++i) {
      std::int16_t* to = out.at(at.row[i], at.column[i]);
      std::copy_n(outputs + i * sizes.channels, used, to);
      std::fill(to + channels, to + used, std::int16_t{0});
    }
  });
}

std::uint64_t scratch_of(const WindowAttention& windows) {
  const Sizes sizes(windows);
  return 2 * std::uint64_t{sizes.words()} + 4 * std::uint64_t{sizes.ints()} +
         tile_scratch(windows.tokens(), std::max(sizes.depth, sizes.tokens));
}

}  // namespace fastlic::nn

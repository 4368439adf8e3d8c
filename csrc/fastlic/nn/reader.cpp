#include "fastlic/nn/reader.hpp"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <limits>

#include "fastlic/memory.hpp"

namespace fastlic::nn {
namespace {

constexpr unsigned kExponents = 16;
constexpr std::int32_t kCurveLimit = (1 << 13) - 1;
constexpr std::size_t kMaxTaps = 81;
constexpr std::size_t kNowhere = std::numeric_limits<std::size_t>::max();

std::size_t channels_of(const Inputs& inputs) {
  std::size_t sum = 0;
  for (const Block& block : inputs) sum += block.count;
  return sum;
}

std::size_t size_of(const Inputs& inputs) {
  std::size_t sum = 0;
  for (const Block& block : inputs) sum += block.size;
  return sum;
}

// Where in a row each input lies.
Vector<std::size_t> places(const Inputs& inputs) {
  Vector<std::size_t> out;
  std::size_t begin = 0;
  for (const Block& block : inputs) {
    for (std::size_t c = 0; c < block.count; ++c) out.push_back(block.size == 0 ? kNowhere : begin + c);
    begin += block.size;
  }
  return out;
}

// Taps of the outputs (up * u + row, up * v + column), as distances from (u, v).
Vector<Tap> taps_of(const RawLayer& raw, int row, int column) {
  // A convolution (padding k/2) gathers from out + i - k/2. A transposed one of stride s adds input u to outputs
  // s * u + i - k/2, so output o = s * u' + p gathers, over taps i of the right residue, from u' + (p + k/2 - i) / s.
  const int half = static_cast<int>(raw.rows / 2), stride = static_cast<int>(raw.up);
  const int phase[2] = {row, column};
  Vector<Tap> taps;
  for (std::size_t i = 0; i < raw.rows; ++i) {
    for (std::size_t j = 0; j < raw.columns; ++j) {
      int from[2] = {static_cast<int>(i) - half, static_cast<int>(j) - half};
      bool live = true;
      for (int axis = 0; raw.transposed && axis < 2; ++axis) {
        const int distance = phase[axis] - from[axis];
        live = live && distance % stride == 0;
        from[axis] = distance / stride;
      }
      if (live) taps.push_back({{from[0], from[1]}, i, j});
    }
  }
  return taps;
}

bool fits_winograd(const RawLayer& raw, bool positive) {
  const bool halved = raw.kind == kHalved;
  // Few inputs are not worth four transforms each.
  if (raw.rows == 1 || (halved && (raw.rows > 5 || raw.inputs < kHalfPanel))) return false;
  if (raw.input_limit > magnitude_limit(kMaxWinogradBits)) return false;
  if (raw.wide) {
    int most = 0;
    for (const std::int16_t weight : raw.weight) most = std::max(most, std::abs(int{weight}));
    if (most > kWinogradWeight) return false;
  }
  for (std::size_t out = 0; out < raw.outputs; ++out) {
    if (raw.reach[out] > kWinogradReach && raw.reach_of_positions(out, positive) > kWinogradReach) return false;
  }
  return true;
}

// The largest distance of a tap.
std::size_t reach_of(const Vector<Tap>& taps) {
  int reach = 0;
  for (const Tap& tap : taps) reach = std::max({reach, std::abs(tap.offset.row), std::abs(tap.offset.column)});
  return static_cast<std::size_t>(reach);
}

// Along one axis: which piece a tap belongs to, and which of the piece's three it is.
struct Split {
  std::size_t piece, position;
  Split(int offset, std::size_t splits) {
    const auto from = static_cast<std::size_t>(offset + static_cast<int>(splits));
    piece = std::min(from / 2, splits - 1);
    position = from - 2 * piece;
  }
};

// Taps of a layer that divides sizes by 2, as those of four interleaved maps.
void interleave(Vector<Tap>& taps) {
  for (Tap& tap : taps) {
    const int row = tap.offset.row & 1, column = tap.offset.column & 1;
    tap.phase = static_cast<std::size_t>(2 * row + column);
    tap.offset = {(tap.offset.row - row) / 2, (tap.offset.column - column) / 2};
  }
}

// 3x3 taps of one map, of which some may be none.
struct Piece {
  std::array<const Tap*, 9> taps{};

  // 2G's first row reads only the first tap, its last only the third.
  bool feeds(std::size_t component) const {
    const std::size_t i = component / 4, j = component % 4;
    for (std::size_t t = 0; t < 9; ++t) {
      const bool row = i == 0 ? t / 3 == 0 : i == 3 ? t / 3 == 2 : true;
      const bool column = j == 0 ? t % 3 == 0 : j == 3 ? t % 3 == 2 : true;
      if (taps[t] != nullptr && row && column) return true;
    }
    return false;
  }
};

std::array<Vector<Strip>, kComponents> strips_of(const RawLayer& raw, const Vector<Tap>& taps, const Inputs& inputs,
                                                 const Reader::Outputs& outputs, std::size_t count, std::size_t splits,
                                                 std::size_t phases) {
  // By row, then as their inputs lie in memory.
  const std::size_t size = size_of(inputs), across = splits * phases;
  Vector<Piece> pieces(splits * across);
  for (const Tap& tap : taps) {
    const Split row(tap.offset.row, splits), column(tap.offset.column, splits);
    Piece& piece = pieces[row.piece * across + column.piece * phases + tap.phase];
    piece.taps[3 * row.position + column.position] = &tap;
  }
  std::array<Vector<Strip>, kComponents> out;
  const auto place = places(inputs);
  struct Place {
    std::size_t strip = kNowhere, first = 0;  // in its strip
  };
  Vector<std::array<Place, kComponents>> where(pieces.size());
  for (std::size_t k = 0; k < kComponents; ++k) {
    Vector<std::size_t> lengths;
    for (std::size_t p = 0; p < pieces.size(); ++p) {
      if (!pieces[p].feeds(k)) continue;
      const bool follows = p % across > 0 && where[p - 1][k].strip != kNowhere;
      if (!follows) {
        out[k].push_back({p / across, p % across * size, {}});
        lengths.push_back(0);
      }
      where[p][k] = {out[k].size() - 1, lengths.back()};
      lengths.back() += size;
    }
    for (std::size_t i = 0; i < lengths.size(); ++i) out[k][i].weights = WideMatrix(lengths[i], count);
  }
  // As many outputs at once as lie next to each other in a matrix, kWeights being a part of a panel.
  for (std::size_t c = 0; c < count; c += kWeights) {
    const std::size_t n = std::min(kWeights, count - c);
    for (std::size_t in = 0; in < raw.inputs; ++in) {
      if (place[in] == kNowhere) continue;
      const std::int16_t* all = &raw.weight[raw.index(outputs.first + c * outputs.step, in, 0, 0)];
      const std::size_t next = raw.index(outputs.step, 0, 0, 0);
      for (std::size_t p = 0; p < pieces.size(); ++p) {
        std::array<Weights, 9> kernels{};
        for (std::size_t t = 0; t < 9; ++t) {
          const Tap* tap = pieces[p].taps[t];
          if (tap == nullptr) continue;
          const std::int16_t* from = all + tap->i * raw.columns + tap->j;
          for (std::size_t i = 0; i < n; ++i) kernels[t][i] = from[i * next];
        }
        const auto values = transform_kernels(kernels);
        for (std::size_t k = 0; k < kComponents; ++k) {
          const Place& own = where[p][k];
          if (own.strip == kNowhere) continue;
          const WideMatrix& to = out[k][own.strip].weights;
          std::int16_t* at = to.data.data() + to.offset(own.first + place[in], c);
          for (std::size_t i = 0; i < kWeights; ++i) at[2 * i] = values[k][i];
        }
      }
    }
  }
  return out;
}

// A layer that doubles sizes as a plain one with the outputs of all four positions, one position after the other.
RawLayer merged(const RawLayer& raw) {
  RawLayer out = raw;
  const std::size_t cells = raw.up * raw.up, each = raw.kind == kShuffled ? raw.outputs / cells : raw.outputs;
  Vector<Vector<Tap>> taps;
  std::size_t reach = 0;
  for (std::size_t p = 0; p < cells; ++p) {
    for (std::size_t c = 0; c < each; ++c) out.stored.push_back(raw.kind == kShuffled ? c * cells + p : c);
    taps.push_back(taps_of(raw, static_cast<int>(p / raw.up), static_cast<int>(p % raw.up)));
    reach = std::max(reach, reach_of(taps.back()));
  }
  out.outputs = out.stored.size();
  out.rows = out.columns = 2 * reach + 1;
  out.kind = kPlain;
  out.transposed = false;
  out.up = 1;
  out.weight.assign(out.outputs * out.inputs * out.rows * out.columns, 0);
  out.bias.clear();
  const int centre = static_cast<int>(reach);
  for (std::size_t to = 0; to < out.outputs; ++to) {
    out.bias.push_back(raw.bias[out.stored[to]]);
    for (const Tap& tap : taps[to / each]) {
      const auto i = static_cast<std::size_t>(tap.offset.row + centre);
      const auto j = static_cast<std::size_t>(tap.offset.column + centre);
      for (std::size_t in = 0; in < raw.inputs; ++in) {
        out.weight[out.index(to, in, i, j)] = raw.at(out.stored[to], in, tap.i, tap.j);
      }
    }
  }
  out.reach = out.reaches();
  return out;
}

// Every sum of any subset of products, plus the bias, must fit int32: then so does every partial sum in any order.
void prove(RawLayer& raw) {
  raw.reach = raw.reaches();
  for (std::size_t out = 0; out < raw.outputs; ++out) require_fits(raw.name, out, raw.reach[out], raw.bias[out]);
}

}  // namespace

void require_square(const RawLayer& raw) {
  require(raw.rows == raw.columns && raw.rows % 2 == 1, raw.name + ".weight",
          "must have an odd square kernel up to 9x9");
}

bool rectified(const Layer& layer) {
  return layer.curve.empty() && std::all_of(layer.parts.begin(), layer.parts.end(), [](const Part& part) {
           const Requantiser& r = part.requantiser;
           return std::all_of(r.multiplier.begin(), r.multiplier.end(), [](std::int32_t m) { return m >= 0; }) &&
                  std::all_of(r.negative.begin(), r.negative.end(), [](std::int32_t m) { return m == 0; });
         });
}

Vector<std::int64_t> RawLayer::reaches() const {
  Vector<std::int64_t> sums(outputs);
  const std::size_t size = rows * columns * (transposed ? 1 : inputs);  // numbers of one output that follow each other
  constexpr std::size_t kRun = std::size_t{1} << 15;                    // whose magnitudes fit 31 bits together
  std::size_t out = 0;
  for (const std::int16_t* from = weight.data(); from != weight.data() + weight.size(); from += size) {
    for (std::size_t begin = 0; begin < size; begin += kRun) {
      std::int32_t sum = 0;
      for (std::size_t i = begin; i < std::min(size, begin + kRun); ++i) sum += std::abs(int{from[i]});
      sums[out] += sum;
    }
    out = out + 1 == outputs ? 0 : out + 1;
  }
  for (std::int64_t& sum : sums) sum *= input_limit;
  return sums;
}

std::int64_t RawLayer::reach_of_positions(std::size_t out, bool positive) const {
  const std::size_t step = transposed ? up : 1;  // taps so far apart serve the same position
  Vector<std::int64_t> above(step * step), below(step * step);
  Vector<std::size_t> position;
  for (std::size_t tap = 0; tap < rows * columns; ++tap) {
    position.push_back(tap / columns % step * step + tap % columns % step);
  }
  for (std::size_t in = 0; in < inputs; ++in) {
    const std::int16_t* kernel = &weight[index(out, in, 0, 0)];
    for (std::size_t tap = 0; tap < position.size(); ++tap) {
      above[position[tap]] += std::max<int>(kernel[tap], 0);
      below[position[tap]] -= std::min<int>(kernel[tap], 0);
    }
  }
  std::int64_t most = 0;
  for (std::size_t p = 0; p < above.size(); ++p) {
    most = std::max(most, positive ? std::max(above[p], below[p]) : above[p] + below[p]);
  }
  return most * input_limit;
}

void require_fits(const String& name, std::size_t channel, std::int64_t reach, std::int32_t bias) {
  const std::int64_t worst = reach + std::abs(std::int64_t{bias});
  require(worst <= std::numeric_limits<std::int32_t>::max(), name,
          "can overflow: channel " + to_string(channel) + " reaches " + to_string(worst));
}

void Reader::geometry(RawLayer& raw) const {
  const String name = raw.name + ".geometry";
  if (!arrays_.has(name, Type::uint8)) {
    const auto numbers = arrays_.int32s(name);
    require(numbers.size() == 2 && numbers[0] >= kPlain && numbers[0] <= kHalved && numbers[1] >= 1, name,
            "must be kind and groups");
    raw.kind = numbers[0];
    raw.groups = static_cast<std::size_t>(numbers[1]);
    raw.transposed = raw.kind == kTransposed;
    raw.up = raw.kind == kTransposed || raw.kind == kShuffled ? 2 : 1;
    return;
  }
  const auto numbers = arrays_.uint8s(name);
  require(numbers.size() == 3 || numbers.size() == 4, name,
          "must be stride, transposed, input bits, and the shuffle if there is one");
  const unsigned stride = numbers[0], shuffle = numbers.size() == 4 ? numbers[3] : 1;
  require(numbers[1] <= 1, name, "must have 0 or 1 for transposed");
  raw.transposed = numbers[1] == 1;
  require(stride == 1 || (stride == 2 && (raw.transposed || transforms_)), name,
          transforms_ ? "must have a stride of 1 or 2"
                      : "must be a convolution of stride 1 or a transposed one of stride 1 or 2");
  require(numbers[2] >= 2 && numbers[2] <= kMaxActivationBits, name, "must have 2 to 16 input bits");
  require(shuffle == 1 || (shuffle == 2 && !raw.transposed && stride == 1), name,
          "must have 1 for shuffle, or 2 for a plain convolution with four outputs for each channel");
  raw.kind = shuffle == 2 ? kShuffled : raw.transposed ? kTransposed : stride == 2 ? kHalved : kPlain;
  raw.groups = 1;
  raw.up = raw.transposed ? stride : shuffle;
  raw.input_limit = magnitude_limit(numbers[2]);
}

RawLayer Reader::raw(const String& name, std::size_t inputs, std::int32_t limit, bool depthwise) const {
  RawLayer raw;
  raw.name = name;
  raw.wide = transforms_ && arrays_.has(name + ".weight", Type::int16);
  const ArrayRef& weight = arrays_.get(name + ".weight", raw.wide ? Type::int16 : Type::int8, 4);
  const auto take = [&](const auto* values) { raw.weight.assign(values, values + weight.size()); };
  raw.wide ? take(static_cast<const std::int16_t*>(weight.data)) : take(static_cast<const std::int8_t*>(weight.data));
  geometry(raw);
  const auto bits_of = [](std::int32_t magnitude) {
    return to_string(1 + std::bit_width(static_cast<std::uint32_t>(magnitude)));
  };
  require(limit <= raw.input_limit, name,
          "accepts " + bits_of(raw.input_limit) + "-bit activations, its input has " + bits_of(limit) + " bits");
  raw.outputs = weight.shape[raw.transposed ? 1 : 0];
  raw.inputs = weight.shape[raw.transposed ? 0 : 1];
  raw.rows = weight.shape[2];
  raw.columns = weight.shape[3];
  const auto bias = arrays_.int32s(name + ".bias");
  raw.bias.assign(bias.begin(), bias.end());
  require(raw.rows >= 1 && raw.columns >= 1 && raw.rows * raw.columns <= kMaxTaps, name + ".weight",
          "must have a kernel of 1 to 81 taps");
  require(raw.outputs >= 1 && raw.outputs <= (raw.kind == kShuffled ? 4 : 2) * kMaxChannels &&
              raw.bias.size() == raw.outputs,
          name + ".bias", "must have one number per output channel");
  if (inputs == 0) inputs = std::max<std::size_t>(raw.inputs, 1);
  const std::size_t groups = depthwise ? inputs : 1;
  if (depthwise && transforms_) raw.groups = groups;  // the kind of step says so
  require(raw.groups == groups && raw.inputs == inputs / groups && (!depthwise || raw.outputs == inputs), name,
          "must read " + to_string(inputs) + " channels in " + to_string(groups) + " groups");
  prove(raw);
  return raw;
}

RawLayer Reader::flat(const String& name, std::size_t inputs, std::int32_t limit) const {
  const ArrayRef& weight = arrays_.get(name + ".weight", Type::int8, 2);
  require(weight.shape[0] > 0 && weight.shape[1] == inputs, name + ".weight",
          "has shape " + shape_text(weight.shape) + ", expected [any, " + to_string(inputs) + "]");
  const auto bias = arrays_.int32s(name + ".bias");
  require(bias.size() == weight.shape[0], name + ".bias",
          "serves " + to_string(bias.size()) + " outputs, expected " + to_string(weight.shape[0]));
  RawLayer raw;
  raw.name = name;
  raw.outputs = bias.size();
  raw.inputs = inputs;
  raw.rows = raw.columns = raw.groups = 1;
  raw.input_limit = limit;
  const auto* values = static_cast<const std::int8_t*>(weight.data);
  raw.weight.assign(values, values + weight.size());
  raw.bias.assign(bias.begin(), bias.end());
  prove(raw);
  return raw;
}

Curve Reader::curve(const String& name, std::size_t channels, std::size_t step, std::int32_t limit,
                    bool logistic) const {
  Curve out;
  out.logistic = logistic;
  const auto exponents = arrays_.uint8s(name + ".exponents");
  require(
      exponents.size() == channels * step && limit <= (transforms_ ? kCurveLimit : kActivation), name + ".exponents",
      transforms_ ? "must be one number per channel of up to 14 bits" : "must be one number per channel of 12 bits");
  const unsigned fine = out.logistic ? 11 : 12;  // bits below the point of what tables are read by
  const int reach = out.logistic ? 8 : 4;        // of the tables
  const std::size_t size = padded(channels);
  out.reach.assign(size, 0);
  out.up.assign(size, 0);
  out.down.assign(size, 0);
  for (std::size_t c = 0; c < channels; ++c) {
    const unsigned exponent = exponents[c * step];
    for (std::size_t k = 0; k < step; ++k) {
      require(exponents[c * step + k] == exponent && exponent < kExponents, name + ".exponents",
              "must be below 16, and equal behind a pixel shuffle");
    }
    out.reach[c] = static_cast<std::int16_t>(std::min(reach << exponent, limit));
    if (exponent <= fine) {
      out.up[c] = static_cast<std::int16_t>(fine - exponent);
    } else {
      out.down[c] = static_cast<std::int16_t>(exponent - fine);
    }
  }
  return out;
}

Curve Reader::layer_curve(const RawLayer& raw, std::size_t step, std::int32_t limit) const {
  if (!arrays_.has(raw.name + ".exponents")) return {};
  bool logistic = false;
  if (transforms_) {
    const auto kind = arrays_.uint8s(raw.name + ".curve");
    require(kind.size() == 1 && kind[0] <= 1, raw.name + ".curve", "must be 0 for GELU or 1 for SiLU");
    logistic = kind[0] == 1;
  }
  return curve(raw.name, raw.outputs / step, step, limit, logistic);
}

Requantiser Reader::requantiser(const RawLayer& raw, unsigned bits) const {
  const String name = raw.name + ".requantise";
  if (raw.stored.empty()) return requantiser(name, raw.outputs, bits);
  const std::size_t stored = 1 + *std::max_element(raw.stored.begin(), raw.stored.end());
  return selected(requantiser(name, stored, bits), raw.stored);
}

Part Reader::part(const RawLayer& raw, const Inputs& inputs, const Outputs& outputs, Vector<Tap> taps,
                  const Requantiser& all) const {
  // Taps next to each other in a row lie next to each other in memory.
  std::sort(taps.begin(), taps.end(), [](const Tap& a, const Tap& b) {
    return a.offset.row != b.offset.row ? a.offset.row < b.offset.row : a.offset.column < b.offset.column;
  });
  const std::size_t count = raw.outputs / outputs.step;
  Part part;
  for (const Tap& tap : taps) part.taps.push_back(tap.offset);
  part.bias.assign(padded(count), 0);
  for (std::size_t c = 0; c < count; ++c) part.bias[c] = raw.bias[outputs.first + c * outputs.step];
  part.requantiser = selected(all, outputs.first, count, outputs.step);
  const auto place = places(inputs);
  const std::size_t depth = size_of(inputs);
  const auto fill = [&](auto& weights) {
    using Weight = std::remove_reference_t<decltype(weights.data[0])>;
    const std::size_t next = raw.index(outputs.step, 0, 0, 0);
    // As many outputs at once as lie next to each other.
    for (std::size_t c = 0; c < count; c += kPanel) {
      const std::size_t n = std::min(kPanel, count - c);
      for (std::size_t in = 0; in < raw.inputs; ++in) {
        if (place[in] == kNowhere) continue;
        const std::int16_t* all = &raw.weight[raw.index(outputs.first + c * outputs.step, in, 0, 0)];
        for (std::size_t t = 0; t < taps.size(); ++t) {
          const std::int16_t* from = all + taps[t].i * raw.columns + taps[t].j;
          Weight* at = weights.data.data() + weights.offset(t * depth + place[in], c);
          for (std::size_t i = 0; i < n; ++i) at[2 * i] = static_cast<Weight>(from[i * next]);
        }
      }
    }
  };
  // Without taps, such as three positions of a transposed 1x1 kernel have: kernels want something to multiply.
  const std::size_t rows = std::max<std::size_t>(taps.size() * depth, 1);
  if (raw.wide) {
    part.wide = WideMatrix(rows, count);
    fill(part.wide);
  } else {
    part.weights = PackedMatrix(rows, count);
    fill(part.weights);
  }
  return part;
}

Layer Reader::layer(const String& name, const Inputs& inputs, unsigned bits, std::int32_t limit, bool positive) const {
  const RawLayer raw = this->raw(name, channels_of(inputs), limit);
  require_square(raw);
  return layer(raw, inputs, bits, positive);
}

Layer Reader::layer(const RawLayer& raw, const Inputs& inputs, unsigned bits, bool positive, bool narrow) const {
  const std::size_t positions = raw.up * raw.up, step = raw.kind == kShuffled ? positions : 1;
  require(raw.outputs % step == 0, raw.name, "must have a multiple of four outputs before its shuffle");
  Layer layer;
  const std::size_t outputs = raw.outputs / step;
  if (narrow && raw.up > 1 && positions * outputs <= kPanel && !arrays_.has(raw.name + ".exponents")) {
    layer = this->layer(merged(raw), inputs, bits, positive);
    layer.merged = true;
  }
  layer.outputs = outputs;
  layer.up = raw.up;
  layer.shuffled = raw.kind == kShuffled;
  layer.reflect = raw.reflect;
  layer.reflected = raw.reflect ? raw.rows / 2 : 0;
  if (layer.merged) return layer;
  layer.depth = size_of(inputs);
  layer.down = raw.kind == kHalved ? 2 : 1;
  const bool fits = fits_winograd(raw, positive);
  layer.phases = fits && layer.down == 2 ? 4 : 1;
  Vector<Vector<Tap>> taps;
  std::size_t reach = 0;  // of all parts: kernels are square, so it is that of rows and that of columns
  for (std::size_t p = 0; p < positions; ++p) {
    taps.push_back(taps_of(raw, static_cast<int>(p / layer.up), static_cast<int>(p % layer.up)));
    if (layer.phases > 1) interleave(taps.back());
    reach = std::max(reach, reach_of(taps.back()));
  }
  layer.splits = fits ? reach : 0;
  layer.reach = layer.phases > 1 ? 2 * reach + 1 : reach;
  const Requantiser all = requantiser(raw, bits);
  for (std::size_t p = 0; p < positions; ++p) {
    const Outputs which{layer.shuffled ? p : 0, step};
    Part out = part(raw, inputs, which, fits ? Vector<Tap>() : taps[p], all);
    out.row = p / layer.up;
    out.column = p % layer.up;
    if (fits) out.strips = strips_of(raw, taps[p], inputs, which, outputs, layer.splits, layer.phases);
    layer.parts.push_back(std::move(out));
  }
  layer.curve = layer_curve(raw, step, layer.limit());
  layer.used = transforms_ ? (outputs + kQuarterPanel - 1) / kQuarterPanel * kQuarterPanel : layer.columns();
  return layer;
}

Layer Reader::dense(const String& name, const Inputs& inputs, unsigned bits, std::int32_t limit) const {
  Layer out = layer(name, inputs, bits, limit);
  require(keeps_size({out}) && out.parts[0].taps.size() == 1, name, "must be a 1x1 layer");
  return out;
}

Layer Reader::matrix(const RawLayer& raw, const Inputs& inputs, Vector<Tap> taps, unsigned bits) const {
  Layer out;
  out.outputs = raw.outputs;
  out.depth = taps.size() * size_of(inputs);
  out.parts.push_back(part(raw, inputs, {}, std::move(taps), requantiser(raw, bits)));
  out.parts[0].taps = {{0, 0}};
  return out;
}

Layer Reader::board(const String& name, const Inputs& inputs) const {
  const RawLayer raw = this->raw(name, channels_of(inputs));
  require_square(raw);
  require(raw.kind == kPlain && raw.rows > 1, name, "must be a plain layer of 3x3 or more");
  Vector<Tap> taps = taps_of(raw, 0, 0);
  std::erase_if(taps, [](const Tap& tap) { return (tap.offset.row + tap.offset.column) % 2 == 0; });
  Layer layer;
  layer.depth = size_of(inputs);
  layer.outputs = raw.outputs;
  layer.parts.push_back(part(raw, inputs, {}, std::move(taps), requantiser(raw, kActivationBits)));
  layer.curve = layer_curve(raw, 1, layer.limit());
  return layer;
}

Depthwise Reader::depthwise(const String& name, std::size_t channels, unsigned bits, std::int32_t limit) const {
  const RawLayer raw = this->raw(name, channels, limit, true);
  require_square(raw);
  require(raw.kind == kPlain && (transforms_ || raw.rows == 3), name,
          transforms_ ? "must be a layer that keeps sizes" : "must be a 3x3 layer");
  Depthwise out;
  out.channels = channels;
  out.side = raw.rows;
  const std::size_t taps = raw.rows * raw.columns;
  out.weights.assign(taps * padded(channels), 0);
  out.bias.assign(padded(channels), 0);
  for (std::size_t c = 0; c < channels; ++c) {
    out.bias[c] = raw.bias[c];
    for (std::size_t tap = 0; tap < taps; ++tap) {
      out.weights[tap * padded(channels) + c] = raw.at(c, 0, tap / raw.columns, tap % raw.columns);
    }
  }
  out.requantiser = requantiser(name + ".requantise", channels, bits);
  out.curve = layer_curve(raw, 1, out.requantiser.limit);
  return out;
}

Stack Reader::stack(const String& name, Inputs inputs, Widths widths) const {
  const std::size_t count = count_layers(arrays_, name);
  require(count > 0, name + ".0.geometry", "is missing");
  Stack out;
  for (std::size_t i = 0; i < count; ++i) {
    const unsigned bits = i + 1 == count ? widths.last : widths.inner;
    const std::int32_t limit = i == 0 ? widths.input : out.back().limit();
    out.push_back(layer(name + "." + to_string(i), inputs, bits, limit, i > 0 && rectified(out.back())));
    inputs = {out.back().outputs};
  }
  return out;
}

Stack Reader::same_size_stack(const String& name, const Inputs& inputs, Widths widths) const {
  Stack out = stack(name, inputs, widths);
  require(keeps_size(out), name, "must keep its size");
  return out;
}

Stack Reader::dense_stack(const String& name, const Inputs& inputs, Widths widths) const {
  Stack out = stack(name, inputs, widths);
  require(keeps_size(out), name, "must be 1x1 layers");
  for (const Layer& layer : out) require(layer.parts[0].taps.size() == 1, name, "must be 1x1 layers");
  return out;
}

std::size_t enlarges(const Stack& stack) {
  std::size_t up = 1;
  for (const Layer& layer : stack) up = layer.down == 1 ? up * layer.up : 0;
  return up;
}

TailLines Reader::tail_lines(const String& name) const {
  const auto tail = arrays_.int32s(name);
  require(tail.size() == kTailLines + 1 && tail.front() <= 1 << (kTailBits - 1) && tail.back() >= 0 &&
              std::is_sorted(tail.rbegin(), tail.rend()),
          name, "must be 65 numbers that fall from 16384 or less to 0 or more");
  TailLines out;
  for (std::size_t i = 0; i < kTailLines; ++i) {
    out.start.set(i, tail[i]);
    out.fall.set(i, tail[i] - tail[i + 1]);
  }
  return out;
}

}  // namespace fastlic::nn

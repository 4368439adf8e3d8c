#include "fastlic/nn/reader.hpp"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <limits>

namespace fastlic::nn {
namespace {

constexpr unsigned kFineBits = 12, kExponents = 16;  // GELU counts in units of 2^-12
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

void require_square(const RawLayer& raw) {
  require(raw.rows == raw.columns && raw.rows % 2 == 1, raw.name + ".weight",
          "must have an odd square kernel up to 9x9");
}

// Where in a row each input lies.
std::vector<std::size_t> places(const Inputs& inputs) {
  std::vector<std::size_t> out;
  std::size_t begin = 0;
  for (const Block& block : inputs) {
    for (std::size_t c = 0; c < block.count; ++c) out.push_back(block.size == 0 ? kNowhere : begin + c);
    begin += block.size;
  }
  return out;
}

// Taps of the outputs (up * u + row, up * v + column), as distances from (u, v).
std::vector<Tap> taps_of(const RawLayer& raw, int row, int column) {
  // A convolution (padding k/2) gathers from out + i - k/2. A transposed one of stride s adds input u to outputs
  // s * u + i - k/2, so output o = s * u' + p gathers, over taps i of the right residue, from u' + (p + k/2 - i) / s.
  const int half = static_cast<int>(raw.rows / 2), stride = static_cast<int>(raw.up);
  const int phase[2] = {row, column};
  std::vector<Tap> taps;
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
  if (raw.rows == 1 || raw.kind == kHalved || raw.input_limit > magnitude_limit(kMaxWinogradBits)) return false;
  for (std::size_t out = 0; out < raw.outputs; ++out) {
    if (raw.reach(out, positive) > kWinogradReach) return false;
  }
  return true;
}

// The largest distance of a tap.
std::size_t reach_of(const std::vector<Tap>& taps) {
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

// Which components of each piece are alive: 2G's first row reads only the first tap, its last only the third.
std::vector<std::array<bool, 4>> alive(const std::vector<Tap>& taps, std::size_t splits, int Offset::* axis) {
  std::vector<std::array<bool, 4>> out(splits, {false, false, false, false});
  for (const Tap& tap : taps) {
    const Split at(tap.offset.*axis, splits);
    std::array<bool, 4>& own = out[at.piece];
    own[1] = own[2] = true;
    own[0] |= at.position == 0;
    own[3] |= at.position == 2;
  }
  return out;
}

std::vector<Pieces> pieces_of(const RawLayer& raw, const std::vector<Tap>& taps, const Inputs& inputs,
                              const Reader::Outputs& outputs, std::size_t splits) {
  const auto rows = alive(taps, splits, &Offset::row), columns = alive(taps, splits, &Offset::column);
  const std::size_t count = raw.outputs / outputs.step, size = size_of(inputs);
  std::vector<Pieces> out(splits);
  for (std::size_t r = 0; r < splits; ++r) {
    for (std::size_t k = 0; k < kComponents; ++k) {
      std::size_t first = splits, last = 0;
      for (std::size_t c = 0; c < splits; ++c) {
        if (rows[r][k / 4] && columns[c][k % 4]) {
          first = std::min(first, c);
          last = c + 1;
        }
      }
      if (first >= last) continue;
      out[r].first[k] = first;
      out[r].weights[k] = WideMatrix((last - first) * size, count);
    }
  }
  const auto place = places(inputs);
  for (std::size_t in = 0; in < raw.inputs; ++in) {
    for (std::size_t c = 0; c < count && place[in] != kNowhere; ++c) {
      std::vector<std::array<std::int16_t, 9>> kernels(splits * splits);
      for (const Tap& tap : taps) {
        const Split row(tap.offset.row, splits), column(tap.offset.column, splits);
        kernels[row.piece * splits + column.piece][3 * row.position + column.position] =
            raw.at(outputs.first + c * outputs.step, in, tap.i, tap.j);
      }
      for (std::size_t piece = 0; piece < splits * splits; ++piece) {
        const auto values = transform_kernel(kernels[piece]);
        Pieces& own = out[piece / splits];
        for (std::size_t k = 0; k < kComponents; ++k) {
          if (!rows[piece / splits][k / 4] || !columns[piece % splits][k % 4]) continue;
          own.weights[k].set((piece % splits - own.first[k]) * size + place[in], c, values[k]);
        }
      }
    }
  }
  return out;
}

// Whether a layer's outputs are never below zero.
bool rectified(const Layer& layer) {
  return layer.gelu.empty() && std::all_of(layer.parts.begin(), layer.parts.end(), [](const Part& part) {
           const Requantiser& r = part.requantiser;
           return std::all_of(r.multiplier.begin(), r.multiplier.end(), [](std::int32_t m) { return m >= 0; }) &&
                  std::all_of(r.negative.begin(), r.negative.end(), [](std::int32_t m) { return m == 0; });
         });
}

}  // namespace

std::int64_t RawLayer::reach(std::size_t out, bool positive) const {
  std::int64_t up = 0, down = 0;
  for (std::size_t in = 0; in < inputs; ++in) {
    for (std::size_t tap = 0; tap < rows * columns; ++tap) {
      const int value = at(out, in, tap / columns, tap % columns);
      (value < 0 ? down : up) += std::abs(value);
    }
  }
  return (positive ? std::max(up, down) : up + down) * input_limit;
}

void require_fits(const std::string& name, std::size_t channel, std::int64_t reach, std::int32_t bias) {
  const std::int64_t worst = reach + std::abs(std::int64_t{bias});
  require(worst <= std::numeric_limits<std::int32_t>::max(), name,
          "can overflow: channel " + std::to_string(channel) + " reaches " + std::to_string(worst));
}

void Reader::geometry(RawLayer& raw) const {
  const std::string name = raw.name + ".geometry";
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
  require(stride == 1 || (stride == 2 && raw.transposed), name,
          "must be a convolution of stride 1 or a transposed one of stride 1 or 2");
  require(numbers[2] >= 2 && numbers[2] <= kMaxActivationBits, name, "must have 2 to 16 input bits");
  require(shuffle == 1 || (shuffle == 2 && !raw.transposed), name,
          "must have 1 for shuffle, or 2 for a plain convolution with four outputs for each channel");
  raw.kind = shuffle == 2 ? kShuffled : raw.transposed ? kTransposed : kPlain;
  raw.groups = 1;
  raw.up = stride * shuffle;
  raw.input_limit = magnitude_limit(numbers[2]);
}

RawLayer Reader::raw(const std::string& name, std::size_t inputs, std::int32_t limit, bool depthwise) const {
  const ArrayRef& weight = arrays_.get(name + ".weight", Type::int8, 4);
  RawLayer raw;
  raw.name = name;
  raw.weight = static_cast<const std::int8_t*>(weight.data);
  geometry(raw);
  const auto bits_of = [](std::int32_t magnitude) {
    return std::to_string(1 + std::bit_width(static_cast<std::uint32_t>(magnitude)));
  };
  require(limit <= raw.input_limit, name,
          "accepts " + bits_of(raw.input_limit) + "-bit activations, its input has " + bits_of(limit) + " bits");
  raw.outputs = weight.shape[raw.transposed ? 1 : 0];
  raw.inputs = weight.shape[raw.transposed ? 0 : 1];
  raw.rows = weight.shape[2];
  raw.columns = weight.shape[3];
  raw.bias = arrays_.int32s(name + ".bias");
  require(raw.rows >= 1 && raw.columns >= 1 && raw.rows * raw.columns <= kMaxTaps, name + ".weight",
          "must have a kernel of 1 to 81 taps");
  require(raw.outputs >= 1 && raw.outputs <= (raw.kind == kShuffled ? 4 : 2) * kMaxChannels &&
              raw.bias.size() == raw.outputs,
          name + ".bias", "must have one number per output channel");
  const std::size_t groups = depthwise ? inputs : 1;
  require(raw.groups == groups && raw.inputs == inputs / groups && (!depthwise || raw.outputs == inputs), name,
          "must read " + std::to_string(inputs) + " channels in " + std::to_string(groups) + " groups");
  // Every sum of any subset of products, plus the bias, must fit int32: then so does every partial sum in any order.
  for (std::size_t out = 0; out < raw.outputs; ++out) require_fits(name, out, raw.reach(out), raw.bias[out]);
  return raw;
}

GeluChannel Reader::gelu(const std::string& name, const RawLayer& raw, std::size_t step, std::int32_t limit) const {
  GeluChannel out;
  if (!arrays_.has(name + ".exponents")) return out;
  const auto exponents = arrays_.uint8s(name + ".exponents");
  require(exponents.size() == raw.outputs && limit <= kActivation, name + ".exponents",
          "must be one number per channel of 12 bits");
  const std::size_t size = padded(raw.outputs / step);
  out.reach.assign(size, 0);
  out.up.assign(size, 0);
  out.down.assign(size, 0);
  for (std::size_t c = 0; c < raw.outputs / step; ++c) {
    const unsigned exponent = exponents[c * step];
    for (std::size_t k = 0; k < step; ++k) {
      require(exponents[c * step + k] == exponent && exponent < kExponents, name + ".exponents",
              "must be below 16, and equal behind a pixel shuffle");
    }
    out.reach[c] = static_cast<std::int16_t>(std::min(4 << exponent, kActivation));
    if (exponent <= kFineBits) {
      out.up[c] = static_cast<std::int16_t>(kFineBits - exponent);
    } else {
      out.down[c] = static_cast<std::int16_t>(exponent - kFineBits);
    }
  }
  return out;
}

Part Reader::part(const RawLayer& raw, const Inputs& inputs, const Outputs& outputs, std::vector<Tap> taps) const {
  // Taps next to each other in a row lie next to each other in memory.
  std::sort(taps.begin(), taps.end(), [](const Tap& a, const Tap& b) {
    return a.offset.row != b.offset.row ? a.offset.row < b.offset.row : a.offset.column < b.offset.column;
  });
  const std::size_t count = raw.outputs / outputs.step;
  Part part;
  for (const Tap& tap : taps) part.taps.push_back(tap.offset);
  part.bias.assign(padded(count), 0);
  for (std::size_t c = 0; c < count; ++c) part.bias[c] = raw.bias[outputs.first + c * outputs.step];
  part.requantiser =
      selected(requantiser(raw.name + ".requantise", raw.outputs, outputs.bits), outputs.first, count, outputs.step);
  const auto place = places(inputs);
  const std::size_t depth = size_of(inputs);
  part.weights = PackedMatrix(taps.size() * depth, count);
  for (std::size_t t = 0; t < taps.size(); ++t) {
    for (std::size_t in = 0; in < raw.inputs; ++in) {
      for (std::size_t c = 0; c < count && place[in] != kNowhere; ++c) {
        const std::int8_t value = raw.at(outputs.first + c * outputs.step, in, taps[t].i, taps[t].j);
        part.weights.set(t * depth + place[in], c, value);
      }
    }
  }
  return part;
}

Layer Reader::layer(const std::string& name, const Inputs& inputs, unsigned bits, std::int32_t limit,
                    bool positive) const {
  const RawLayer raw = this->raw(name, channels_of(inputs), limit);
  require_square(raw);
  Layer layer;
  layer.depth = size_of(inputs);
  const std::size_t step = raw.kind == kShuffled ? 4 : 1;
  require(raw.outputs % step == 0, name, "must have a multiple of four outputs before its shuffle");
  layer.outputs = raw.outputs / step;
  layer.up = raw.up;
  layer.shuffled = raw.kind == kShuffled;
  layer.down = raw.kind == kHalved ? 2 : 1;
  std::vector<std::vector<Tap>> taps;
  const bool fits = fits_winograd(raw, positive);
  for (std::size_t p = 0; p < layer.up * layer.up; ++p) {
    taps.push_back(taps_of(raw, static_cast<int>(p / layer.up), static_cast<int>(p % layer.up)));
    if (fits) layer.splits = std::max(layer.splits, reach_of(taps.back()));
  }
  for (std::size_t p = 0; p < taps.size(); ++p) {
    const Outputs outputs{raw.kind == kShuffled ? p : 0, step, bits};
    Part out = part(raw, inputs, outputs, layer.splits > 0 ? std::vector<Tap>{} : taps[p]);
    out.row = p / layer.up;
    out.column = p % layer.up;
    if (layer.splits > 0) out.pieces = pieces_of(raw, taps[p], inputs, outputs, layer.splits);
    layer.parts.push_back(std::move(out));
  }
  layer.gelu = gelu(name, raw, step, layer.parts[0].requantiser.limit);
  return layer;
}

Layer Reader::dense(const std::string& name, const Inputs& inputs, unsigned bits, std::int32_t limit) const {
  Layer out = layer(name, inputs, bits, limit);
  require(keeps_size({out}) && out.parts[0].taps.size() == 1, name, "must be a 1x1 layer");
  return out;
}

Layer Reader::matrix(const RawLayer& raw, const Inputs& inputs, std::vector<Tap> taps, unsigned bits) const {
  Layer out;
  out.outputs = raw.outputs;
  out.depth = taps.size() * size_of(inputs);
  out.parts.push_back(part(raw, inputs, {0, 1, bits}, std::move(taps)));
  out.parts[0].taps = {{0, 0}};
  return out;
}

Layer Reader::board(const std::string& name, const Inputs& inputs) const {
  const RawLayer raw = this->raw(name, channels_of(inputs));
  require_square(raw);
  require(raw.kind == kPlain && raw.rows > 1, name, "must be a plain layer of 3x3 or more");
  std::vector<Tap> taps = taps_of(raw, 0, 0);
  std::erase_if(taps, [](const Tap& tap) { return (tap.offset.row + tap.offset.column) % 2 == 0; });
  Layer layer;
  layer.depth = size_of(inputs);
  layer.outputs = raw.outputs;
  layer.parts.push_back(part(raw, inputs, {}, std::move(taps)));
  layer.gelu = gelu(name, raw, 1, layer.parts[0].requantiser.limit);
  return layer;
}

Depthwise Reader::depthwise(const std::string& name, std::size_t channels, unsigned bits) const {
  const RawLayer raw = this->raw(name, channels, kActivation, true);
  require(raw.rows == 3 && raw.columns == 3 && raw.kind == kPlain, name, "must be a 3x3 layer");
  Depthwise out;
  out.channels = channels;
  out.weights.assign(9 * padded(channels), 0);
  out.bias.assign(padded(channels), 0);
  for (std::size_t c = 0; c < channels; ++c) {
    out.bias[c] = raw.bias[c];
    for (std::size_t tap = 0; tap < 9; ++tap) out.weights[tap * padded(channels) + c] = raw.at(c, 0, tap / 3, tap % 3);
  }
  out.requantiser = requantiser(name + ".requantise", channels, bits);
  out.gelu = gelu(name, raw, 1, out.requantiser.limit);
  return out;
}

Stack Reader::stack(const std::string& name, Inputs inputs, Widths widths) const {
  const std::size_t count = count_layers(arrays_, name);
  require(count > 0, name + ".0.geometry", "is missing");
  Stack out;
  for (std::size_t i = 0; i < count; ++i) {
    const unsigned bits = i + 1 == count ? widths.last : widths.inner;
    const std::int32_t limit = i == 0 ? widths.input : out.back().limit();
    out.push_back(layer(name + "." + std::to_string(i), inputs, bits, limit, i > 0 && rectified(out.back())));
    inputs = {out.back().outputs};
  }
  return out;
}

Stack Reader::same_size_stack(const std::string& name, const Inputs& inputs, Widths widths) const {
  Stack out = stack(name, inputs, widths);
  require(keeps_size(out), name, "must keep its size");
  return out;
}

Stack Reader::dense_stack(const std::string& name, const Inputs& inputs, Widths widths) const {
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

TailLines Reader::tail_lines() const {
  const auto tail = arrays_.int32s("tables.tail");
  require(tail.size() == kTailLines + 1 && tail.front() <= 1 << (kTailBits - 1) && tail.back() >= 0 &&
              std::is_sorted(tail.rbegin(), tail.rend()),
          "tables.tail", "must be 65 numbers that fall from 16384 or less to 0 or more");
  TailLines out;
  for (std::size_t i = 0; i < kTailLines; ++i) {
    out.start[i] = static_cast<std::uint16_t>(tail[i]);
    out.fall[i] = static_cast<std::uint16_t>(tail[i] - tail[i + 1]);
  }
  return out;
}

}  // namespace fastlic::nn

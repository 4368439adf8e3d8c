// Networks out of the arrays of a codec file (docs/transforms.md): sums are proven to fit.
#include <cstdlib>
#include <limits>

#include "fastlic/nn/network.hpp"

namespace fastlic::nn {
namespace {

constexpr std::size_t kMaxSteps = 1 << 10;
enum Code { kLayer, kGdn, kMix, kGate, kCurve, kLayerNorm, kWindows, kDepthwise, kProduct, kSoftmax, kMapMean };

class NetworkReader {
 public:
  NetworkReader(const ArrayReader& arrays, const String& name) : arrays_(arrays), read_(arrays, true), name_(name) {}

  Network read(Value input) {
    std::size_t count = 0;
    while (arrays_.has(prefix(count) + ".step")) ++count;
    require(count > 0, prefix(0) + ".step", "is missing");
    require(count <= kMaxSteps, name_, "has more than 1024 steps");
    const String first = prefix(0);
    const auto codes = arrays_.uint8s(first + ".step");
    require(input.channels <= kMaxChannels, name_ + ".entry", "serves more than 16384 channels");
    require(input.channels > 0 || (!codes.empty() && codes[0] == kLayer), first + ".step", "must be a layer");
    network_.values.push_back(input);
    for (std::size_t i = 0; i < count; ++i) step(i, i + 1 == count);
    return std::move(network_);
  }

 private:
  String prefix(std::size_t i) const { return name_ + "." + to_string(i); }

  void step(std::size_t i, bool last) {
    const String own = prefix(i);
    const auto numbers = arrays_.uint8s(own + ".step");
    const auto from = arrays_.int32s(own + ".from");
    require(!numbers.empty() && numbers[0] <= kMapMean, own + ".step", "names no kind of step");
    const int op = numbers[0];
    constexpr std::size_t kNumbers[] = {2, 4, 3, 1, 2, 3, 6, 1, 1, 3, 2}, kInputs[] = {1, 1, 2, 2, 1, 1, 1, 1, 2, 1, 1};
    require(numbers.size() == kNumbers[op], own + ".step",
            "must be " + to_string(kNumbers[op]) + " numbers for this kind of step");
    require(from.size() == kInputs[op], own + ".from", "must name " + to_string(kInputs[op]) + " values");
    Step step;
    for (const std::int32_t value : from) {
      require(value >= 0 && static_cast<std::size_t>(value) <= i, own + ".from", "must name values made before");
      step.from.push_back(static_cast<std::size_t>(value));
    }
    const Value& x = network_.values[step.from[0]];
    for (const std::size_t value : step.from) {
      require(network_.values[value].channels == x.channels, own + ".from", "must name values of as many channels");
      require(network_.values[value].limit <= std::numeric_limits<std::int16_t>::max(), own + ".from",
              "must name activations");
    }
    Value out = x;
    switch (op) {
      case kLayer: step.op = layer(own, last, numbers[1], step.from[0], out); break;
      case kGdn: step.op = gdn(own, numbers, x, out); break;
      case kMix: step.op = mix(own, numbers, x, network_.values[step.from[1]], out); break;
      case kGate: step.op = Gate{curve(own, network_.values[step.from[1]], true)}; break;
      case kCurve:
        require(numbers[1] <= 1, own + ".step", "must have 0 for GELU or 1 for SiLU");
        step.op = curve(own, x, numbers[1] == 1);
        break;
      case kLayerNorm: step.op = read_layer_norm(arrays_, own, numbers, x.channels, x.limit, out.limit); break;
      case kWindows:
        step.op = read_windows(arrays_, own, numbers, x.channels, x.limit, out.limit);
        out.channels = x.channels / 3;
        note_powers();
        break;
      case kDepthwise: step.op = depthwise(own, x, out); break;
      case kSoftmax:
        step.op = read_softmax(arrays_, own, numbers, x.channels, out.limit);
        note_powers();
        break;
      case kMapMean: step.op = read_map_mean(arrays_, own, numbers, x.channels, out.limit); break;
      default:
        step.op = Product{read_.requantiser(own + ".requantise", x.channels, kMaxActivationBits)};
        out.limit = std::get<Product>(step.op).requantiser.limit;
    }
    network_.steps.push_back(std::move(step));
    network_.values.push_back(out);
  }

  void note_powers() {
    if (!has_powers_) network_.powers = powers(name_ + ".powers");
    has_powers_ = true;
  }

  // 2^14 times 2^-t for t = 0, 1/64, ..., 1, as lines. The largest weight of a softmax is never 0.
  TailLines powers(const String& name) const {
    TailLines out = read_.tail_lines(name);
    require(out.start.words[0] == 1 << (kTailBits - 1), name, "must be 65 numbers that fall from 16384 to 0 or more");
    return out;
  }

  Layer layer(const String& own, bool last, unsigned reflect, std::size_t from, Value& out) {
    require(arrays_.uint8s(own + ".geometry").size() == 4, own + ".geometry",
            "must be stride, transposed, input bits and shuffle");
    Value& x = network_.values[from];
    RawLayer raw = read_.raw(own, x.channels, x.limit);
    x.channels = raw.inputs;
    require(x.channels <= kMaxChannels, own + ".weight", "reads more than 16384 channels");
    require_square(raw);
    require(reflect == 0 || (reflect == 1 && !raw.transposed), own + ".step",
            "must have 0 or 1 for reflection, which transposed layers do not know");
    require(raw.up == 2 || !raw.transposed, own + ".geometry", "must have a stride of 2 where it is transposed");
    raw.reflect = reflect == 1;
    const Block block = from == 0 ? Block::exact(raw.inputs) : Block::tight(raw.inputs);
    const bool positive = from > 0 && never_negative(from);
    Layer layer = read_.layer(raw, {block}, last ? kMaxWideBits : kMaxActivationBits, positive, true);
    if (!layer.curve.empty()) note(layer.curve);
    out = {layer.outputs, layer.limit()};
    return layer;
  }

  Depthwise depthwise(const String& own, const Value& x, Value& out) {
    require(x.channels <= kMaxChannels, own + ".weight", "serves more than 16384 channels");
    Depthwise layer = read_.depthwise(own, x.channels, kMaxActivationBits, x.limit);
    if (!layer.curve.empty()) note(layer.curve);
    out.limit = layer.requantiser.limit;
    return layer;
  }

  bool never_negative(std::size_t value) const {
    const Layer* made_by = std::get_if<Layer>(&network_.steps[value - 1].op);
    return made_by != nullptr && rectified(*made_by);
  }

  Gdn gdn(const String& own, std::span<const std::uint8_t> numbers, const Value& x, Value& out) {
    const std::size_t channels = x.channels;
    const ArrayRef& gamma = arrays_.get(own + ".gamma", Type::int16, 2);
    const auto* weights = static_cast<const std::int16_t*>(gamma.data);
    const auto beta = arrays_.int32s(own + ".beta");
    require(numbers[1] <= 1 && numbers[2] >= 9 && numbers[2] <= 16 && numbers[3] >= 2 && numbers[3] <= 16,
            own + ".step", "must have 0 or 1 for inverse, 9 to 16 input bits and 2 to 16 output bits");
    require(x.limit <= magnitude_limit(numbers[2]), own + ".step", "accepts fewer bits than its input has");
    require(gamma.shape[0] == channels && gamma.shape[1] == channels, own + ".gamma", "must be one row per channel");
    require(beta.size() == channels, own + ".beta", "must be one number per channel");
    Gdn gdn;
    gdn.inverse = numbers[1] == 1;
    gdn.up = static_cast<std::int16_t>(16 - numbers[2]);
    gdn.limit = static_cast<float>(magnitude_limit(numbers[3]));
    gdn.norms.outputs = channels;
    gdn.norms.depth = channels + channels % 2;
    gdn.norms.used = (channels + kQuarterPanel - 1) / kQuarterPanel * kQuarterPanel;
    Part part;
    part.wide = WideMatrix(gdn.norms.depth, channels);
    part.bias.assign(padded(channels), 1);  // roots of padding are numbers, too
    gdn.factors = read_factors(arrays_, own, channels, padded(channels) - channels);
    for (std::size_t out_channel = 0; out_channel < channels; ++out_channel) {
      std::int64_t sum = 0;
      for (std::size_t in = 0; in < channels; ++in) {
        const std::int16_t weight = weights[out_channel * channels + in];
        require(weight >= 0, own + ".gamma", "must not be negative");
        part.wide.set(in, out_channel, weight);
        sum += weight;
      }
      require(beta[out_channel] >= 1, own + ".beta", "must be at least 1");
      require_fits(own, out_channel, sum * std::numeric_limits<std::int16_t>::max(), beta[out_channel]);
      part.bias[out_channel] = beta[out_channel];
    }
    gdn.norms.parts.push_back(std::move(part));
    out.limit = magnitude_limit(numbers[3]);
    return gdn;
  }

  Mix mix(const String& own, std::span<const std::uint8_t> numbers, const Value& a, const Value& b, Value& out) {
    const auto left = arrays_.int16s(own + ".left"), right = arrays_.int16s(own + ".right");
    require(left.size() == a.channels && right.size() == a.channels, own + ".left",
            "and right must be one per channel");
    require(numbers[1] >= 1 && numbers[1] <= 30 && numbers[2] >= 2 && numbers[2] <= 16, own + ".step",
            "must have a shift of 1 to 30 and 2 to 16 bits");
    Mix mix;
    mix.shift = numbers[1];
    mix.limit = magnitude_limit(numbers[2]);
    mix.left.assign(padded(a.channels), 0);
    mix.right.assign(padded(a.channels), 0);
    for (std::size_t c = 0; c < a.channels; ++c) {
      mix.left[c] = left[c];
      mix.right[c] = right[c];
      const std::int64_t reach =
          std::int64_t{a.limit} * std::abs(int{left[c]}) + std::int64_t{b.limit} * std::abs(int{right[c]});
      require_fits(own, c, reach, 1 << (mix.shift - 1));
    }
    out.limit = mix.limit;
    return mix;
  }

  Curve curve(const String& own, const Value& x, bool logistic) {
    Curve curve = read_.curve(own, x.channels, 1, x.limit, logistic);
    note(curve);
    return curve;
  }

  // Reads the lines that a curve needs, once.
  void note(const Curve& curve) {
    TailLines& lines = curve.logistic ? network_.silu : network_.gelu;
    bool& known = curve.logistic ? has_silu_ : has_gelu_;
    if (!known) lines = read_.tail_lines(name_ + (curve.logistic ? ".silu" : ".gelu"));
    known = true;
  }

  const ArrayReader& arrays_;
  Reader read_;
  String name_;
  Network network_;
  bool has_gelu_ = false, has_silu_ = false, has_powers_ = false;
};

}  // namespace

Network read_network(const ArrayReader& arrays, const String& name, Value input) {
  return NetworkReader(arrays, name).read(input);
}

Requantiser& exit_of(Network& network, const String& name) {
  Layer* layer = std::get_if<Layer>(&network.steps.back().op);
  require(layer != nullptr && layer->parts.size() == 1 && !layer->merged && layer->curve.empty(), name,
          "must follow a plain layer");
  return layer->parts[0].requantiser;
}

Network with_exit(const Network& network, const ArrayReader& arrays, const String& prefix) {
  Network out = network;
  Requantiser& old = exit_of(out, prefix);
  Requantiser exit = read_requantiser(arrays, prefix, old.channels, kMaxWideBits);
  require(exit.limit == old.limit, prefix + ".bits", "must be those of the last layer");
  old = std::move(exit);
  return out;
}

}  // namespace fastlic::nn

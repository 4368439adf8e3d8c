// Networks of integers: small ones that the input draws, steps of every kind at the limits of their proofs, some of
// their arrays changed. Refused; or the same numbers on every instruction set, from bands of any height.
#include <algorithm>
#include <cstdlib>
#include <exception>
#include <iterator>
#include <map>
#include <stdexcept>
#include <thread>
#include <utility>

#include "fastlic/memory.hpp"
#include "fastlic/nn/network.hpp"
#include "fastlic/parallel.hpp"
#include "harness.hpp"
#include "hostile.hpp"

namespace {

using namespace fastlic;
using nn::Arrays;
using nn::MapSize;
using nn::Type;

constexpr std::int64_t kInt32 = 0x7FFFFFFF, kWinograd = (1 << 29) - 1;
constexpr std::size_t kChannels[] = {1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 40, 48, 64, 65, 97};
constexpr std::size_t kMostOutputs = 1 << 15;

std::int64_t largest(unsigned bits) { return (std::int64_t{1} << (bits - 1)) - 1; }

// Numbers that follow from a seed: weights would use an input up.
class Random {
 public:
  explicit Random(std::uint32_t seed) : state_(seed * 2654435761u + 1) {}
  std::int64_t between(std::int64_t low, std::int64_t high) {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return low + static_cast<std::int64_t>((state_ >> 20) % static_cast<std::uint64_t>(high - low + 1));
  }
  // Anywhere, at either end, or at one of them: by turns of two bits.
  std::int64_t up_to(std::int64_t most, unsigned how) {
    return how == 0   ? between(-most, most)
           : how == 1 ? between(0, 1) * 2 * most - most
           : how == 2 ? most
                      : between(-1, 1) * most;
  }

 private:
  std::uint64_t state_;
};

class Drawn {
 public:
  struct Value {
    std::size_t channels;
    unsigned bits;
    int size;  // doublings less halvings
  };

  // Networks of pixels begin with a layer.
  Drawn(fuzz::Input& input, Value first, bool pixels)
      : input_(input), random_(input.take<std::uint32_t>()), values_{first}, pixels_(pixels) {
    for (std::size_t left = 1 + byte() % 6; left > 0; --left) step(left == 1);
  }

  Arrays arrays;

  // Another requantiser for the end.
  void exit() { requantiser("n.exit", values_.back().channels, values_.back().bits); }

 private:
  unsigned byte() { return input_.take<std::uint8_t>(); }

  template <typename T>
  void put(const String& name, Type type, Vector<std::size_t> shape, const Vector<T>& values) {
    auto& kept = memory_[name];
    kept.resize(values.size() * sizeof(T));
    if (!kept.empty()) std::memcpy(kept.data(), values.data(), kept.size());
    arrays[name] = {type, std::move(shape), kept.data()};
  }
  void put(const String& name, const Vector<std::uint8_t>& values) { put(name, Type::uint8, {values.size()}, values); }
  void put(const String& name, const Vector<std::int32_t>& values) { put(name, Type::int32, {values.size()}, values); }

  void requantiser(const String& name, std::size_t channels, unsigned bits) {
    Vector<std::int32_t> multiplier(channels), negative(channels);
    Vector<std::uint8_t> shift(channels);
    const unsigned how = byte();
    const auto any = static_cast<std::uint8_t>(1 + byte() % 62);
    for (std::size_t c = 0; c < channels; ++c) {
      multiplier[c] = static_cast<std::int32_t>(random_.up_to(kInt32 - (how & 1), how / 2 % 4));
      negative[c] = how < 64    ? 0
                    : how < 128 ? multiplier[c]
                                : static_cast<std::int32_t>(random_.between(-kInt32 - 1, kInt32));
      if (how % 64 < 32) multiplier[c] &= kInt32;  // never below zero, perhaps
      shift[c] = how & 8 ? any : static_cast<std::uint8_t>(random_.between(40, 50));
    }
    put(name + ".multiplier", multiplier);
    put(name + ".negative", negative);
    put(name + ".shift", shift);
    put(name + ".bits", Vector<std::uint8_t>{static_cast<std::uint8_t>(bits)});
  }

  void exponents(const String& name, std::size_t channels, std::size_t each) {
    Vector<std::uint8_t> own(channels * each);
    for (std::size_t c = 0; c < own.size(); ++c)
      own[c] = c % each == 0 ? static_cast<std::uint8_t>(random_.between(0, 15)) : own[c - 1];
    put(name + ".exponents", own);
  }

  void curve(bool logistic) {
    Vector<std::int32_t> tail(65);
    for (int i = 0; i < 65; ++i) tail[static_cast<std::size_t>(i)] = 16384 - (logistic ? 200 * i : 256 * i);
    put(logistic ? "n.silu" : "n.gelu", tail);
  }

  void numbers(const String& name, const Vector<std::uint8_t>& step, const Vector<std::int32_t>& from) {
    put(name + ".step", step);
    put(name + ".from", from);
  }

  void layer(const String& name, std::size_t from, bool last) {
    const Value x = values_[from];
    const unsigned what = byte(), how = byte();
    const unsigned kind = what % 4;  // plain, halved, transposed, shuffled
    const std::size_t side = 1 + what / 4 % 5 * 2, cells = kind == 3 ? 4 : 1;
    std::size_t outputs = kChannels[byte() % std::size(kChannels)];
    if (how & 1) outputs = x.channels;
    if (kind >= 2 && x.size >= 2) outputs = std::min<std::size_t>(outputs, 8);
    const bool wide = (how & 2) != 0, fits = (how & 4) != 0, reflect = (how & 8) != 0 && kind != 2;
    const unsigned input_bits = std::min(x.bits + (how >> 6), 16u);
    const std::int64_t limit = largest(input_bits), room = (fits ? kWinograd : kInt32) - 1;
    const std::size_t out = outputs * cells;
    const std::int64_t taps = static_cast<std::int64_t>(x.channels * side * side);
    const std::int64_t seen = kind == 2 && fits ? (taps + 3) / 4 + taps / 8 : taps;
    const std::int64_t each =
        std::min<std::int64_t>(room / limit / std::max<std::int64_t>(seen, 1), wide ? 32767 : 127);
    Vector<std::int16_t> weight(static_cast<std::size_t>(taps) * out);
    Vector<std::int64_t> sums(out);
    const unsigned pattern = how / 16 % 4;
    for (std::size_t i = 0; i < weight.size(); ++i) {
      const std::size_t of = kind == 2 ? i / (side * side) % out : i / static_cast<std::size_t>(taps);
      weight[i] = static_cast<std::int16_t>(random_.up_to(each, pattern));
      if ((sums[of] + std::abs(weight[i])) * limit > kInt32) weight[i] = 0;
      sums[of] += std::abs(weight[i]);
    }
    const std::size_t first = kind == 2 ? x.channels : out, second = kind == 2 ? out : x.channels;
    const Vector<std::size_t> shape{first, second, side, side};
    if (wide) {
      put(name + ".weight", Type::int16, shape, weight);
    } else {
      put(name + ".weight", Type::int8, shape, Vector<std::int8_t>(weight.begin(), weight.end()));
    }
    Vector<std::int32_t> bias(out);
    for (std::size_t c = 0; c < out; ++c) {
      bias[c] = static_cast<std::int32_t>(random_.up_to(kInt32 - sums[c] * limit, pattern)) / (how & 4 ? 1 : 1000);
    }
    put(name + ".bias", bias);
    const auto small = [](auto v) { return static_cast<std::uint8_t>(v); };
    put(name + ".geometry", Vector<std::uint8_t>{small(kind == 1 || kind == 2 ? 2 : 1), small(kind == 2),
                                                 small(input_bits), small(kind == 3 ? 2 : 1)});
    unsigned bits = 2 + byte() % 15;
    if (last && what >= 192) bits = 27;
    const unsigned bend = byte();
    if (bend < 100) {
      bits = std::min(bits, 14u);
      exponents(name, outputs, cells);
      put(name + ".curve", Vector<std::uint8_t>{small(bend & 1)});
      curve(bend & 1);
    }
    requantiser(name + ".requantise", out, bits);
    numbers(name, {0, small(reflect)}, {static_cast<std::int32_t>(from)});
    values_.push_back({outputs, bits, x.size + (kind >= 2) - (kind == 1)});
  }

  void gdn(const String& name, std::size_t from) {
    const Value x = values_[from];
    const unsigned how = byte();
    const std::size_t c = x.channels;
    const auto channels = static_cast<std::int64_t>(c);
    const unsigned input_bits = std::max(9u, std::min(x.bits + how / 64, 16u)), bits = 2 + byte() % 15;
    const std::int64_t most = std::min<std::int64_t>((kInt32 - 1) / 32767 / channels, 32767);
    Vector<std::int16_t> gamma(c * c);
    Vector<std::int32_t> beta(c), multiplier(c);
    Vector<std::uint8_t> shift(c);
    for (std::size_t i = 0; i < c; ++i) {
      std::int64_t sum = 0;
      for (std::size_t j = 0; j < c; ++j) {
        gamma[i * c + j] = static_cast<std::int16_t>(std::abs(random_.up_to(most, how / 4 % 4)));
        sum += gamma[i * c + j];
      }
      beta[i] = static_cast<std::int32_t>(how & 2 ? kInt32 - sum * 32767 : random_.between(1, kInt32 - sum * 32767));
      multiplier[i] = static_cast<std::int32_t>(random_.between(0, (1 << 24) - 1));
      shift[i] = static_cast<std::uint8_t>(how & 16 ? random_.between(0, 62) : random_.between(20, 30));
    }
    put(name + ".gamma", Type::int16, {c, c}, gamma);
    put(name + ".beta", beta);
    put(name + ".multiplier", multiplier);
    put(name + ".shift", shift);
    numbers(
        name,
        {1, static_cast<std::uint8_t>(how & 1), static_cast<std::uint8_t>(input_bits), static_cast<std::uint8_t>(bits)},
        {static_cast<std::int32_t>(from)});
    values_.push_back({c, bits, x.size});
  }

  void mix(const String& name, std::size_t from, std::size_t other) {
    const Value a = values_[from], b = values_[other];
    const unsigned how = byte(), shift = 1 + byte() % 30, bits = 2 + byte() % 15;
    const std::int64_t room = kInt32 - (std::int64_t{1} << (shift - 1));
    const std::int64_t most = std::min<std::int64_t>(room / (largest(a.bits) + largest(b.bits)), 32767);
    for (const char* side : {".left", ".right"}) {
      Vector<std::int16_t> factors(a.channels);
      for (auto& factor : factors) factor = static_cast<std::int16_t>(random_.up_to(most, how % 4));
      put(name + side, Type::int16, {a.channels}, factors);
    }
    numbers(name, {2, static_cast<std::uint8_t>(shift), static_cast<std::uint8_t>(bits)},
            {static_cast<std::int32_t>(from), static_cast<std::int32_t>(other)});
    values_.push_back({a.channels, bits, a.size});
  }

  void factors(const String& name, std::size_t count, bool negative, unsigned how) {
    Vector<std::int32_t> multiplier(count);
    Vector<std::uint8_t> shift(count);
    for (std::size_t i = 0; i < count; ++i) {
      multiplier[i] = static_cast<std::int32_t>(random_.up_to((1 << 24) - 1, how % 4));
      if (!negative) multiplier[i] = std::abs(multiplier[i]);
      shift[i] = static_cast<std::uint8_t>(how & 16 ? random_.between(0, 62) : random_.between(18, 40));
    }
    put(name + ".multiplier", multiplier);
    put(name + ".shift", shift);
  }

  void layer_norm(const String& name, std::size_t from) {
    const Value x = values_[from];
    const unsigned how = byte(), input_bits = std::min(x.bits + how / 64, 16u), bits = 2 + byte() % 15;
    Vector<std::int16_t> weight(x.channels);
    Vector<std::int32_t> bias(x.channels);
    for (std::size_t c = 0; c < x.channels; ++c) {
      weight[c] = static_cast<std::int16_t>(std::abs(random_.up_to(32767, how / 4 % 4)));
      bias[c] = static_cast<std::int32_t>(random_.up_to((1 << 24) - 1, how / 8 % 4)) >> (how & 1 ? 0 : 10);
    }
    put(name + ".weight", Type::int16, {x.channels}, weight);
    put(name + ".bias", bias);
    put(name + ".epsilon", Vector<std::int32_t>{how & 2 ? 1 : static_cast<std::int32_t>(random_.between(1, kInt32)),
                                                static_cast<std::int32_t>(random_.between(0, how & 2 ? 0 : 30))});
    factors(name + ".scale", x.channels, false, how);
    factors(name, x.channels, true, how >> 2);
    numbers(name, {5, static_cast<std::uint8_t>(input_bits), static_cast<std::uint8_t>(bits)},
            {static_cast<std::int32_t>(from)});
    values_.push_back({x.channels, bits, x.size});
  }

  void depthwise(const String& name, std::size_t from) {
    const Value x = values_[from];
    const unsigned what = byte(), how = byte(), input_bits = std::min(x.bits + (how >> 6), 16u);
    const std::size_t side = 1 + what % 5 * 2, taps = side * side, c = x.channels;
    const std::int64_t limit = largest(input_bits);
    const std::int64_t each = std::min<std::int64_t>((kInt32 - 1) / limit / static_cast<std::int64_t>(taps), 32767);
    Vector<std::int16_t> weight(taps * c);
    Vector<std::int64_t> sums(c);
    for (std::size_t i = 0; i < weight.size(); ++i) {
      weight[i] = static_cast<std::int16_t>(random_.up_to(each, how % 4));
      sums[i / taps] += std::abs(weight[i]);
    }
    put(name + ".weight", Type::int16, {c, 1, side, side}, weight);
    Vector<std::int32_t> bias(c);
    for (std::size_t i = 0; i < c; ++i) {
      bias[i] = static_cast<std::int32_t>(random_.up_to(kInt32 - sums[i] * limit, how % 4));
    }
    put(name + ".bias", bias);
    const auto small = [](auto v) { return static_cast<std::uint8_t>(v); };
    put(name + ".geometry", Vector<std::uint8_t>{1, 0, small(input_bits), 1});
    unsigned bits = 2 + byte() % 15;
    if (what & 64) {
      bits = std::min(bits, 14u);
      exponents(name, c, 1);
      put(name + ".curve", Vector<std::uint8_t>{small(what >> 7)});
      curve(what >> 7);
    }
    requantiser(name + ".requantise", c, bits);
    numbers(name, {7}, {static_cast<std::int32_t>(from)});
    values_.push_back({c, bits, x.size});
  }

  void softmax(const String& name, std::size_t from) {
    const Value x = values_[from];
    const unsigned how = byte(), bits = 2 + byte() % 15;
    std::size_t groups = 1 + how / 4 % 8;
    while (x.channels % groups != 0) --groups;
    factors(name + ".sharpness", groups, false, how);
    factors(name, x.channels, false, how >> 3);
    Vector<std::int32_t> powers(65);
    for (int i = 0; i < 65; ++i) powers[static_cast<std::size_t>(i)] = 16384 - 128 * i;
    put("n.powers", powers);
    numbers(name, {9, static_cast<std::uint8_t>(groups), static_cast<std::uint8_t>(bits)},
            {static_cast<std::int32_t>(from)});
    values_.push_back({x.channels, bits, x.size});
  }

  void map_mean(const String& name, std::size_t from) {
    const Value x = values_[from];
    const unsigned how = byte(), bits = 2 + byte() % 15;
    factors(name, x.channels, false, how);
    numbers(name, {10, static_cast<std::uint8_t>(bits)}, {static_cast<std::int32_t>(from)});
    values_.push_back({x.channels, bits, x.size});
  }

  // False, and nothing drawn, where the value is none of queries, keys and values.
  bool windows(const String& name, std::size_t from) {
    const Value x = values_[from];
    const std::int64_t limit = largest(x.bits), channels = static_cast<std::int64_t>(x.channels / 3);
    const unsigned how = byte();
    std::int64_t heads = 1 + how / 4 % 4;
    while (channels % heads != 0) --heads;
    const std::int64_t room = (1 << 30) - 1 - channels / heads * limit * limit;
    if (x.channels % 3 != 0 || room < 0) return false;
    const unsigned size = how % 4 == 3 ? 7 : 1 + how % 4, bits = 2 + byte() % 15;
    Vector<std::int32_t> bias(static_cast<std::size_t>(heads) * (2 * size - 1) * (2 * size - 1));
    for (auto& own : bias) own = static_cast<std::int32_t>(random_.up_to(how & 64 ? room : room >> 8, how / 16 % 4));
    put(name + ".bias", Type::int32, {static_cast<std::size_t>(heads), bias.size() / static_cast<std::size_t>(heads)},
        bias);
    factors(name + ".sharpness", static_cast<std::size_t>(heads), false, how);
    factors(name, static_cast<std::size_t>(channels), false, how >> 3);
    Vector<std::int32_t> powers(65);
    for (int i = 0; i < 65; ++i) powers[static_cast<std::size_t>(i)] = 16384 - 128 * i;
    put("n.powers", powers);
    const auto small = [](auto v) { return static_cast<std::uint8_t>(v); };
    numbers(name, {6, small(size), small(how / 8 % size), small(heads), small(x.bits), small(bits)},
            {static_cast<std::int32_t>(from)});
    values_.push_back({x.channels / 3, bits, x.size});
    return true;
  }

  void step(bool last) {
    const String name = "n." + to_string(values_.size() - 1);
    const unsigned what = byte();
    const std::size_t from = what & 64 ? byte() % values_.size() : values_.size() - 1;
    std::size_t other = byte() % values_.size();
    const Value& x = values_[from];
    if (values_[other].channels != x.channels || values_[other].size != x.size) other = from;
    const auto at = static_cast<std::int32_t>(from);
    if (pixels_ && values_.size() == 1) return layer(name, from, last);
    switch (what % 8) {
      case 0:
        return gdn(name, from);
      case 1:
        return mix(name, from, other);
      case 2:
        if (values_[other].bits > 14) break;
        exponents(name, x.channels, 1);
        curve(true);
        numbers(name, {3}, {at, static_cast<std::int32_t>(other)});
        return values_.push_back(x);
      case 3:
        if (x.bits > 14) break;
        exponents(name, x.channels, 1);
        curve(what & 8);
        numbers(name, {4, static_cast<std::uint8_t>(what / 8 % 2)}, {at});
        return values_.push_back(x);
      case 4:
        return layer_norm(name, from);
      case 5:
        if (windows(name, from)) return;
        break;
      case 6:
        if (what & 8) return what & 16 ? softmax(name, from) : map_mean(name, from);
        if (what & 16) return depthwise(name, from);
        {
          const unsigned bits = 2 + byte() % 15;
          requantiser(name + ".requantise", x.channels, bits);
          numbers(name, {8}, {at, static_cast<std::int32_t>(other)});
          return values_.push_back({x.channels, bits, x.size});
        }
      default:
        break;
    }
    layer(name, from, last);
  }

  fuzz::Input& input_;
  Random random_;
  Vector<Value> values_;
  bool pixels_;
  std::map<String, Vector<std::uint8_t>> memory_;
};

// Numbers that a map may hold: of all channels at once, and in what order they are asked for does not matter.
std::int16_t number(std::uint32_t seed, std::size_t channel, std::size_t row, std::size_t column, std::int32_t limit,
                    std::int32_t least) {
  std::uint64_t h =
      seed ^ (channel * 0x9E3779B97F4A7C15u) ^ (row * 0xC2B2AE3D27D4EB4Fu) ^ (column * 0x165667B19E3779F9u);
  h = (h ^ (h >> 29)) * 0xBF58476D1CE4E5B9u;
  h ^= h >> 32;
  if (seed % 4 == 0) return static_cast<std::int16_t>(h & 1 ? limit : least);
  if (seed % 4 == 1) return static_cast<std::int16_t>(limit);
  return static_cast<std::int16_t>(least +
                                   static_cast<std::int32_t>(h % static_cast<std::uint64_t>(limit - least + 1)));
}

Vector<std::int32_t> run(const nn::Network& network, MapSize size, MapSize out, std::uint32_t seed, bool pixels,
                         std::size_t band, unsigned threads) {
  const std::size_t channels = network.input().channels, outputs = network.output().channels;
  const std::int32_t limit = network.input().limit;
  Vector<std::int32_t> values(out.height * out.width * outputs, 0x55555555);
  Vector<std::uint8_t> taken(out.height);  // each row once, by any thread
  const auto feed = [&](std::size_t row, std::int16_t* to, std::size_t stride) {
    fuzz::require(row < size.height);
    for (std::size_t column = 0; column < size.width; ++column) {
      for (std::size_t c = 0; c < channels; ++c)
        to[column * stride + c] = number(seed, c, row, column, limit, pixels ? 0 : -limit);
    }
  };
  const auto take = [&](std::size_t row, const auto* from, std::size_t stride) {
    fuzz::require(row < out.height && taken[row]++ == 0);
    for (std::size_t column = 0; column < out.width; ++column)
      std::copy_n(from + column * stride, outputs, &values[(row * out.width + column) * outputs]);
  };
  // In a thread of its own: what threads keep from call to call would hide where a later one goes beyond its end.
  std::exception_ptr failure;
  std::thread([&] {
    try {
      Team team(threads);
      nn::run(network, size, band, {feed, take, take}, active_isa(), team);
    } catch (...) {
      failure = std::current_exception();
    }
  }).join();
  if (failure) std::rethrow_exception(failure);
  for (const std::uint8_t times : taken) fuzz::require(times == 1);
  for (const std::int32_t value : values) fuzz::require(std::abs(value) <= network.output().limit);
  if (nn::never_negative(network)) {
    for (const std::int32_t value : values) fuzz::require(value >= 0);
  }
  return values;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
  using namespace fuzz;
  Input input(data, bytes);
  const auto how = input.take<std::uint8_t>(), choice = input.take<std::uint8_t>();
  const bool pixels = (how & 1) != 0;
  const unsigned bits = pixels ? 9 : 2 + input.take<std::uint8_t>() % 15u;
  const std::size_t channels = kChannels[input.take<std::uint8_t>() % (pixels ? 4 : std::size(kChannels))];
  const MapSize size{1 + input.take<std::uint8_t>() % 14u, 1 + input.take<std::uint8_t>() % 14u};
  const auto seed = input.take<std::uint32_t>();
  const std::size_t band = input.take<std::uint8_t>() % 16u;
  Vector<std::uint8_t> changes = input.take_bytes(4 * (how / 2 % 4) * 3);
  Drawn drawn(input, {channels, bits, 0}, pixels);
  const bool exits = (how & 8) != 0;
  if (exits) drawn.exit();
  Hostile hostile(drawn.arrays);
  Input damage(changes.data(), changes.size());
  while (damage.left() > 0) hostile.change(damage);
  try {
    const nn::ArrayReader reader(hostile.arrays);
    const auto limit = static_cast<std::int32_t>(pixels ? 255 : largest(bits));
    nn::Network network = nn::read_network(reader, "n", {pixels ? 0 : channels, limit});
    if (exits) network = nn::with_exit(network, reader, "n.exit");
    const MapSize out = nn::output_size(network, size);
    if (out.height * out.width * network.output().channels > kMostOutputs) return 0;
    set_isa(Isa::scalar);
    const auto whole = run(network, size, out, seed, pixels, out.height, 1);
    on_chosen_isa(choice, [&] {
      require(run(network, size, out, seed, pixels, band, (how & 16) != 0 ? 3 : 1) == whole);
      return 0;
    });
  } catch (const std::invalid_argument&) {
  }
  return 0;
}

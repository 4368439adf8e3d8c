// Networks of integer layers over whole images, in bands of rows: what transforms are made of. The arithmetic is that
// of fastlic/integers/network.py, docs/transforms.md has the arrays.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <variant>

#include "fastlic/memory.hpp"
#include "fastlic/nn/convolve.hpp"
#include "fastlic/nn/layer.hpp"
#include "fastlic/nn/reader.hpp"
#include "fastlic/nn/windows.hpp"

namespace fastlic::nn {

// x divided or multiplied by sqrt(beta + gamma * squares of x), per channel (Balle et al. 2016).
struct Gdn {
  bool inverse = false;
  std::int16_t up = 0;  // squares are those of x << up, in units of 2^15
  float limit = 0;
  Layer norms;            // gamma and beta; only its sums are used
  Buffer<float> factors;  // [padded channels]
};

struct Mix {
  Buffer<std::int16_t> left, right;  // [padded channels]
  int shift = 1;
  std::int32_t limit = 0;
};

struct Gate {
  Curve curve;
};

// Of two values.
struct Product {
  Requantiser requantiser;
};

// The same activations in other units. Files have no such step, nor the next one.
struct Rescale {
  Requantiser requantiser;
};

// A map that whoever runs the network makes of another one: Ends::make.
struct Outside {};

using Op = std::variant<Layer, Gdn, Mix, Gate, Curve, LayerNorm, WindowAttention, Depthwise, Product, Softmax, MapMean,
                        Rescale, Outside>;

struct Step {
  Op op;
  Vector<std::size_t> from;  // values that it reads: 0 is the input, k the output of step k - 1
};

struct Value {
  std::size_t channels = 0;
  std::int32_t limit = 0;  // largest magnitude
};

struct Network {
  Vector<Step> steps;
  Vector<Value> values;  // one more than steps
  TailLines gelu, silu, powers;

  const Value& input() const noexcept { return values.front(); }
  const Value& output() const noexcept { return values.back(); }
  // Whether its last step is a layer whose outputs may exceed int16.
  bool ends_wide() const noexcept { return output().limit > 32767; }
  // Of a network of nothing but layers.
  const Layer& layer(std::size_t step) const { return std::get<Layer>(steps[step].op); }
  // One step more, of these values to a new one, whose number is returned.
  std::size_t add(Op op, Vector<std::size_t> from, Value value);
};

// Layers one after the other. `head`: they end with numbers of up to 32 bits, however small.
Network network_of(const Stack& stack, bool head = false);

// Arrays name.0.step, ...; of the input may be known how many channels it has, or 0: then a layer must come first.
// Faults are std::invalid_argument.
Network read_network(const ArrayReader& arrays, const String& name, Value input);

// The requantiser behind its last layer. std::invalid_argument unless that is one of its own: `name` is for the
// message.
Requantiser& exit_of(Network& network, const String& name);

// The same with another requantiser of as many bits behind its last layer.
Network with_exit(const Network& network, const ArrayReader& arrays, const String& prefix);

// Whether outputs are those of a layer that gives no negative numbers; whether they are such of 8 bits, too.
bool never_negative(const Network& network);
bool ends_with_pixels(const Network& network);

struct MapSize {
  std::size_t height = 0, width = 0;
};

// The size of the output. Maps that are larger than any memory, smaller than a layer reflects, no multiple of a window,
// or joined though their sizes differ, are std::invalid_argument.
MapSize output_size(const Network& network, MapSize input);

struct Ends;

// About the bytes that `run` takes at most, by bands that suit the caches, with so many threads; asks as output_size.
// Of `ends` is looked at where maps lie.
std::uint64_t memory_of(const Network& network, MapSize input, unsigned threads, const Ends* ends = nullptr);

// By how many rows and columns of the input, on each side, a part of the output reads more than it covers itself; none
// where sizes are divided, windows see each other, or a mean sees all.
std::optional<std::size_t> margin_of(const Network& network);

// About its multiply-adds, as Progress counts them; asks as output_size.
double work_of(const Network& network, MapSize input);

// `feed` writes rows of the input, whose rows in memory are `stride` apart; `take` gets rows of the output:
// activations, or numbers of up to 32 bits if the network ends wide. Both are called with consecutive rows, from the
// first to the last.
struct Ends {
  Function<void(Rows, const Target&)> feed;
  Function<void(Rows, const Source&)> take;
  Function<void(Rows, const View<const std::int32_t>&)> take_wide;
  // The map of a step Outside, of the one that it reads.
  Function<void(Rows, const Source&, const Target&)> make = {};
  // Whole maps in memory, in place of `feed` and of `take`.
  std::optional<Source> from = {};
  std::optional<Target> to = {};
  // Of the output, where it is smaller than what the network makes: the rest is cut off.
  std::optional<MapSize> size = {};
};

// One row at a time, its positions `stride` apart: of any rows, in any order, by several threads at once.
struct RowEnds {
  Function<void(std::size_t row, std::int16_t* to, std::size_t stride)> feed;
  Function<void(std::size_t row, const std::int16_t* from, std::size_t stride)> take;
  Function<void(std::size_t row, const std::int32_t* from, std::size_t stride)> take_wide;
};

// `band`: about so many rows of the output are made together; 0: as many as suit the caches and the threads. The
// outputs depend on neither.
void run(const Network& network, MapSize input, std::size_t band, const RowEnds& ends, Isa isa, Team& team);
// As a part of something larger, which has tools and itself tells Progress.
void run(const Network& network, MapSize input, const Ends& ends, const Tools& tools);

}  // namespace fastlic::nn

// Layers from a file's arrays: shapes checked, every accumulator's bound proven, weights packed. What comes out can
// neither overflow nor read out of bounds. Faults are std::invalid_argument that names the array.
#pragma once

#include <span>

#include "fastlic/memory.hpp"
#include "fastlic/nn/layer.hpp"
#include "fastlic/nn/reading.hpp"

namespace fastlic::nn {

constexpr unsigned kActivationBits = 12;
enum Kind { kPlain = 0, kTransposed = 1, kShuffled = 2, kHalved = 3 };

// Channels that a layer reads from one block of a row of memory, and the block's size there.
struct Block {
  std::size_t count, size;
  Block(std::size_t channels) : count(channels), size(padded(channels)) {}  // NOLINT: a number of channels is a block
  // Room in memory of which the layer knows nothing.
  static Block skipped(std::size_t channels) { return {0, padded(channels)}; }
  // Inputs of the layer that are zero and have no room in memory.
  static Block absent(std::size_t channels) { return {channels, 0}; }
  // Without padding, of which rows in memory may have more.
  static Block tight(std::size_t channels) { return {channels, channels + channels % 2}; }
  static Block exact(std::size_t channels) { return {channels, channels}; }

 private:
  Block(std::size_t c, std::size_t s) : count(c), size(s) {}
};

using Inputs = Vector<Block>;

// Bits of a stack's outputs, those of its last layer apart, and the largest magnitude of what its first layer reads.
struct Widths {
  unsigned inner = kActivationBits, last = kActivationBits;
  std::int32_t input = kActivation;
};

struct RawLayer {
  String name;
  Vector<std::int16_t> weight;
  bool wide = false;                                                       // whether weights have more than 8 bits
  std::size_t outputs = 0, inputs = 0, rows = 0, columns = 0, groups = 0;  // rows and columns of the kernel
  int kind = kPlain;
  bool transposed = false, reflect = false;
  std::size_t up = 1;  // what sizes are multiplied by
  std::int32_t input_limit = kActivation;
  Vector<std::int32_t> bias;
  Vector<std::size_t> stored;  // of each output, which of the file's it is; empty: the same

  std::size_t index(std::size_t out, std::size_t in, std::size_t i, std::size_t j) const {
    const std::size_t plane = transposed ? in * outputs + out : out * inputs + in;
    return (plane * rows + i) * columns + j;
  }
  std::int16_t at(std::size_t out, std::size_t in, std::size_t i, std::size_t j) const {
    return weight[index(out, in, i, j)];
  }
  // Of each output: largest magnitude of a sum of any of its products.
  Vector<std::int64_t> reach;
  Vector<std::int64_t> reaches() const;
  // The same of the products of one of the positions whose outputs a transposed kernel makes; `positive`: no input is
  // below zero.
  std::int64_t reach_of_positions(std::size_t out, bool positive) const;
};

// Refuses a kernel that is not odd and square.
void require_square(const RawLayer& raw);

// Refuses a layer whose sums of products, of at most `reach`, could leave int32 together with this bias.
void require_fits(const String& name, std::size_t channel, std::int64_t reach, std::int32_t bias);

// One tap of a part and where it stands in the stored kernel.
struct Tap {
  Offset offset;
  std::size_t i, j;
  std::size_t phase = 0;  // where sizes are halved: which of four interleaved maps it reads
};

class Reader {
 public:
  // transforms: layers may have weights of 16 bits, curves on 14 bits, and halve sizes.
  explicit Reader(const ArrayReader& arrays, bool transforms = false) : arrays_(arrays), transforms_(transforms) {}

  const ArrayReader& arrays() const noexcept { return arrays_; }

  Requantiser requantiser(const String& prefix, std::size_t channels, unsigned bits) const {
    return read_requantiser(arrays_, prefix, channels, bits);
  }

  // Geometry is int32 (kind, groups), or uint8 (stride, transposed, bits of inputs, and 2 if outputs are shuffled).
  // inputs: channels, or 0: as many as the weights say. limit: largest magnitude of one, which sums are proven for.
  RawLayer raw(const String& name, std::size_t inputs, std::int32_t limit = kActivation, bool depthwise = false) const;

  // The same of 1x1 layers that have no geometry and weights of two dimensions, [outputs, inputs].
  RawLayer flat(const String& name, std::size_t inputs, std::int32_t limit) const;

  // Output channels first, first + step, ... of a kernel as one part.
  struct Outputs {
    std::size_t first = 0, step = 1;
  };
  // `all`: the requantiser of all of its outputs.
  Part part(const RawLayer& raw, const Inputs& inputs, const Outputs& outputs, Vector<Tap> taps,
            const Requantiser& all) const;

  // Any layer with an odd square kernel; the last of a network may be wider than an activation. `positive`: no input
  // is below zero, which lets more layers use Winograd's transform.
  Layer layer(const String& name, const Inputs& inputs, unsigned bits = kActivationBits,
              std::int32_t limit = kActivation, bool positive = false) const;
  // The same of a kernel at hand; `narrow`: one that doubles sizes to few channels may be merged.
  Layer layer(const RawLayer& raw, const Inputs& inputs, unsigned bits, bool positive, bool narrow = false) const;
  // A 1x1 layer.
  Layer dense(const String& name, const Inputs& inputs, unsigned bits = kActivationBits,
              std::int32_t limit = kActivation) const;
  // A layer before which the inputs of all taps are gathered into one row: a matrix [taps * inputs][outputs].
  Layer matrix(const RawLayer& raw, const Inputs& inputs, Vector<Tap> taps, unsigned bits) const;
  // A plain layer's taps at odd distances: all that one colour of a checkerboard sees of the other.
  Layer board(const String& name, const Inputs& inputs) const;
  // A kernel for each channel, of outputs of up to so many bits; of entropy models a 3x3 one.
  Depthwise depthwise(const String& name, std::size_t channels, unsigned bits, std::int32_t limit = kActivation) const;
  // Layers name.0, name.1, ...
  Stack stack(const String& name, Inputs inputs, Widths widths = {}) const;
  // The same, of layers that keep the map's size.
  Stack same_size_stack(const String& name, const Inputs& inputs, Widths widths = {}) const;
  // The same without convolutions.
  Stack dense_stack(const String& name, const Inputs& inputs, Widths widths) const;

  TailLines tail_lines(const String& name = "tables.tail") const;
  // name.exponents, `step` of them for each of `channels`; of activations of up to `limit`.
  Curve curve(const String& name, std::size_t channels, std::size_t step, std::int32_t limit,
              bool logistic = false) const;

 private:
  void geometry(RawLayer& raw) const;
  Requantiser requantiser(const RawLayer& raw, unsigned bits) const;
  Curve layer_curve(const RawLayer& raw, std::size_t step, std::int32_t limit) const;

  const ArrayReader& arrays_;
  bool transforms_;
};

// Whether a layer's outputs are never below zero.
bool rectified(const Layer& layer);

// How many times a network multiplies sizes; 0 if any of its layers divides them.
std::size_t enlarges(const Stack& stack);
inline bool keeps_size(const Stack& stack) { return enlarges(stack) == 1; }

}  // namespace fastlic::nn

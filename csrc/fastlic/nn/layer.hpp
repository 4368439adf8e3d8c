// Integer layers, packed for the kernels. Arithmetic is that of fastlic/integers; reader.hpp makes them from arrays.
#pragma once

#include <array>
#include <cstdint>

#include "fastlic/memory.hpp"
#include "fastlic/nn/fixed.hpp"
#include "fastlic/nn/packed.hpp"
#include "fastlic/nn/winograd.hpp"

namespace fastlic::nn {

constexpr std::int32_t kActivation = 2047;  // 12 bits: what every layer of entropy models reads
constexpr std::size_t kTailLines = 64;
constexpr int kTailStep = 8;  // a line is 2^8 units of 2^-12 long
constexpr int kTailBits = 15;
constexpr std::int16_t kTailLast = (kTailLines << kTailStep) - 1;

// 64 numbers as instruction sets look them up: words, and their bytes, 16 low ones before 16 high ones.
struct LookUp {
  Buffer<std::uint16_t> words = Buffer<std::uint16_t>(kTailLines);
  Buffer<std::uint8_t> bytes = Buffer<std::uint8_t>(2 * kTailLines);

  void set(std::size_t i, int value) {
    words[i] = static_cast<std::uint16_t>(value);
    std::uint8_t* own = &bytes[i / 16 * 32 + i % 16];
    own[0] = static_cast<std::uint8_t>(value);
    own[16] = static_cast<std::uint8_t>(value >> 8);
  }
};

// 32768 Q(t), Q = 1 less the normal distribution, for t = 0..4 in units of 2^-12, as 64 straight lines.
struct TailLines {
  LookUp start, fall;
};

// x times a distribution function of x: GELU (the normal one), or SiLU (the logistic one). Per channel, from the
// magnitude of an activation to units of 2^-12 (GELU) or 2^-11 (SiLU): min(|a|, reach) << up >> down. Empty: no
// activation.
struct Curve {
  Buffer<std::int16_t> reach, up, down;  // [padded channels]; reach << up is at most 2^14
  bool logistic = false;

  bool empty() const noexcept { return up.empty(); }
};

// 3x3 pieces of a kernel, transformed (winograd.hpp), as far as they feed one component and their inputs lie side by
// side: `row` lines of tiles below the first one, from channel `at` of the tile there on.
struct Strip {
  std::size_t row = 0, at = 0;
  WideMatrix weights;
};

// Output positions (up * u + row, up * v + column) of a layer that multiplies sizes by `up`.
struct Part {
  std::size_t row = 0, column = 0;
  Vector<Offset> taps;
  PackedMatrix weights;                           // [taps * depth][outputs]; empty where the others are used
  WideMatrix wide;                                // the same of more than 8 bits
  std::array<Vector<Strip>, kComponents> strips;  // by component of Winograd's transform
  Buffer<std::int32_t> bias;                      // [padded outputs]
  Requantiser requantiser;
};

struct Layer {
  std::size_t outputs = 0;       // of one position
  std::size_t depth = 0;         // inputs of one position, with their padding
  std::size_t up = 1, down = 1;  // one of them may be 2: what sizes are multiplied and divided by
  // Rows and columns of pieces that the kernel is cut into for Winograd's transform; 0: multiplied tap by tap. A kernel
  // that reaches `splits` positions has pieces that begin at -splits, -splits + 2, ...: two taps each, the last three.
  // So tiles of inputs, 2 apart, serve all of them.
  std::size_t splits = 0;
  // A layer that divides sizes by 2 reads four interleaved maps, each as a layer that keeps sizes does.
  std::size_t phases = 1;
  std::size_t reach = 0;  // rows above and below that outputs of a row read, before sizes are multiplied
  Vector<Part> parts;
  bool shuffled = false;      // whether each part has requantisers of its own
  bool merged = false;        // one part has the outputs of all four positions, one position after the other
  bool reflect = false;       // the map goes on beyond its edges by reflection, not by zeros
  std::size_t reflected = 0;  // how many rows and columns of it do
  std::size_t used = 0;       // columns that have outputs, in whole quarters of panels; 0: all
  Curve curve;

  // Columns of a part.
  std::size_t columns() const noexcept { return padded(merged ? up * up * outputs : outputs); }
  // Of those, what is multiplied, and what is worked on afterwards: in whole half panels.
  std::size_t multiplied() const noexcept { return used > 0 ? used : columns(); }
  std::size_t computed() const noexcept { return (multiplied() + kHalfPanel - 1) / kHalfPanel * kHalfPanel; }
  // Largest magnitude of an output.
  std::int32_t limit() const noexcept { return parts[0].requantiser.limit; }
};

using Stack = Vector<Layer>;

// A kernel for each channel: one tap after the other, channels innermost.
struct Depthwise {
  std::size_t channels = 0;
  std::size_t side = 3;          // of the kernel, odd
  Buffer<std::int16_t> weights;  // [side^2][padded channels]
  Buffer<std::int32_t> bias;
  Requantiser requantiser;
  Curve curve;

  // Rows and columns on each side that an output reads.
  std::size_t reach() const noexcept { return side / 2; }
};

}  // namespace fastlic::nn

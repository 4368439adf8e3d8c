// Integer layers, packed for the kernels. Arithmetic is that of fastlic/integers; reader.hpp makes them from arrays.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "fastlic/nn/fixed.hpp"
#include "fastlic/nn/packed.hpp"
#include "fastlic/nn/winograd.hpp"

namespace fastlic::nn {

constexpr std::int32_t kActivation = 2047;  // 12 bits: what every layer reads
constexpr std::size_t kTailLines = 64;
constexpr int kTailStep = 8;  // a line is 2^8 units of 2^-12 long
constexpr int kTailBits = 15;
constexpr std::int16_t kTailLast = (kTailLines << kTailStep) - 1;

// 32768 Q(t), Q = 1 less the normal distribution, for t = 0..4 in units of 2^-12, as 64 straight lines.
struct TailLines {
  // One entry more than is used: gathering instructions read 32 bits.
  Buffer<std::uint16_t> start = Buffer<std::uint16_t>(kTailLines + 1);
  Buffer<std::uint16_t> fall = Buffer<std::uint16_t>(kTailLines + 1);
};

// Per channel, from the magnitude of an activation to units of 2^-12: min(|a|, reach) << up >> down. Empty: no GELU.
struct GeluChannel {
  Buffer<std::int16_t> reach, up, down;  // [padded channels]; reach << up is at most 2^14

  bool empty() const noexcept { return up.empty(); }
};

// One row of 3x3 pieces of a kernel, transformed (engine/winograd.hpp): a matrix per component, of pieces that lie side
// by side, the first of them `first` tiles to the right. Empty where no piece has a tap that feeds the component.
struct Pieces {
  std::array<std::size_t, kComponents> first{};
  WinogradPhase weights;
};

// Output positions (up * u + row, up * v + column) of a layer that multiplies sizes by `up`.
struct Part {
  std::size_t row = 0, column = 0;
  std::vector<Offset> taps;
  PackedMatrix weights;        // [taps * depth][outputs]; empty where the pieces are used
  std::vector<Pieces> pieces;  // row by row
  Buffer<std::int32_t> bias;   // [padded outputs]
  Requantiser requantiser;
};

struct Layer {
  std::size_t outputs = 0;       // of one part
  std::size_t depth = 0;         // padded inputs of one position
  std::size_t up = 1, down = 1;  // one of them may be 2: what sizes are multiplied and divided by
  // Rows and columns of pieces that the kernel is cut into for Winograd's transform; 0: multiplied tap by tap. A kernel
  // that reaches `splits` positions has pieces that begin at -splits, -splits + 2, ...: two taps each, the last three.
  // So tiles of inputs, 2 apart, serve all of them.
  std::size_t splits = 0;
  std::vector<Part> parts;
  bool shuffled = false;  // whether each part has requantisers of its own
  GeluChannel gelu;

  std::size_t columns() const noexcept { return padded(outputs); }
  // Largest magnitude of an output.
  std::int32_t limit() const noexcept { return parts[0].requantiser.limit; }
};

using Stack = std::vector<Layer>;

// Depthwise 3x3: one tap after the other, channels innermost.
struct Depthwise {
  std::size_t channels = 0;
  Buffer<std::int16_t> weights;  // [9][padded channels]
  Buffer<std::int32_t> bias;
  Requantiser requantiser;
  GeluChannel gelu;
};

}  // namespace fastlic::nn

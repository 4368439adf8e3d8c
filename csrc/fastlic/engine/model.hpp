// The integer entropy model, parsed and proven once: after the constructor nothing can overflow or read out of bounds,
// whatever file the arrays came from. Arithmetic and array names are those of fastlic/entropy/{fixed,layers,model}.py.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "fastlic/cdf_tables.hpp"
#include "fastlic/nn/arrays.hpp"
#include "fastlic/nn/packed.hpp"
#include "fastlic/nn/winograd.hpp"
#include "fastlic/nn/fixed.hpp"

namespace fastlic::engine {

using namespace fastlic::nn;

// Output positions (up * u + row, up * v + column) of a layer that multiplies sizes by `up`: for each tap, in order,
// the input at (u, v) + tap. A convolution is one phase, a transposed convolution of stride 2 is four, and so is a
// convolution whose outputs are shuffled into 2x2 cells: there each phase has outputs of its own, and `finish` says
// which of the layer's biases and requantisers are theirs.
struct Phase {
  std::size_t row, column;
  std::vector<Offset> taps;
  PackedMatrix weights;  // [taps * padded inputs][outputs]
  std::size_t finish = 0;
};

// What happens to a phase's sums.
struct Finish {
  Buffer<std::int32_t> bias;  // [padded outputs]
  Requantiser requantiser;
};

struct Layer {
  std::size_t inputs, outputs;  // outputs of a phase
  std::size_t up;
  Buffer<std::int32_t> bias;  // [padded outputs]
  std::vector<Phase> phases;
  std::vector<WinogradPhase> winograd;  // the same phases transformed; empty if the layer does not fit
  Requantiser requantiser;
  std::vector<Finish> cells;  // of the second, third and fourth phase of a shuffled layer

  const Buffer<std::int32_t>& bias_of(const Phase& phase) const {
    return phase.finish == 0 ? bias : cells[phase.finish - 1].bias;
  }
  const Requantiser& requantiser_of(const Phase& phase) const {
    return phase.finish == 0 ? requantiser : cells[phase.finish - 1].requantiser;
  }
};

struct Model {
  Model(const Arrays& arrays, std::shared_ptr<const CdfTables> z, std::shared_ptr<const CdfTables> y);

  std::shared_ptr<const CdfTables> z_tables, y_tables;
  double z_fewest_bits, y_fewest_bits;  // of the cheapest symbol of any row
  std::vector<std::int32_t> z_median;   // [N]
  Requantiser z_input;
  std::vector<Layer> hyper;
  bool contextual;
  Requantiser y_input;
  Layer context;                  // weights [12 * padded M][outputs]
  PackedMatrix of_hyper;          // first parameter layer over the 2M hyper features, with its bias
  std::vector<Layer> parameters;  // the first one over the context's outputs only
  Thresholds thresholds;
  Buffer<std::int32_t> offsets;  // [rows of y's table]: how far symbols but 0 lie from their middle; or empty

  // The same weights with other integers around them, as models of variable rate have them: any of z.median, z.input,
  // y.input, context.bias, y.offsets and the last layer's requantiser. Other names are refused.
  Model(const Model& base, const Arrays& changes, std::shared_ptr<const CdfTables> z,
        std::shared_ptr<const CdfTables> y);

  std::size_t hyper_channels() const noexcept { return z_median.size(); }
  std::size_t latent_channels() const noexcept { return latent_channels_; }
  // Columns of the widest accumulator row of a wavefront step.
  std::size_t widest() const noexcept { return widest_; }

 private:
  void read_offsets(const ArrayReader& reader);

  std::size_t latent_channels_ = 0, widest_ = 0;
  std::vector<std::int64_t> context_reach_;  // largest magnitude of the context's sums of products
};

}  // namespace fastlic::engine

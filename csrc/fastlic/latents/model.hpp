// An integer entropy model, parsed and proven once: after reading nothing can overflow or read out of bounds, whatever
// file the arrays came from. z is coded first, hyper synthesis follows, then y: along a wavefront, or on a board.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <variant>

#include "fastlic/attention/model.hpp"
#include "fastlic/cdf_tables.hpp"
#include "fastlic/latents/colour.hpp"
#include "fastlic/memory.hpp"
#include "fastlic/nn/layer.hpp"
#include "fastlic/nn/reader.hpp"

namespace fastlic::latents {

using attention::Attention;
using attention::LocalAttention;
using nn::Buffer;
using nn::Layer;
using nn::padded;
using nn::Requantiser;
using nn::Stack;

constexpr std::size_t kContextTaps = 12;
constexpr std::size_t kMaxGroups = 64;

// A masked 5x5 context, and parameter layers behind it and the hyperprior: one position after the other, or all of one
// wavefront together. Arithmetic and array names: fastlic/entropy/model.py.
struct Wavefront {
  Layer context;               // a matrix [12 * padded M][outputs]
  Layer share;                 // the first parameter layer over the hyperprior's features, with its bias
  Stack parameters;            // the first one over the context's outputs only
  Vector<std::int64_t> reach;  // largest magnitude of the context's sums of products
};

// A board model codes groups of channels one after the other, each in steps. All activations of a position that several
// networks read lie in one row of memory, in blocks padded to whole panels, so that every network reads a contiguous
// piece of it. `from` and `to` are where blocks begin in such a row.

// A network over the whole map.
struct Context {
  nn::Network network;
  std::size_t from, to;
  // Blocks that do not lie side by side: they are copied together for the network. Empty: it reads at `from`.
  struct Piece {
    std::size_t offset, size;
  };
  Vector<Piece> pieces;
};

// A layer at the positions of one colour, which reads what the other colour left.
struct BoardContext {
  Layer layer;
  std::size_t from, to;
  Colour colour;
};

// Attention over all earlier groups, from the block at `from` on. What lies from `room` on, `size` of it, is written
// after it, and may keep what it works with.
struct InterContext {
  Attention net;
  std::size_t from, to;
  std::size_t room = 0, size = 0;
};

// Attention inside a group: others of the previous group ask its anchors about the anchors of the one in flight.
struct IntraContext {
  Attention net;
  std::size_t previous, to;
};

// Windows of the group's anchors around its other positions.
struct LocalContext {
  LocalAttention net;
  std::size_t to;
};

// Scales and means of a region, then its symbols.
struct Code {
  Region region;
  nn::Network parameters;  // 1x1 layers, but for all positions; empty: hyper synthesis ends with them
  std::size_t from;
  std::size_t section;  // of the stream; z is section 0
};

// What is added to the latents of one colour behind their symbols.
struct Residual {
  nn::Network network;
  std::size_t from;
  Colour colour;
};

using Step = std::variant<Context, BoardContext, InterContext, IntraContext, LocalContext, Code, Residual>;

struct Group {
  std::size_t first = 0, channels = 0;  // of the latent
  std::size_t block = 0;                // of its activations
  Requantiser input;                    // from latents to activations
  Vector<Step> steps;
};

struct Model {
  std::shared_ptr<const CdfTables> z_tables, y_tables;
  double z_fewest_bits = 0, y_fewest_bits = 0;  // of the cheapest symbol of any row
  Vector<std::int32_t> z_median;                // [N]
  Requantiser z_input, y_input;
  nn::Network hyper;
  // From activations of y to z in units of 2^-6, for encoders only; empty where z comes from elsewhere.
  nn::Network analysis;
  nn::Thresholds thresholds;
  Buffer<std::int32_t> offsets;  // [rows of y's table]: how far symbols but 0 lie from their middle; or empty
  attention::Tables tables;
  bool residual = false;  // whether residual prediction stands between the symbols of y and y
  bool linear = false;    // attention whose cost grows with the map, not with its square
  std::size_t latent_channels = 0;

  std::optional<Wavefront> wavefront;
  // On a board:
  Vector<Group> groups;
  // Where the outputs of hyper synthesis go, each block of as many channels; empty where it ends with scales and means.
  Vector<std::size_t> hyper_blocks;
  std::size_t row = 0;          // size of a row of memory
  std::size_t least_width = 1;  // narrower latents lack anchors

  std::size_t hyper_channels() const noexcept { return z_median.size(); }
  // The last section; its symbols may be those of several steps.
  std::size_t sections() const noexcept;
};

// Each fault is std::invalid_argument that names the array.
// fastlic/entropy/model.py: no context, or a masked one.
Model read_gaussian(const nn::Arrays& arrays, std::shared_ptr<const CdfTables> z, std::shared_ptr<const CdfTables> y);
// fastlic/entropy/groups/model.py: channel groups and checkerboards.
Model read_groups(const nn::Arrays& arrays, std::shared_ptr<const CdfTables> z, std::shared_ptr<const CdfTables> y);
// fastlic/entropy/mlic/model.py: slices with attention.
Model read_slices(const nn::Arrays& arrays, std::shared_ptr<const CdfTables> z, std::shared_ptr<const CdfTables> y);

// The same weights with other integers around them, as models of variable rate have them: any of z.median, z.input,
// y.input, context.bias, y.offsets and the last layer's requantiser. Other names are refused.
Model vary(const Model& base, const nn::Arrays& changes, std::shared_ptr<const CdfTables> z,
           std::shared_ptr<const CdfTables> y);

// y.offsets, where there are any.
void read_offsets(const nn::ArrayReader& reader, Model& model);

// What every reader begins with: tables, thresholds, medians, z's requantiser under its name, and hyper synthesis.
Model begin_model(const nn::Reader& read, std::shared_ptr<const CdfTables> z, std::shared_ptr<const CdfTables> y,
                  const String& z_input, const String& hyper, unsigned bits, unsigned last_bits);

}  // namespace fastlic::latents

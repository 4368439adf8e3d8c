#include "fastlic/engine/model.hpp"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <string>

#include "fastlic/nn/reading.hpp"

namespace fastlic::engine {
namespace {

constexpr std::int64_t kInt32Max = std::numeric_limits<std::int32_t>::max();

// What a layer's arrays say, weights indexed the same way for all kinds.
struct RawLayer {
  std::string name;
  const std::int8_t* weight;
  std::size_t outputs, inputs, kernel_rows, kernel_columns;
  std::span<const std::int32_t> bias;
  std::size_t stride;
  bool transposed;
  unsigned input_bits;
  std::size_t shuffle = 1;             // 2: outputs are 2x2 cells, four for each channel
  std::size_t first = 0, every = 1;    // a cell of them: its outputs among the stored ones

  std::int8_t at(std::size_t out, std::size_t in, std::size_t i, std::size_t j) const {
    const std::size_t plane = transposed ? in * outputs + out : (out * every + first) * inputs + in;
    return weight[(plane * kernel_rows + i) * kernel_columns + j];
  }

  // Largest possible magnitude of a sum of products.
  std::int64_t reach(std::size_t out) const {
    std::int64_t sum = 0;
    for (std::size_t in = 0; in < inputs; ++in) {
      for (std::size_t i = 0; i < kernel_rows; ++i) {
        for (std::size_t j = 0; j < kernel_columns; ++j) sum += std::abs(int{at(out, in, i, j)});
      }
    }
    return sum * magnitude_limit(input_bits);
  }

  // Every sum of any subset of products, plus the bias, must fit int32: then so does every partial sum in any order.
  void prove_accumulators() const {
    for (std::size_t out = 0; out < outputs; ++out) {
      const std::int64_t worst = reach(out) + std::abs(std::int64_t{bias[out * every + first]});
      require(worst <= kInt32Max, name,
              "can overflow: channel " + std::to_string(out) + " reaches " + std::to_string(worst));
    }
  }
};

RawLayer read_raw(const ArrayReader& reader, const std::string& name) {
  const ArrayRef& weight = reader.get(name + ".weight", Type::int8, 4);
  const auto geometry = reader.uint8s(name + ".geometry");
  require(geometry.size() == 3 || geometry.size() == 4, name + ".geometry",
          "must be stride, transposed, input bits, and the shuffle if there is one");
  require(geometry[1] <= 1, name + ".geometry", "must have 0 or 1 for transposed");
  require(geometry[2] >= 2 && geometry[2] <= kMaxActivationBits, name + ".geometry", "must have 2 to 16 input bits");
  RawLayer raw{};
  raw.name = name;
  raw.weight = static_cast<const std::int8_t*>(weight.data);
  raw.transposed = geometry[1] == 1;
  raw.outputs = weight.shape[raw.transposed ? 1 : 0];
  raw.inputs = weight.shape[raw.transposed ? 0 : 1];
  raw.kernel_rows = weight.shape[2];
  raw.kernel_columns = weight.shape[3];
  raw.bias = reader.int32s(name + ".bias");
  raw.stride = geometry[0];
  raw.input_bits = geometry[2];
  raw.shuffle = geometry.size() == 4 ? geometry[3] : 1;
  require(raw.shuffle == 1 || (raw.shuffle == 2 && !raw.transposed && raw.outputs % 4 == 0), name + ".geometry",
          "must have 1 for shuffle, or 2 for a plain convolution with four outputs for each channel");
  for (const std::size_t channels : {raw.inputs, raw.outputs}) {
    require(channels >= 1 && channels <= kMaxChannels, name + ".weight", "has shape " + shape_text(weight.shape));
  }
  require(raw.bias.size() == raw.outputs, name + ".bias", "must have one number per output channel");
  return raw;
}

// The part of a shuffled layer that makes one position of each 2x2 cell.
RawLayer cell_of(const RawLayer& raw, std::size_t cell) {
  RawLayer part = raw;
  part.outputs = raw.outputs / 4;
  part.first = cell;
  part.every = 4;
  return part;
}

Finish finish_of(const RawLayer& raw, const Requantiser& all) {
  Finish out{{}, selected(all, raw.first, raw.outputs, raw.every)};
  out.bias.assign(padded(raw.outputs), 0);
  for (std::size_t c = 0; c < raw.outputs; ++c) out.bias[c] = raw.bias[c * raw.every + raw.first];
  return out;
}

Layer start_layer(const ArrayReader& reader, const RawLayer& raw, unsigned max_bits) {
  raw.prove_accumulators();
  const Requantiser all = read_requantiser(reader, raw.name + ".requantise", raw.outputs, max_bits);
  const bool shuffled = raw.shuffle == 2;
  Layer layer{};
  layer.inputs = raw.inputs;
  layer.outputs = shuffled ? raw.outputs / 4 : raw.outputs;
  layer.up = raw.transposed ? raw.stride : raw.shuffle;
  Finish finish = finish_of(shuffled ? cell_of(raw, 0) : raw, all);
  layer.bias = std::move(finish.bias);
  layer.requantiser = std::move(finish.requantiser);
  for (std::size_t cell = 1; shuffled && cell < 4; ++cell) layer.cells.push_back(finish_of(cell_of(raw, cell), all));
  return layer;
}

void accept_input(const RawLayer& raw, std::size_t channels, std::int32_t limit) {
  require(raw.inputs == channels, raw.name,
          "reads " + std::to_string(raw.inputs) + " channels, its input has " + std::to_string(channels));
  require(limit <= magnitude_limit(raw.input_bits), raw.name,
          "accepts " + std::to_string(raw.input_bits) + "-bit activations, its input has wider ones");
}

bool fits_winograd(const RawLayer& raw, const Layer& layer) {
  if (raw.input_bits > kMaxWinogradBits) return false;
  for (const Phase& phase : layer.phases) {
    for (const Offset& tap : phase.taps) {
      if (std::abs(tap.row) > 1 || std::abs(tap.column) > 1) return false;
    }
  }
  for (std::size_t out = 0; out < raw.outputs; ++out) {
    if (raw.reach(out) > kWinogradReach) return false;
  }
  return true;
}

// Where each of a phase's taps comes from in the stored kernel.
struct Source {
  Offset offset;
  std::size_t i, j;
};

WinogradPhase transform_phase(const RawLayer& raw, const std::vector<Source>& sources) {
  WinogradPhase phase;
  // 2G's first row reads only the tap at -1, its last only the one at +1; kernels are rectangles, so both axes decide
  // alone.
  std::array<bool, 4> rows{false, true, true, false}, columns = rows;
  for (const Source& s : sources) {
    rows[0] |= s.offset.row < 0;
    rows[3] |= s.offset.row > 0;
    columns[0] |= s.offset.column < 0;
    columns[3] |= s.offset.column > 0;
  }
  for (std::size_t k = 0; k < kComponents; ++k) {
    if (rows[k / 4] && columns[k % 4]) phase[k] = WideMatrix(padded(raw.inputs), raw.outputs);
  }
  const WideMatrix& shape = phase[5];  // live in every phase; all matrices are laid out alike
  for (std::size_t in = 0; in < raw.inputs; ++in) {
    for (std::size_t c = 0; c < raw.outputs; ++c) {
      std::array<std::int16_t, 9> kernel{};
      for (const Source& s : sources) {
        kernel[static_cast<std::size_t>(3 * (s.offset.row + 1) + s.offset.column + 1)] = raw.at(c, in, s.i, s.j);
      }
      const auto transformed = transform_kernel(kernel);
      const std::size_t at = shape.offset(in, c);
      for (std::size_t k = 0; k < kComponents; ++k) {
        if (phase[k].depth != 0) phase[k].data[at] = transformed[k];
      }
    }
  }
  return phase;
}

// A convolution (padding k/2) gathers from out + i - k/2. A transposed one of stride s adds input u to outputs
// s * u + i - k/2, so output o = s * u' + p gathers, over taps i of the right residue, from u' + (p + k/2 - i) / s.
Layer read_convolution(const ArrayReader& reader, const std::string& name, unsigned max_bits, std::size_t channels,
                       std::int32_t limit) {
  const RawLayer raw = read_raw(reader, name);
  accept_input(raw, channels, limit);
  const std::size_t kernel = raw.kernel_rows;
  require(kernel == raw.kernel_columns && kernel % 2 == 1 && kernel <= 9, name + ".weight",
          "must have an odd square kernel up to 9x9");
  require(raw.stride == 1 || (raw.transposed && raw.stride == 2), name + ".geometry",
          "must be a convolution of stride 1 or a transposed one of stride 1 or 2");
  Layer layer = start_layer(reader, raw, max_bits);
  const int half = static_cast<int>(kernel / 2);
  const int up = static_cast<int>(layer.up);
  const std::size_t row_size = padded(raw.inputs);
  std::vector<std::vector<Source>> all_sources;
  for (int p = 0; p < up * up; ++p) {
    const RawLayer part = raw.shuffle == 2 ? cell_of(raw, static_cast<std::size_t>(p)) : raw;
    std::vector<Source> sources;
    const int phase[2] = {p / up, p % up};
    for (std::size_t i = 0; i < kernel; ++i) {
      for (std::size_t j = 0; j < kernel; ++j) {
        int from[2] = {static_cast<int>(i) - half, static_cast<int>(j) - half};
        bool live = true;
        for (int axis = 0; raw.transposed && axis < 2; ++axis) {
          const int distance = phase[axis] - from[axis];
          live = live && distance % up == 0;
          from[axis] = distance / up;
        }
        if (live) sources.push_back({{from[0], from[1]}, i, j});
      }
    }
    // Taps next to each other in a row lie next to each other in memory: in this order one copy gathers them all.
    std::sort(sources.begin(), sources.end(), [](const Source& a, const Source& b) {
      return a.offset.row != b.offset.row ? a.offset.row < b.offset.row : a.offset.column < b.offset.column;
    });
    Phase out{static_cast<std::size_t>(phase[0]), static_cast<std::size_t>(phase[1]), {}, {}};
    out.finish = raw.shuffle == 2 ? static_cast<std::size_t>(p) : 0;
    out.weights = PackedMatrix(sources.size() * row_size, part.outputs);
    for (std::size_t t = 0; t < sources.size(); ++t) {
      out.taps.push_back(sources[t].offset);
      for (std::size_t in = 0; in < raw.inputs; ++in) {
        for (std::size_t c = 0; c < part.outputs; ++c) {
          out.weights.set(t * row_size + in, c, part.at(c, in, sources[t].i, sources[t].j));
        }
      }
    }
    layer.phases.push_back(std::move(out));
    all_sources.push_back(std::move(sources));
  }
  if (fits_winograd(raw, layer)) {
    for (std::size_t p = 0; p < all_sources.size(); ++p) {
      layer.winograd.push_back(transform_phase(raw.shuffle == 2 ? cell_of(raw, p) : raw, all_sources[p]));
    }
  }
  return layer;
}

// The matrix of a 1x1 layer (or of the context's taps) over inputs [first, first + count).
PackedMatrix pack_inputs(const RawLayer& raw, std::size_t first, std::size_t count) {
  const std::size_t row_size = padded(count);
  PackedMatrix matrix(raw.kernel_rows * row_size, raw.outputs);
  for (std::size_t tap = 0; tap < raw.kernel_rows; ++tap) {
    for (std::size_t in = 0; in < count; ++in) {
      for (std::size_t c = 0; c < raw.outputs; ++c) matrix.set(tap * row_size + in, c, raw.at(c, first + in, tap, 0));
    }
  }
  return matrix;
}

RawLayer read_dense(const ArrayReader& reader, const std::string& name, std::size_t taps) {
  const RawLayer raw = read_raw(reader, name);
  require(raw.kernel_rows == taps && raw.kernel_columns == 1 && raw.stride == 1 && !raw.transposed && raw.shuffle == 1,
          name,
          "must be a plain layer with a " + std::to_string(taps) + "x1 kernel");
  return raw;
}

}  // namespace

Model::Model(const Arrays& arrays, std::shared_ptr<const CdfTables> z, std::shared_ptr<const CdfTables> y)
    : z_tables(std::move(z)), y_tables(std::move(y)) {
  const ArrayReader reader(arrays);
  z_fewest_bits = fewest_bits(*z_tables);
  y_fewest_bits = fewest_bits(*y_tables);
  z_median = read_medians(reader, *z_tables);
  z_input = read_requantiser(reader, "z.input", z_median.size(), kMaxActivationBits);
  contextual = reader.has("context.weight");

  const std::size_t layers = count_layers(reader, "hyper");
  require(layers > 0, "hyper.0.geometry", "is missing");
  std::size_t channels = z_median.size(), up = 1;
  std::int32_t limit = z_input.limit;
  for (std::size_t i = 0; i < layers; ++i) {
    const bool last = i + 1 == layers && !contextual;
    hyper.push_back(read_convolution(reader, "hyper." + std::to_string(i), last ? kMaxWideBits : kMaxActivationBits,
                                     channels, limit));
    channels = hyper.back().outputs;
    limit = hyper.back().requantiser.limit;
    up *= hyper.back().up;
  }
  require(up == kHyperStride, "hyper", "must enlarge its input 4 times, not " + std::to_string(up));
  require(channels % 2 == 0, "hyper", "must have an even number of outputs");
  latent_channels_ = channels / 2;
  widest_ = padded(channels);
  thresholds = read_thresholds(reader, y_tables->rows());
  if (reader.has("y.offsets")) read_offsets(reader);
  if (!contextual) return;

  y_input = read_requantiser(reader, "y.input", latent_channels_, kMaxActivationBits);
  const RawLayer taps = read_dense(reader, "context", kContextTaps);
  accept_input(taps, latent_channels_, y_input.limit);
  context = start_layer(reader, taps, kMaxActivationBits);
  context.phases.push_back({0, 0, {}, pack_inputs(taps, 0, taps.inputs)});
  for (std::size_t out = 0; out < taps.outputs; ++out) context_reach_.push_back(taps.reach(out));
  limit = std::max(limit, context.requantiser.limit);
  channels += context.outputs;
  const std::size_t count = count_layers(reader, "parameters");
  require(count > 0, "parameters.0.geometry", "is missing");
  for (std::size_t i = 0; i < count; ++i) {
    const RawLayer raw = read_dense(reader, "parameters." + std::to_string(i), 1);
    accept_input(raw, channels, limit);
    Layer layer = start_layer(reader, raw, i + 1 == count ? kMaxWideBits : kMaxActivationBits);
    const std::size_t skipped = i == 0 ? 2 * latent_channels_ : 0;
    if (i == 0) of_hyper = pack_inputs(raw, 0, skipped);
    layer.phases.push_back({0, 0, {}, pack_inputs(raw, skipped, raw.inputs - skipped)});
    channels = layer.outputs;
    limit = layer.requantiser.limit;
    widest_ = std::max(widest_, padded(channels));
    parameters.push_back(std::move(layer));
  }
  widest_ = std::max(widest_, padded(context.outputs));
  require(channels == 2 * latent_channels_, "parameters",
          "must end with " + std::to_string(2 * latent_channels_) + " channels, got " + std::to_string(channels));
}

Model::Model(const Model& base, const Arrays& changes, std::shared_ptr<const CdfTables> z,
             std::shared_ptr<const CdfTables> y)
    : Model(base) {
  const ArrayReader reader(changes);
  Layer& last = contextual ? parameters.back() : hyper.back();
  const std::string head =
      contextual ? "parameters." + std::to_string(parameters.size() - 1) : "hyper." + std::to_string(hyper.size() - 1);
  const auto begins = [](const std::string& name, const std::string& with) { return name.rfind(with, 0) == 0; };
  for (const auto& [name, array] : changes) {
    const bool known = name == "z.median" || name == "y.offsets" || begins(name, "z.tables.") ||
                       begins(name, "y.tables.") || begins(name, "z.input.") || begins(name, head + ".requantise.") ||
                       (contextual && (name == "context.bias" || begins(name, "y.input.")));
    require(known, name, "cannot differ from the model that shares its weights");
  }
  const auto rows = [](const CdfTables& tables) { return std::to_string(tables.rows()); };
  require(y->rows() == y_tables->rows(), "y.tables", "has " + rows(*y) + " rows in place of " + rows(*y_tables));
  z_tables = std::move(z);
  y_tables = std::move(y);
  require(z_tables->rows() >= z_median.size(), "z.tables", "has " + rows(*z_tables) + " rows, there are " +
          std::to_string(z_median.size()) + " channels");
  z_fewest_bits = fewest_bits(*z_tables);
  y_fewest_bits = fewest_bits(*y_tables);
  const auto replace = [&](Requantiser& old, const std::string& name, unsigned max_bits) {
    if (!reader.has(name + ".multiplier")) return;
    Requantiser now = read_requantiser(reader, name, old.channels, max_bits);
    require(now.limit == old.limit, name + ".bits", "cannot differ from those of the model that shares its weights");
    old = std::move(now);
  };
  if (reader.has("z.median")) {
    const std::size_t channels = z_median.size();
    z_median = read_medians(reader, *z_tables);
    require(z_median.size() == channels, "z.median", "must have " + std::to_string(channels) + " channels");
  }
  replace(z_input, "z.input", kMaxActivationBits);
  require(last.cells.empty() || !reader.has(head + ".requantise.multiplier"), head, "is shuffled and cannot differ");
  replace(last.requantiser, head + ".requantise", kMaxWideBits);
  if (reader.has("y.offsets")) read_offsets(reader);
  if (!contextual) return;
  replace(y_input, "y.input", kMaxActivationBits);
  if (reader.has("context.bias")) {
    const auto bias = reader.int32s("context.bias");
    require(bias.size() == context_reach_.size(), "context.bias", "must have one number per output channel");
    for (std::size_t out = 0; out < bias.size(); ++out) {
      const std::int64_t worst = context_reach_[out] + std::abs(std::int64_t{bias[out]});
      require(worst <= kInt32Max, "context",
              "can overflow: channel " + std::to_string(out) + " reaches " + std::to_string(worst));
      context.bias[out] = bias[out];
    }
  }
}

void Model::read_offsets(const ArrayReader& reader) {
  const auto values = reader.int32s("y.offsets");
  require(values.size() == y_tables->rows(), "y.offsets",
          "has " + std::to_string(values.size()) + " rows, the table of y " + std::to_string(y_tables->rows()));
  for (const std::int32_t value : values) {
    require(value >= -kOffsetLimit && value <= kOffsetLimit, "y.offsets",
            "must lie within +-" + std::to_string(kOffsetLimit));
  }
  offsets.assign(values.begin(), values.end());
}

}  // namespace fastlic::engine

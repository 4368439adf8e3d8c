#include "fastlic/nn/network.hpp"

#include <algorithm>
#include <limits>

#include "fastlic/errors.hpp"
#include "fastlic/memory.hpp"
#include "fastlic/nn/tiles.hpp"
#include "fastlic/progress.hpp"

namespace fastlic::nn {
namespace {

// Of a map, so that no size in memory leaves std::size_t: a position has at most 2^17 channels of 4 bytes. With 32 bits
// it is what an image may have, and bands of rows are looked at one by one.
constexpr std::size_t kMaxPositions = std::size_t{1} << (sizeof(std::size_t) < 8 ? 28 : 40);
constexpr std::size_t kPositions = 48;  // that a step other than a layer works on together

template <typename... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <typename... F>
Overloaded(F...) -> Overloaded<F...>;

// ---- sizes and rows

const Layer* layer_of(const Step& step) { return std::get_if<Layer>(&step.op); }
const Depthwise* depthwise_of(const Step& step) { return std::get_if<Depthwise>(&step.op); }
const WindowAttention* windows_of(const Step& step) { return std::get_if<WindowAttention>(&step.op); }
const MapMean* map_mean_of(const Step& step) { return std::get_if<MapMean>(&step.op); }

String text_of(MapSize size) { return to_string(size.height) + " x " + to_string(size.width); }

void require_fits_memory(MapSize size) {
  if (size.height > kMaxPositions || size.width > kMaxPositions / std::max<std::size_t>(size.height, 1)) {
    throw InvalidArgument("a network of integers would make a map of " + text_of(size));
  }
}

MapSize size_after(const Step& step, const Vector<MapSize>& sizes) {
  const MapSize x = sizes[step.from[0]];
  for (const std::size_t value : step.from) {
    if (sizes[value].height != x.height || sizes[value].width != x.width) {
      throw InvalidArgument("a network of integers joins maps of different sizes: pad its input");
    }
  }
  const WindowAttention* windows = windows_of(step);
  if (windows != nullptr && (x.height % windows->size != 0 || x.width % windows->size != 0)) {
    const String side = to_string(windows->size);
    throw InvalidArgument("windows of " + side + " x " + side + " need a map whose sides are multiples of " + side +
                          ", it is " + text_of(x));
  }
  const Layer* layer = layer_of(step);
  if (layer == nullptr) return x;
  if (layer->reflect && std::min(x.height, x.width) <= layer->reflected) {
    throw InvalidArgument("a layer of integers reflects " + to_string(layer->reflected) +
                          " rows and columns, its map is " + text_of(x));
  }
  const auto scaled = [&](std::size_t length) { return (length * layer->up + layer->down - 1) / layer->down; };
  const MapSize out{scaled(x.height), scaled(x.width)};
  require_fits_memory(out);
  return out;
}

Vector<MapSize> sizes_of(const Network& network, MapSize input) {
  require_fits_memory(input);
  Vector<MapSize> sizes{input};
  for (const Step& step : network.steps) sizes.push_back(size_after(step, sizes));
  return sizes;
}

// Rows of its inputs that a step reads to make rows of its output, as far as there are any.
Rows read_by(const Step& step, Rows rows) {
  if (rows.first >= rows.last) return rows;
  if (const WindowAttention* windows = windows_of(step)) {
    return {window_start(*windows, rows.first), window_end(*windows, rows.last - 1)};
  }
  if (map_mean_of(step) != nullptr) return {0, std::numeric_limits<std::size_t>::max()};
  const Layer* layer = layer_of(step);
  if (layer == nullptr) {
    const std::size_t reach = depthwise_of(step) != nullptr ? depthwise_of(step)->reach() : 0;
    return {rows.first - std::min(reach, rows.first), rows.last + reach};
  }
  const std::size_t reach = layer->reach;
  const std::size_t first = layer->down * rows.first / layer->up,
                    last = (layer->down * (rows.last - 1)) / layer->up + 1;
  return {first > reach ? first - reach : 0, last + reach};
}

// Rows of its output that a step makes together.
std::size_t tile_of(const Step& step) {
  const Layer* layer = layer_of(step);
  return layer == nullptr ? 1 : layer->splits > 0 ? 2 * layer->up : layer->up;
}

// About the multiply-adds of a step that gives so many positions of a value.
double step_work(const Step& step, const Value& value, std::size_t positions) {
  // Activations are rounded, written and read, which costs about as much as so many products of each.
  constexpr double kEach = 24;
  double work = kEach * static_cast<double>(positions * padded(value.channels));
  if (const Layer* layer = layer_of(step)) work += work_of(*layer, positions);
  if (const Gdn* gdn = std::get_if<Gdn>(&step.op)) work += work_of(gdn->norms, positions);
  if (const Depthwise* own = depthwise_of(step)) work += 2 * static_cast<double>(positions * own->weights.size());
  return work;
}

// The rows of a map that are in memory.
template <typename T>
class Window {
 public:
  Window(std::size_t stride, MapSize size) : stride_(stride), size_(size) {}

  std::size_t end() const noexcept { return end_; }
  std::size_t height() const noexcept { return size_.height; }
  View<T> view() { return {data_.data(), stride_, size_.height, size_.width, first_, end_ - first_}; }
  View<const T> source() const { return {data_.data(), stride_, size_.height, size_.width, first_, end_ - first_}; }

  // Makes room for rows up to `end`, which are written next; `dry`: only notes how much.
  void extend(std::size_t end, bool dry = false) {
    require_addresses(end - first_ + 1, size_.width, stride_, sizeof(T));
    // Kernels read and write whole panels, the last one of which may go beyond a row.
    const std::size_t needed = (end - first_) * row() + kPanel;
    most_ = std::max(most_, needed);
    if (!dry && data_.size() < needed) data_.resize(needed);
    end_ = end;
  }
  // Rows up to `end` lie elsewhere.
  void pass(std::size_t end) noexcept { first_ = end_ = end; }
  void drop_below(std::size_t row_number, bool dry = false) {
    const std::size_t first = std::min(row_number, end_);
    if (first <= first_) return;
    if (!dry) std::copy(data_.begin() + offset(first), data_.begin() + offset(end_), data_.begin());
    first_ = first;
  }
  void reserve_for(const Window& dry) { data_.reserve(dry.most_); }
  std::uint64_t most_bytes() const noexcept { return sizeof(T) * std::uint64_t{most_}; }

 private:
  std::size_t row() const noexcept { return size_.width * stride_; }
  std::ptrdiff_t offset(std::size_t r) const noexcept { return static_cast<std::ptrdiff_t>((r - first_) * row()); }

  Buffer<T> data_;
  std::size_t stride_;
  MapSize size_;
  std::size_t first_ = 0, end_ = 0;
  std::size_t most_ = 0;  // numbers that were ever needed together
};

// f(position of `rows` in its map, how many) for pieces of these rows.
template <typename F>
void for_positions(Rows rows, std::size_t width, Team& team, const F& f) {
  const std::size_t count = (rows.last - rows.first) * width;
  parallel_for((count + kPositions - 1) / kPositions, team, [&](std::size_t piece) {
    const std::size_t first = piece * kPositions;
    f(first, std::min(kPositions, count - first));
  });
}

void normalise(const Gdn& gdn, const Source& x, const Target& out, Rows rows, const Tools& tools) {
  const Layer& norms = gdn.norms;
  const Part& part = norms.parts[0];
  const std::size_t columns = norms.columns(), channels = padded(norms.outputs);
  const std::int16_t* from = x.at(rows.first, 0);
  std::int16_t* to = out.at(rows.first, 0);
  for_positions(rows, x.width, tools.team, [&](std::size_t first, std::size_t count) {
    std::int16_t* squares = scratch<std::int16_t>(kPositions * channels);
    std::int32_t* sums = scratch<std::int32_t>(kPositions * columns);
    const std::int32_t* start[kPositions];
    std::fill_n(start, count, part.bias.data());
    for (std::size_t i = 0; i < count; ++i) {
      tools.kernels.square(from + (first + i) * x.stride, channels, gdn.up, squares + i * channels);
    }
    tools.kernels.multiply_wide(
        {squares, channels, count, part.wide.data.data(), part.wide.depth, norms.multiplied(), start, sums, columns});
    for (std::size_t i = 0; i < count; ++i) {
      std::fill(sums + i * columns + norms.multiplied(), sums + (i + 1) * columns, 1);
      tools.kernels.normalise(from + (first + i) * x.stride, sums + i * columns, gdn.factors.data(), channels,
                              gdn.inverse, gdn.limit, to + (first + i) * out.stride);
    }
  });
}

// ---- running

class Runner {
 public:
  // Without tools it only goes through the motions: what memory() and made() need. `asked`: rows of the output, if not
  // all. `told`: what Progress is told of each product that is made.
  Runner(const Network& network, MapSize input, const Ends* ends, const Tools* tools, std::optional<Rows> asked = {},
         double told = 0)
      : network_(network),
        ends_(ends),
        tools_(tools),
        told_(told),
        sizes_(sizes_of(network, input)),
        last_(network.steps.size()) {
    if (ends != nullptr) {
      from_ = ends->from;
      to_ = ends->to;
      if (to_) sizes_.back() = {to_->height, to_->width};
      if (ends->size) sizes_.back() = *ends->size;
    }
    for (std::size_t v = 0; v < sizes_.size(); ++v) {
      const std::size_t channels = network.values[v].channels;
      const bool wide = v == last_ && network.ends_wide();
      // A few channels have no padding: those of images.
      const bool image =
          v == 0 || (v == last_ && layer_of(network.steps.back()) != nullptr && layer_of(network.steps.back())->merged);
      maps_.emplace_back(image ? channels : padded(channels), wide ? MapSize{} : sizes_[v]);
    }
    if (network.ends_wide()) wide_.emplace_back(padded(network.output().channels), sizes_[last_]);
    ask(asked);
    if (from_) maps_[0].pass(input.height);
    readers_.resize(sizes_.size());
    means_.resize(network.steps.size());
    for (const Step& step : network.steps) {
      for (const std::size_t v : step.from) readers_[v].push_back(&step - network.steps.data());
    }
  }

  // `band` rows of the input at a time.
  void run(std::size_t band) {
    const std::size_t height = sizes_[0].height, fed = needs_[0].last;
    for (std::size_t end = std::min(needs_[0].first + band, fed);; end = std::min(end + band, fed)) {
      feed(end);
      for (std::size_t s = 0; s < network_.steps.size(); ++s) {
        // No more at once than a band of the input has of them, and a tile: not all that is left after the last band.
        const std::uint64_t rows = std::uint64_t{band} * sizes_[s + 1].height / height;
        const std::size_t most = static_cast<std::size_t>(rows + 7) / 4 * 4;
        std::size_t wanted = end_of(s + 1) + most;
        if (const WindowAttention* windows = windows_of(network_.steps[s])) wanted = window_end(*windows, wanted - 1);
        make(s, std::min({makeable(s), wanted, needs_[s + 1].last}));
      }
      for (std::size_t v = 0; v < sizes_.size(); ++v) maps_[v].drop_below(still_needed(v), dry());
      if (!wide_.empty()) wide_[0].drop_below(wide_[0].end(), dry());
      if (end_of(last_) == needs_[last_].last) return;
    }
  }

  // Room for all that another of the same sizes noted.
  void reserve_for(const Runner& dry) {
    for (std::size_t v = 0; v < maps_.size(); ++v) maps_[v].reserve_for(dry.maps_[v]);
    for (std::size_t v = 0; v < wide_.size(); ++v) wide_[v].reserve_for(dry.wide_[v]);
  }

  // Bytes of all maps, each at its largest; one of them may be there twice while it grows.
  std::uint64_t memory() const {
    std::uint64_t bytes = 0, largest = 0;
    const auto add = [&](const auto& map) {
      bytes += map.most_bytes();
      largest = std::max(largest, map.most_bytes());
    };
    for (const auto& map : maps_) add(map);
    for (const auto& map : wide_) add(map);
    return bytes + largest;
  }

  // Multiply-adds of a run without tools.
  double made() const noexcept { return made_; }

 private:
  // Which rows of each value are made: all, or those that `asked` ones of the output are made of.
  void ask(const std::optional<Rows>& asked) {
    for (const MapSize size : sizes_) needs_.push_back({0, size.height});
    for (const Step& step : network_.steps) reads_.push_back({0, sizes_[step.from[0]].height});
    if (!asked) return;
    std::fill(needs_.begin(), needs_.end(), Rows{0, 0});
    needs_[last_] = *asked;
    for (std::size_t s = last_; s-- > 0;) {
      const Step& step = network_.steps[s];
      Rows& made = needs_[s + 1];
      made.first -= made.first % tile_of(step);  // whole tiles, but for the last one
      Rows& read = reads_[s] = read_by(step, made);
      read.last = std::min(read.last, sizes_[step.from[0]].height);
      for (const std::size_t v : step.from) {
        Rows& need = needs_[v];
        need = need.last == 0 ? read : Rows{std::min(need.first, read.first), std::max(need.last, read.last)};
      }
    }
    for (std::size_t v = 0; v < maps_.size(); ++v) maps_[v].pass(needs_[v].first);
    for (auto& map : wide_) map.pass(needs_[last_].first);
  }

  bool dry() const noexcept { return tools_ == nullptr; }

  std::size_t end_of(std::size_t value) const {
    return value == last_ && !wide_.empty() ? wide_[0].end() : maps_[value].end();
  }

  // Up to which row a step's output can be made of the rows that its inputs have.
  std::size_t makeable(std::size_t s) const {
    const Step& step = network_.steps[s];
    bool whole = true;
    std::size_t given = std::numeric_limits<std::size_t>::max();
    for (const std::size_t v : step.from) {
      whole = whole && end_of(v) >= reads_[s].last;
      given = std::min(given, end_of(v));
    }
    if (whole) return needs_[s + 1].last;
    if (const WindowAttention* windows = windows_of(step)) {
      return given < windows->offset ? 0 : window_start(*windows, given);
    }
    if (map_mean_of(step) != nullptr) return 0;
    const Layer* layer = layer_of(step);
    if (const Depthwise* own = depthwise_of(step)) return given - std::min(given, own->reach());
    if (layer == nullptr) return given;
    if (given <= layer->reach) return 0;
    const std::size_t middle = given - layer->reach;  // rows that have all rows around them
    const std::size_t rows = layer->up > 1 ? layer->up * middle : (middle - 1) / layer->down + 1;
    const std::size_t tile = layer->splits > 0 ? tile_of(step) : 1;  // whole ones: none is made twice
    return std::min(rows / tile * tile, sizes_[s + 1].height);
  }

  Source source_of(std::size_t value) const { return value == 0 && from_ ? *from_ : maps_[value].source(); }

  std::size_t still_needed(std::size_t value) const {
    std::size_t first = end_of(value);
    for (const std::ptrdiff_t s : readers_[value]) {
      const std::size_t next = end_of(static_cast<std::size_t>(s) + 1);
      if (next >= needs_[static_cast<std::size_t>(s) + 1].last) continue;
      first = std::min(first, read_by(network_.steps[static_cast<std::size_t>(s)], {next, next + 1}).first);
    }
    return first;
  }

  void feed(std::size_t end) {
    const Rows rows{maps_[0].end(), end};
    if (rows.first >= rows.last) return;
    maps_[0].extend(end, dry());
    if (dry()) return;
    ends_->feed(rows, maps_[0].view());
  }

  void make(std::size_t s, std::size_t end) {
    const Rows rows{end_of(s + 1), end};
    if (rows.first >= rows.last) return;
    make_rows(s, rows);
    const std::size_t positions = (rows.last - rows.first) * sizes_[s + 1].width;
    const double work = step_work(network_.steps[s], network_.values[s + 1], positions);
    dry() ? void(made_ += work) : Progress::done(told_ * work);
  }

  void make_rows(std::size_t s, Rows rows) {
    const Step& step = network_.steps[s];
    const std::size_t end = rows.last;
    const bool last = s + 1 == last_;
    if (last && !wide_.empty()) {
      wide_[0].extend(end, dry());
      if (dry()) return;
      convolve(std::get<Layer>(step.op), source_of(step.from[0]), wide_[0].view(), *tools_, rows);
      return ends_->take_wide(rows, wide_[0].source());
    }
    Window<std::int16_t>& map = maps_[s + 1];
    const bool placed = last && to_;
    placed ? map.pass(end) : map.extend(end, dry());
    if (dry()) return;
    const Tools& tools = *tools_;
    const Target out = placed ? *to_ : map.view();
    const Source x = source_of(step.from[0]), y = source_of(step.from.back());
    const std::size_t channels = padded(network_.values[s + 1].channels);
    const auto each = [&](const auto& f) {
      const std::int16_t *a = x.at(rows.first, 0), *b = y.at(rows.first, 0);
      std::int16_t* to = out.at(rows.first, 0);
      for_positions(rows, out.width, tools.team, [&](std::size_t first, std::size_t count) {
        for (std::size_t i = first; i < first + count; ++i) f(a + i * x.stride, b + i * y.stride, to + i * out.stride);
      });
    };
    std::visit(Overloaded{
                   [&](const Layer& layer) { convolve(layer, x, out, tools, rows); },
                   [&](const Gdn& gdn) { normalise(gdn, x, out, rows, tools); },
                   [&](const Mix& mix) {
                     each([&](const std::int16_t* a, const std::int16_t* b, std::int16_t* to) {
                       tools.kernels.mix(a, b, mix.left.data(), mix.right.data(), channels, mix.shift, mix.limit, to);
                     });
                   },
                   [&](const Gate& gate) {
                     each([&](const std::int16_t* a, const std::int16_t* b, std::int16_t* to) {
                       tools.kernels.gate(a, b, gate.curve, channels, tools.tail_of(gate.curve), to);
                     });
                   },
                   [&](const Product& product) {
                     each([&](const std::int16_t* a, const std::int16_t* b, std::int16_t* to) {
                       multiplied(product.requantiser, a, b, channels, to, tools);
                     });
                   },
                   [&](const Curve& curve) {
                     each([&](const std::int16_t* a, const std::int16_t*, std::int16_t* to) {
                       std::copy_n(a, channels, to);
                       tools.kernels.curve(to, curve, 0, channels, tools.tail_of(curve));
                     });
                   },
                   [&](const LayerNorm& norm) {
                     each([&](const std::int16_t* a, const std::int16_t*, std::int16_t* to) {
                       nn::normalise(norm, a, to, tools.kernels);
                     });
                   },
                   [&](const WindowAttention& windows) { attend(windows, network_.powers, x, out, rows, tools); },
                   [&](const Depthwise& layer) { convolve(layer, x, out, tools, rows); },
                   [&](const Softmax& softmax) {
                     each([&](const std::int16_t* a, const std::int16_t*, std::int16_t* to) {
                       weigh(softmax, network_.powers, a, to, tools.kernels);
                     });
                   },
                   [&](const MapMean& mean) {
                     if (rows.first == 0) means_[s] = mean_of(mean, x, tools.team);
                     each([&](const std::int16_t*, const std::int16_t*, std::int16_t* to) {
                       std::copy_n(means_[s].data(), channels, to);
                     });
                   },
                   [&](const Rescale& rescale) {
                     each([&](const std::int16_t* a, const std::int16_t*, std::int16_t* to) {
                       rescaled(rescale.requantiser, a, channels, to, tools);
                     });
                   },
                   [&](const Outside&) { ends_->make(rows, x, out); },
               },
               step.op);
    if (last && !placed) ends_->take(rows, map.source());
  }

  static void rescaled(const Requantiser& requantiser, const std::int16_t* from, std::size_t channels, std::int16_t* to,
                       const Tools& tools) {
    std::int32_t* wide = scratch<std::int32_t>(channels);
    std::copy_n(from, channels, wide);
    tools.kernels.requantise16(wide, requantiser, {0, channels}, to);
  }

  static void multiplied(const Requantiser& requantiser, const std::int16_t* a, const std::int16_t* b,
                         std::size_t channels, std::int16_t* to, const Tools& tools) {
    std::int32_t *sums = scratch<std::int32_t>(2 * channels), *zeros = sums + channels;
    std::fill_n(zeros, channels, 0);
    tools.kernels.depthwise(&a, 1, b, zeros, channels, sums);  // one tap, whose weights are the other value
    tools.kernels.requantise16(sums, requantiser, {0, channels}, to);
  }

  const Network& network_;
  const Ends* ends_;
  std::optional<Source> from_;
  std::optional<Target> to_;
  const Tools* tools_;
  double told_, made_ = 0;
  Vector<MapSize> sizes_;
  std::size_t last_;
  Vector<Rows> needs_;  // of each value, those that are made
  Vector<Rows> reads_;  // of each step, those of its inputs
  Vector<Window<std::int16_t>> maps_;
  Vector<Window<std::int32_t>> wide_;  // the output, if that is no activations
  Vector<Vector<std::ptrdiff_t>> readers_;
  Vector<Buffer<std::int16_t>> means_;  // of each step that is a mean of a map
};

// Rows of the input whose part of all maps together suits a cache of the second level; the smallest map gets two at
// least.
std::size_t usual_band(const Network& network, const Vector<MapSize>& sizes, const Ends* ends) {
  constexpr double kBytes = 1 << 20;
  const auto height = static_cast<double>(std::max<std::size_t>(sizes.front().height, 1));
  double bytes = 0;
  std::size_t least = sizes.front().height;
  for (std::size_t v = 0; v < sizes.size(); ++v) {
    const auto positions = static_cast<double>(sizes[v].height * sizes[v].width);
    if (v > 0 || ends == nullptr || !ends->from)
      bytes += 2.0 * positions * static_cast<double>(padded(network.values[v].channels));
    least = std::min(least, sizes[v].height);
  }
  const std::size_t down = sizes.front().height / std::max<std::size_t>(least, 1);
  return std::max<std::size_t>(static_cast<std::size_t>(kBytes / (bytes / height)) / 2 * 2, 2 * down);
}

// `band` rows of the input at a time; 0: as many as suit the caches. `asked`: rows of the output, if not all. `told`:
// what Progress is told of each product.
void run_in_bands(const Network& network, MapSize input, std::size_t band, const Ends& ends, const Tools& tools,
                  std::optional<Rows> asked, double told) {
  const std::size_t own = band > 0 ? band : usual_band(network, sizes_of(network, input), &ends);
  // What maps need is known beforehand: none moves while it grows.
  Runner dry(network, input, &ends, nullptr, asked), runner(network, input, &ends, &tools, asked, told);
  dry.run(own);
  runner.reserve_for(dry);
  runner.run(own);
}

struct Strips {
  std::size_t count = 1;
  std::size_t unit = 0, height = 0;  // rows: what all but the last are multiples of, and of the output
  std::uint64_t bytes = 0;           // of the maps of one, at most

  // Nearly equal ones.
  Rows at(std::size_t strip) const noexcept {
    const std::size_t units = (height + unit - 1) / unit;
    const auto end = [&](std::size_t i) { return std::min(units * i / count * unit, height); };
    return {end(strip), end(strip + 1)};
  }
};

// How threads share an output: each makes strips of it by itself, with all that their rows are made of, and none waits
// for others. What strips read beyond themselves is made twice. It is one strip, whose bands the threads share, where
// that would be much, where maps are so wide that bands have work for all, and where rows depend on all others.
Strips strips_of(const Network& network, MapSize input, std::size_t threads) {
  constexpr std::uint64_t kMostBytes = 16 << 20, kAlways = 64 << 20;  // of a thread's maps; of all, however few threads
  constexpr std::size_t kMostEach = 4;  // strips of a thread: some threads are quicker than others
  // Products of all strips, and of one, for each that is needed; bands of two threads take some two thirds of the time.
  constexpr double kMost = 2.0, kMostOfOne = 0.62, kMostOfSeveral = 1.1;
  Strips best;
  if (threads < 2 || std::any_of(
                         network.steps.begin(), network.steps.end(),
                         [](const Step& step) {
                           return windows_of(step) != nullptr || map_mean_of(step) != nullptr ||
                                  std::holds_alternative<Outside>(step.op);
                         })) {
    return best;
  }
  const Vector<MapSize> sizes = sizes_of(network, input);
  const std::size_t height = sizes.back().height, band = usual_band(network, sizes, nullptr);
  // Tiles of the last step, which makes whole ones: two strips would both make one that they share.
  const std::size_t times = (height + input.height - 1) / std::max<std::size_t>(input.height, 1);
  const std::size_t tile = tile_of(network.steps.back());
  const std::size_t unit = (2 * std::max<std::size_t>(times, 1) + tile - 1) / tile * tile;
  const double all = work_of(network, input);
  for (std::size_t each = 1; each <= kMostEach; ++each) {
    Strips own{std::min(each * threads, (height + unit - 1) / unit), unit, height};
    if (own.count <= best.count) break;
    Runner middle(network, input, nullptr, nullptr, own.at(own.count / 2));
    middle.run(band);
    own.bytes = middle.memory();
    if (own.bytes > std::max(kMostBytes, kAlways / std::min(own.count, threads))) break;
    const double one = middle.made() / all;
    if (one > kMostOfOne || one * static_cast<double>(own.count) > (each > 1 ? kMostOfSeveral : kMost)) break;
    best = own;
  }
  return best;
}

}  // namespace

std::size_t Network::add(Op op, Vector<std::size_t> from, Value value) {
  steps.push_back({std::move(op), std::move(from)});
  values.push_back(value);
  return steps.size();
}

Network network_of(const Stack& stack, bool head) {
  Network out;
  if (stack.empty()) return out;
  out.values.push_back({stack.front().depth, 0});
  for (const Layer& layer : stack) out.add(layer, {out.steps.size()}, {layer.outputs, layer.limit()});
  Value& last = out.values.back();
  if (head) last.limit = std::max(last.limit, std::int32_t{1} << 15);
  return out;
}

bool never_negative(const Network& network) {
  const Layer* layer = layer_of(network.steps.back());
  return layer != nullptr && rectified(*layer);
}

bool ends_with_pixels(const Network& network) { return network.output().limit <= 255 && never_negative(network); }

MapSize output_size(const Network& network, MapSize input) { return sizes_of(network, input).back(); }

std::optional<std::size_t> margin_of(const Network& network) {
  constexpr std::size_t kUnit = 1 << 16;  // of a row of the input
  struct Reach {
    std::size_t scale = 1, units = 0;
  };
  Vector<Reach> reaches(1);
  for (const Step& step : network.steps) {
    Reach own = reaches[step.from.front()];
    for (const std::size_t v : step.from) own.units = std::max(own.units, reaches[v].units);
    if (windows_of(step) != nullptr || map_mean_of(step) != nullptr) return {};
    if (const Depthwise* own_layer = depthwise_of(step)) {
      own.units += (own_layer->reach() * kUnit + own.scale - 1) / own.scale;
    }
    if (const auto* layer = std::get_if<Layer>(&step.op)) {
      if (layer->down > 1) return {};
      own.units += (layer->reach * kUnit + own.scale - 1) / own.scale;
      own.scale *= layer->up;
    }
    reaches.push_back(own);
  }
  return (reaches.back().units + kUnit - 1) / kUnit;
}

std::uint64_t memory_of(const Network& network, MapSize input, unsigned threads, const Ends* ends) {
  const Vector<MapSize> sizes = sizes_of(network, input);
  Runner runner(network, input, ends, nullptr);
  runner.run(usual_band(network, sizes, ends));
  std::uint64_t maps = runner.memory(), scratch = 0;
  if (ends == nullptr) {
    const Strips strips = strips_of(network, input, threads);
    if (strips.count > 1) maps = std::min<std::uint64_t>(strips.count, threads) * strips.bytes;
  }
  for (const Step& step : network.steps) {
    if (const Layer* layer = layer_of(step)) scratch = std::max(scratch, scratch_of(*layer));
    if (const WindowAttention* windows = windows_of(step)) scratch = std::max(scratch, scratch_of(*windows));
    if (const Gdn* gdn = std::get_if<Gdn>(&step.op)) {
      const std::uint64_t own = 6 * std::uint64_t{kPositions} * gdn->norms.columns();
      scratch = std::max(scratch, own + tile_scratch(kPositions, gdn->norms.depth));
    }
  }
  return maps + threads * scratch;
}

double work_of(const Network& network, MapSize input) {
  const Vector<MapSize> sizes = sizes_of(network, input);
  double work = 0;
  for (std::size_t s = 0; s < network.steps.size(); ++s) {
    work += step_work(network.steps[s], network.values[s + 1], sizes[s + 1].height * sizes[s + 1].width);
  }
  return work;
}

void run(const Network& network, MapSize input, std::size_t band, const RowEnds& ends, Isa isa, Team& team) {
  const auto run_with = [&](Team& own, std::size_t share, std::optional<Rows> asked, double told) {
    const auto each = [&](Rows rows, const auto& map, const auto& function) {
      parallel_for(rows.last - rows.first, own,
                   [&](std::size_t i) { function(rows.first + i, map.at(rows.first + i, 0), map.stride); });
    };
    const Ends whole{[&](Rows rows, const Target& map) { each(rows, map, ends.feed); },
                     [&](Rows rows, const Source& map) { each(rows, map, ends.take); },
                     [&](Rows rows, const View<const std::int32_t>& map) { each(rows, map, ends.take_wide); }};
    run_in_bands(network, input, share, whole, {kernels(isa), network.gelu, own, &network.silu}, asked, told);
  };
  const Strips strips = band > 0 ? Strips{} : strips_of(network, input, team.size());
  if (strips.count > 1) {  // of which this thread counts its own
    return parallel_for(strips.count, team, [&](std::size_t i) {
      Team alone(1);
      run_with(alone, 0, strips.at(i), 1);
    });
  }
  const std::size_t outputs = std::max<std::size_t>(output_size(network, input).height, 1);
  const std::size_t rows = std::min(band, outputs);  // no band is more than all
  const auto share = static_cast<std::size_t>((std::uint64_t{rows} * input.height + outputs - 1) / outputs);
  run_with(team, share, {}, 1 / static_cast<double>(team.size()));
}

void run(const Network& network, MapSize input, const Ends& ends, const Tools& tools) {
  run_in_bands(network, input, 0, ends, tools, {}, 0);
}

}  // namespace fastlic::nn

#include "fastlic/codes/context.hpp"

#include <algorithm>
#include <array>
#include <limits>

#include "fastlic/codes/kernels.hpp"
#include "fastlic/errors.hpp"
#include "fastlic/load_once.hpp"
#include "fastlic/memory.hpp"
#include "fastlic/nn/kernels.hpp"
#include "fastlic/parallel.hpp"
#include "fastlic/progress.hpp"
#include "fastlic/rans64.hpp"

namespace fastlic::codes {
namespace {

// Positions whose sums are taken together: whole blocks of the kernels' rows, and logits that stay in the L2 cache.
constexpr std::size_t kBatch = 14;

struct Interval {
  std::uint32_t start, frequency;
};

// Frequencies of one word after another, from its logits.
class Shares {
 public:
  Shares(const Model& model, const Kernels& kernels)
      : model_(model),
        kernels_(kernels),
        weights_(padded(model.words)),
        shares_(weights_.size()),
        sums_(weights_.size() / kPanel) {}

  // logits: [padded words]. A word's frequency is 1 + its share.
  void take(const std::int32_t* logits) {
    const std::size_t count = weights_.size();
    const unsigned shift = kProductBits - model_.precision;
    const std::uint64_t left = (std::uint64_t{1} << model_.precision) - model_.words;
    const Peak peak = kernels_.peak(logits, count);
    // At least 2^20, the peak's own weight: rate < 2^52 / 2^20.
    const std::uint64_t sum = kernels_.weigh(logits, count, peak.logit, model_.table.data(), weights_.data());
    const auto rate = static_cast<std::uint32_t>((left << shift) / sum);
    const std::uint32_t given = kernels_.share(weights_.data(), count, rate, shift, shares_.data(), sums_.data());
    const std::uint32_t rest = static_cast<std::uint32_t>(left) - given;
    shares_[peak.word] += rest;
    sums_[peak.word / kPanel] += rest;
  }

  Interval of(std::size_t word) const {
    auto start = static_cast<std::uint32_t>(word);
    for (std::size_t i = 0; i < word / kPanel; ++i) start += sums_[i];
    for (std::size_t i = word / kPanel * kPanel; i < word; ++i) start += shares_[i];
    return {start, 1 + shares_[word]};
  }

  // The word whose interval holds code < 2^precision.
  std::size_t find(std::uint32_t code, Interval& interval) const {
    std::uint32_t start = 0;
    std::size_t word = 0;
    for (std::size_t block = 0; word + kPanel < model_.words; ++block, word += kPanel) {
      const std::uint32_t end = start + kPanel + sums_[block];
      if (end > code) break;
      start = end;
    }
    while (start + 1 + shares_[word] <= code) start += 1 + shares_[word++];
    interval = {start, 1 + shares_[word]};
    return word;
  }

 private:
  const Model& model_;
  const Kernels& kernels_;
  Buffer<std::uint32_t> weights_, shares_;
  Buffer<std::uint32_t> sums_;  // of kPanel shares each
};

// The networks over one image. `codes` may be written by whoever decodes them.
class Networks {
 public:
  Networks(const Model& model, const std::int32_t* codes, Size size)
      : model_(model),
        codes_(codes),
        size_(size),
        engine_(nn::kernels(active_isa())),
        own_stride_(model.groups * model.depth) {
    const std::size_t own = model.groups * model.depth;
    above_stride_ = model.above.size() * own + 1;  // depths are rounded up to even ones
    beside_stride_ = (model.beside.size() + 1) * own + 1;
    above_.assign(kBatch * above_stride_, 0);
    beside_.assign(kBatch * beside_stride_, 0);
    above_sums_.resize(kBatch * model.groups * model.width);
    second_columns_ = model.of[0].second.columns();
    logits_stride_ = padded(model.words);
    sums_.resize(kBatch * std::max({model.width, second_columns_, logits_stride_}));
    first_.resize(kBatch * model.width);
    second_.resize(kBatch * second_columns_);
  }

  // Positions (row, column) to (row, column + count - 1): what earlier rows add to the first layers.
  void look_above(std::size_t row, std::size_t column, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      copy_words(model_.above, row, column + i, &above_[i * above_stride_]);
      start_[i] = model_.first_bias.data();
    }
    multiply(above_.data(), above_stride_, count, model_.of_above, above_sums_.data());
  }

  // Words beside position `at` of those `look_above` saw; all of the same row must be known.
  void look_beside(std::size_t row, std::size_t column, std::size_t at) {
    copy_words(model_.beside, row, column, &beside_[at * beside_stride_]);
  }

  // A word of position `at`, for the groups that follow.
  void know(std::size_t at, std::size_t group, std::uint32_t word) {
    std::int16_t* out = &beside_[at * beside_stride_] + model_.beside.size() * own_stride_ + group * model_.depth;
    std::copy_n(model_.embedding(group, word), model_.depth, out);
  }

  // Logits of `count` positions from `at` on, [count][padded words].
  const std::int32_t* logits(std::size_t group, std::size_t at, std::size_t count) {
    const Group& g = model_.of[group];
    for (std::size_t i = 0; i < count; ++i) {
      start_[i] = &above_sums_[((at + i) * model_.groups + group) * model_.width];
    }
    multiply(&beside_[at * beside_stride_], beside_stride_, count, g.beside, sums_.data());
    requantise(g.requantiser, model_.width, count, first_.data());
    dense(first_.data(), model_.width, count, g.second);
    requantise(g.second.parts[0].requantiser, second_columns_, count, second_.data());
    dense(second_.data(), second_columns_, count, g.last);
    for (std::size_t i = 0; i < count; ++i) {
      std::int32_t* row = &sums_[i * logits_stride_];
      engine_.requantise32(row, g.last.parts[0].requantiser, {0, logits_stride_}, row);
      std::fill(row + model_.words, row + logits_stride_, kNever);
    }
    return sums_.data();
  }

  std::size_t logits_stride() const noexcept { return logits_stride_; }

 private:
  void copy_words(const Vector<Offset>& offsets, std::size_t row, std::size_t column, std::int16_t* out) const {
    const std::size_t plane = size_.height * size_.width;
    for (const Offset& offset : offsets) {
      const std::size_t y = row + static_cast<std::size_t>(offset.row);  // wraps around where it lies outside
      const std::size_t x = column + static_cast<std::size_t>(offset.column);
      const bool inside = y < size_.height && x < size_.width;
      for (std::size_t group = 0; group < model_.groups; ++group, out += model_.depth) {
        // Codes may change under our hands: what is no word counts as one outside.
        const auto words = static_cast<std::uint32_t>(model_.words);
        const auto word =
            inside ? static_cast<std::uint32_t>(load_once(&codes_[group * plane + y * size_.width + x])) : words;
        std::copy_n(model_.embedding(group, std::min(word, words)), model_.depth, out);
      }
    }
  }

  void multiply(const std::int16_t* a, std::size_t stride, std::size_t count, const PackedMatrix& weights,
                std::int32_t* out) const {
    engine_.multiply(nn::job_of(a, stride, count, weights, start_.data(), out));
  }

  void dense(const std::int16_t* a, std::size_t stride, std::size_t count, const Layer& layer) {
    std::fill_n(start_.begin(), count, layer.parts[0].bias.data());
    multiply(a, stride, count, layer.parts[0].weights, sums_.data());
  }

  void requantise(const Requantiser& requantiser, std::size_t columns, std::size_t count, std::int16_t* out) const {
    for (std::size_t i = 0; i < count; ++i) {
      engine_.requantise16(&sums_[i * columns], requantiser, {0, columns}, out + i * columns);
    }
  }

  const Model& model_;
  const std::int32_t* codes_;
  Size size_;
  const nn::Kernels& engine_;
  std::size_t own_stride_, above_stride_, beside_stride_, second_columns_, logits_stride_;
  Buffer<std::int16_t> above_, beside_, first_, second_;
  Buffer<std::int32_t> above_sums_, sums_;
  std::array<const std::int32_t*, kBatch> start_{};
};

// each(position, group, interval) for codes that are all known, by several threads at once. `work`: what Progress is
// told of all codes.
template <typename Each>
void for_intervals(const Model& model, const std::int32_t* codes, Size size, unsigned threads, double work,
                   const Each& each) {
  const std::size_t plane = size.height * size.width;
  const auto checked = [&](std::size_t i) {
    const auto word = static_cast<std::uint32_t>(load_once(&codes[i]));
    if (word >= model.words) {
      throw InvalidArgument("code " + to_string(static_cast<std::int32_t>(word)) + " at " + to_string(i) +
                            " is not in 0.." + to_string(model.words - 1));
    }
    return word;
  };
  for (std::size_t i = 0; i < model.groups * plane; ++i) checked(i);
  const std::size_t team = thread_count(threads, size.height);
  const std::size_t jobs = std::min(size.height, team > 1 ? 4 * team : 1);
  const double of_row = work * static_cast<double>(team) / static_cast<double>(size.height);
  parallel_for(jobs, threads, [&](std::size_t job) {
    Networks networks(model, codes, size);
    Shares shares(model, kernels(active_isa()));
    const std::size_t end = size.height * (job + 1) / jobs * size.width;
    for (std::size_t first = size.height * job / jobs * size.width; first < end;) {
      const std::size_t row = first / size.width, column = first % size.width;
      const std::size_t count = std::min(kBatch, size.width - column);
      networks.look_above(row, column, count);
      for (std::size_t i = 0; i < count; ++i) networks.look_beside(row, column + i, i);
      for (std::size_t group = 0; group < model.groups; ++group) {
        const std::int32_t* logits = networks.logits(group, 0, count);
        for (std::size_t i = 0; i < count; ++i) {
          const std::uint32_t word = checked(group * plane + first + i);
          shares.take(logits + i * networks.logits_stride());
          each(first + i, group, shares.of(word));
          networks.know(i, group, word);
        }
      }
      first += count;
      // This thread counts its own rows, and stands for all.
      if (column + count == size.width) Progress::done(of_row);
    }
  });
}

// word = choose(position, group, logits) of every code in coding order, where each is known to those behind it.
// `work`: what Progress is told of all.
template <typename Choose>
void one_by_one(const Model& model, Size size, std::int32_t* out, double work, const Choose& choose) {
  const std::size_t plane = size.height * size.width;
  Networks networks(model, out, size);
  for (std::size_t position = 0, seen = 0, first = 0; position < plane; ++position) {
    const std::size_t row = position / size.width, column = position % size.width;
    if (position == seen) {
      const std::size_t count = std::min(kBatch, size.width - column);
      networks.look_above(row, column, count);
      first = position;
      seen += count;
    }
    const std::size_t at = position - first;
    networks.look_beside(row, column, at);
    for (std::size_t group = 0; group < model.groups; ++group) {
      const auto word = static_cast<std::uint32_t>(choose(position, group, networks.logits(group, at, 1)));
      out[group * plane + position] = static_cast<std::int32_t>(word);
      networks.know(at, group, word);
    }
    if (column + 1 == size.width) Progress::done(work / static_cast<double>(size.height));
  }
}

// The word of least cost. words: [count][channels]; logits: [count].
std::size_t cheapest(const float* vector, const float* words, double price, const std::int32_t* logits,
                     std::size_t count, std::size_t channels) {
  const std::int32_t peak = *std::max_element(logits, logits + count);
  const double unit = price / (1 << kLogitFraction);
  double least = std::numeric_limits<double>::infinity();
  std::size_t best = 0;
  for (std::size_t word = 0; word < count; ++word, words += channels) {
    double distance = 0;
    for (std::size_t i = 0; i < channels; ++i) {
      const double difference = static_cast<double>(vector[i]) - static_cast<double>(words[i]);
      distance += difference * difference;
    }
    const double cost = distance + unit * (peak - logits[word]);
    if (cost < least) {
      least = cost;
      best = word;
    }
  }
  return best;
}

}  // namespace

Vector<std::uint8_t> Context::encode(const std::int32_t* codes, Size size, unsigned threads, double work) const {
  nn::require_addresses(size.height, size.width, model_.groups, sizeof(Interval));
  const std::size_t groups = model_.groups, count = groups * size.height * size.width;
  Vector<Interval> intervals(count);
  for_intervals(model_, codes, size, threads, work,
                [&](std::size_t position, std::size_t group, const Interval& interval) {
                  intervals[position * groups + group] = interval;
                });
  WordBuffer words(4 * count + 64);
  Rans64Encoder out{kState64Low, words.next()};
  for (std::size_t i = count; i-- > 0;) {
    const auto [start, frequency] = intervals[i];
    out.put(start, frequency, Reciprocal(frequency), model_.precision);
  }
  words.written_down_to(out.next);
  return rans64_stream(out.state, words);
}

void Context::frequencies(const std::int32_t* codes, Size size, std::uint32_t* out, unsigned threads) const {
  const std::size_t plane = size.height * size.width;
  for_intervals(model_, codes, size, threads, 0,
                [&](std::size_t position, std::size_t group, const Interval& interval) {
                  out[group * plane + position] = interval.frequency;
                });
}

void Context::decode(const std::uint8_t* data, std::size_t bytes, Size size, std::int32_t* out, double work) const {
  nn::require_addresses(size.height, size.width, model_.groups, sizeof(*out));
  Rans64Decoder in(data, bytes);
  Shares shares(model_, kernels(active_isa()));
  one_by_one(model_, size, out, work, [&](std::size_t, std::size_t, const std::int32_t* logits) {
    shares.take(logits);
    const std::uint64_t code = in.code(model_.precision);
    Interval interval;
    const std::size_t word = shares.find(static_cast<std::uint32_t>(code), interval);
    in.take(code - interval.start, interval.frequency, model_.precision);
    return word;
  });
  in.finish();
}

void Context::choose(const Costs& costs, Size size, std::int32_t* out) const {
  nn::require_addresses(size.height, size.width, model_.groups, sizeof(*out));
  const std::size_t groups = model_.groups, words = model_.words, channels = costs.channels;
  one_by_one(model_, size, out, 0, [&](std::size_t position, std::size_t group, const std::int32_t* logits) {
    const std::size_t place = position * groups + group;
    return cheapest(costs.vectors + place * channels, costs.words + group * words * channels, costs.prices[place],
                    logits, words, channels);
  });
}

}  // namespace fastlic::codes

#include "fastlic/attention/attention.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "fastlic/memory.hpp"
#include "fastlic/parallel.hpp"

namespace fastlic::attention {
namespace {

constexpr std::int64_t kWideLimit = (std::int64_t{1} << 20) - 1;
constexpr unsigned kNormBits = 8;
constexpr std::size_t kRun = 32;  // 32 products of 15 and 11 bits fit int32
static_assert(std::int64_t{kRun} * kWeight * kActivation < (std::int64_t{1} << 31));

// Rounding towards minus infinity, b > 0.
std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
  const std::int64_t q = a / b;
  return q - (a % b < 0 ? 1 : 0);
}

// The same for |a| < 2^53: a quotient that is not whole stays further from the next whole number than double rounds.
std::int64_t floor_quotient(std::int64_t a, std::int64_t b) {
  const double quotient = static_cast<double>(a) / static_cast<double>(b);
  const auto whole = static_cast<std::int64_t>(quotient);
  return whole - (static_cast<double>(whole) > quotient ? 1 : 0);
}

std::int64_t square_root(std::int64_t x) {
  auto root = static_cast<std::int64_t>(std::sqrt(static_cast<double>(x)));
  while (root * root > x) --root;
  while ((root + 1) * (root + 1) <= x) ++root;
  return root;
}

// functions.normalise of one row.
template <typename T>
void normalise(const T* x, std::size_t channels, std::int64_t epsilon, std::int16_t* out) {
  const auto c = static_cast<std::int64_t>(channels);
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < channels; ++i) sum += std::clamp<std::int64_t>(x[i], -kWideLimit, kWideLimit);
  std::int64_t squares = 0;
  for (std::size_t i = 0; i < channels; ++i) {
    const std::int64_t distance = std::clamp<std::int64_t>(x[i], -kWideLimit, kWideLimit) * c - sum;
    squares += distance * distance;
  }
  const std::int64_t root = square_root((squares / c + epsilon) << 8);
  for (std::size_t i = 0; i < channels; ++i) {
    const std::int64_t distance = std::clamp<std::int64_t>(x[i], -kWideLimit, kWideLimit) * c - sum;
    const std::int64_t scaled = floor_quotient(distance * (1 << (kNormBits + 5)) + root, 2 * root);
    out[i] = static_cast<std::int16_t>(std::clamp<std::int64_t>(scaled, -kActivation, kActivation));
  }
}

std::int32_t exp_of(const Tables& tables, std::int64_t distance) {
  return tables.exp[static_cast<std::size_t>(std::min<std::int64_t>(distance, tables.last))];
}

using Positions = Vector<std::size_t>;

// Which positions ask, which are asked about, and of what map.
struct Question {
  latents::Region to, at;
  nn::MapSize size;

  Positions queries(nn::Rows rows) const { return to.list(rows.first, rows.last, size.width); }
  Positions keys(nn::Rows rows) const { return at.list(rows.first, rows.last, size.width); }
  std::size_t key_count() const { return at.positions(size.height, size.width); }
};

// Keys normalised over positions, queries over the channels of a head. Weights are relative to the highest scores, so
// all keys come before the first value.
class Linear {
 public:
  // keys: of each key in raster order, `stride` apart.
  Linear(const Attention& net, const Question& question, std::int16_t* keys, std::size_t stride, const Tools& tools)
      : net_(net),
        question_(question),
        tools_(tools),
        dims_(net.channels / net.heads),
        stride_(padded(dims_)),
        kept_(keys),
        kept_stride_(stride),
        highest_(net.channels, -kScore - 1),
        totals_(net.channels),
        sums_(net.channels * stride_),
        context_(net.channels * stride_) {}

  void keys(nn::Rows rows, const Source& k) {
    const Positions at = question_.keys(rows);
    parallel_for(net_.heads, tools_.team, [&](std::size_t head) {
      const std::size_t first = head * dims_;
      std::int32_t* highest = &highest_[first];
      std::int16_t* kept = kept_ + keys_ * kept_stride_ + first;
      for (const std::size_t position : at) {
        const std::int16_t* row = k.at(position) + first;
        for (std::size_t c = 0; c < dims_; ++c) highest[c] = std::max<std::int32_t>(highest[c], row[c]);
        std::copy_n(row, dims_, kept);
        kept += kept_stride_;
      }
    });
    keys_ += at.size();
  }

  void values(nn::Rows rows, const Source& v) {
    const Positions at = question_.keys(rows);
    const std::size_t runs = (at.size() + kRun - 1) / kRun;
    parallel_for(net_.heads, tools_.team, [&](std::size_t head) {
      const std::size_t first = head * dims_;
      const std::int32_t* highest = &highest_[first];
      const std::int16_t* kept = kept_ + values_ * kept_stride_ + first;
      std::int64_t *totals = &totals_[first], *sums = &sums_[first * stride_];
      // One run of keys after the other: weights [channel of k][key] times values [key][channel of v].
      Buffer<std::int16_t> weights(dims_ * kRun);
      Buffer<std::int32_t> products(dims_ * stride_);
      nn::WideMatrix values(kRun, dims_);
      const Vector<std::int32_t> zeros(stride_);
      const Vector<const std::int32_t*> start(dims_, zeros.data());
      for (std::size_t run = 0; run < runs; ++run) {
        const std::size_t begin = run * kRun, count = std::min(kRun, at.size() - begin);
        if (count < kRun) std::fill(weights.begin(), weights.end(), std::int16_t{0});
        for (std::size_t i = 0; i < count; ++i) {
          const std::int16_t* row = kept + (begin + i) * kept_stride_;
          const std::int16_t* value = v.at(at[begin + i]) + first;
          for (std::size_t c = 0; c < dims_; ++c) {
            const std::int32_t weight = exp_of(tools_.tables, highest[c] - row[c]);
            weights[c * kRun + i] = static_cast<std::int16_t>(weight);
            totals[c] += weight;
            values.set(i, c, value[c]);
          }
        }
        tools_.kernels.multiply_wide(
            {weights.data(), kRun, dims_, values.data.data(), kRun, stride_, start.data(), products.data(), stride_});
        for (std::size_t n = 0; n < products.size(); ++n) sums[n] += products[n];
      }
    });
    values_ += at.size();
  }

  // In units of 2^-8 of the values'; exact in double.
  void finish() {
    for (std::size_t c = 0; c < net_.channels; ++c) {
      for (std::size_t n = c * stride_; n < c * stride_ + dims_; ++n) {
        context_[n] = static_cast<double>(floor_divide(sums_[n] * (2 << kValueBits) + totals_[c], 2 * totals_[c]));
      }
    }
  }

  void queries(nn::Rows rows, const Source& q, const Target& out) const {
    const Positions to = question_.queries(rows);
    constexpr std::size_t kRows = 64;
    parallel_for((to.size() + kRows - 1) / kRows, tools_.team, [&](std::size_t chunk) {
      Vector<std::int16_t> weights(dims_);
      Vector<std::int64_t> means(stride_);
      Vector<std::int32_t> row(padded(net_.channels));
      for (std::size_t i = chunk * kRows; i < std::min(to.size(), (chunk + 1) * kRows); ++i) {
        const std::int16_t* scores = q.at(to[i]);
        for (std::size_t head = 0; head < net_.heads; ++head) {
          const std::int16_t* own = scores + head * dims_;
          const std::int32_t highest = *std::max_element(own, own + dims_);
          std::int64_t total = 0;
          for (std::size_t c = 0; c < dims_; ++c) {
            const std::int32_t weight = exp_of(tools_.tables, highest - own[c]);
            weights[c] = static_cast<std::int16_t>(weight);
            total += weight;
          }
          tools_.own.apply(weights.data(), &context_[head * dims_ * stride_], dims_, total, means.data());
          for (std::size_t d = 0; d < dims_; ++d) row[head * dims_ + d] = static_cast<std::int32_t>(means[d]);
        }
        tools_.kernels.requantise16(row.data(), net_.attended, {0, row.size()}, out.at(to[i]));
      }
    });
  }

 private:
  const Attention& net_;
  const Question& question_;
  const Tools& tools_;
  std::size_t dims_, stride_;
  std::int16_t* kept_;
  std::size_t kept_stride_, keys_ = 0, values_ = 0;
  Vector<std::int32_t> highest_;        // of each channel of keys
  Vector<std::int64_t> totals_, sums_;  // [channel of k], and times [channel of v]
  Vector<double> context_;              // the same
};

Score score_of(const Requantiser& requantiser, std::size_t head) {
  return {requantiser.multiplier[head], requantiser.negative[head], requantiser.shift[head], requantiser.limit};
}

constexpr std::int32_t kLeftOut = -(1 << 24);

// Lowers the scores of anchors near a position, unless there are no others; scores lie in raster order of the anchors.
bool leave_out_near(std::size_t position, std::size_t keys, std::size_t height, std::size_t width,
                    std::int32_t* scores) {
  const std::size_t row = position / width, column = position % width;
  std::array<std::size_t, (2 * kLocalReach + 1) * (2 * kLocalReach + 1)> near{};
  std::size_t count = 0;
  for (std::size_t r = row - std::min(row, kLocalReach); r <= std::min(row + kLocalReach, height - 1); ++r) {
    const std::size_t before = kAnchors.before(r, width);
    for (std::size_t c = column - std::min(column, kLocalReach); c <= std::min(column + kLocalReach, width - 1); ++c) {
      if ((r + c) % 2 == 1) near[count++] = before + (c - kAnchors.first(r)) / 2;
    }
  }
  if (count == keys) return false;
  for (std::size_t n = 0; n < count; ++n) scores[near[n]] = kLeftOut;
  return true;
}

// Weights exp(q k): blocks of queries see all keys, a block of scores is all that is ever held. `masked`: keys near a
// query are left out.
class Softmax {
 public:
  Softmax(const Attention& net, const Question& question, bool masked, const Tools& tools)
      : net_(net),
        question_(question),
        tools_(tools),
        masked_(masked),
        dims_(net.channels / net.heads),
        depth_(dims_ + dims_ % 2),
        count_(question.key_count()),
        runs_((count_ + kRun - 1) / kRun) {
    for (std::size_t head = 0; head < net.heads; ++head) {
      keys_.emplace_back(depth_, count_);
      values_.emplace_back(runs_ * kRun, dims_);
    }
  }

  void keys(nn::Rows rows, const Source& k) {
    seen_ = pack(rows, k, seen_, [&](std::size_t head, std::size_t j, std::size_t d, std::int16_t value) {
      keys_[head].set(d, j, value);
    });
  }

  void values(nn::Rows rows, const Source& v) {
    known_ = pack(rows, v, known_, [&](std::size_t head, std::size_t j, std::size_t d, std::int16_t value) {
      values_[head].set(j, d, value);
    });
  }

  void finish() {}

  void queries(nn::Rows rows, const Source& q, const Target& out) const {
    const Positions to = question_.queries(rows);
    constexpr std::size_t kRows = 14;           // one block of the multiplication
    constexpr std::size_t kSoftened = 1 << 15;  // weights whose sum surely fits int32
    const std::size_t columns = padded(count_), value_columns = padded(dims_), size = runs_ * kRun;
    const Vector<std::int32_t> zeros(std::max(columns, value_columns));
    for (std::size_t head = 0; head < net_.heads; ++head) {
      const std::size_t first = head * dims_;
      const Score score = score_of(net_.score, head);
      parallel_for((to.size() + kRows - 1) / kRows, tools_.team, [&](std::size_t chunk) {
        const std::size_t begin = chunk * kRows, count = std::min(kRows, to.size() - begin);
        Buffer<std::int16_t> queries(count * depth_), weights(count * size);
        Buffer<std::int32_t> scores(count * columns), sums(count * value_columns);
        Vector<std::int64_t> totals(count), means(count * dims_);
        const std::int32_t* start[kRows];
        std::fill_n(start, count, zeros.data());
        for (std::size_t i = 0; i < count; ++i) {
          std::memcpy(&queries[i * depth_], q.at(to[begin + i]) + first, dims_ * sizeof queries[0]);
        }
        tools_.kernels.multiply_wide(
            {queries.data(), depth_, count, keys_[head].data.data(), depth_, columns, start, scores.data(), columns});
        for (std::size_t i = 0; i < count; ++i) {
          std::int32_t* row = &scores[i * columns];
          std::int32_t highest = tools_.own.score(row, columns, score);
          const bool left_out =
              masked_ && leave_out_near(to[begin + i], count_, question_.size.height, question_.size.width, row);
          // What is left out, or behind the last key, is too far below any score to weigh anything.
          std::fill(row + count_, row + columns, kLeftOut);
          if (left_out || columns != count_) highest = *std::max_element(row, row + count_);
          for (std::size_t key = 0; key < columns; key += kSoftened) {
            totals[i] += tools_.own.soften(row + key, std::min(kSoftened, columns - key), highest, tools_.tables,
                                           &weights[i * size + key]);
          }
        }
        for (std::size_t run = 0; run < runs_; ++run) {
          // A run of the packed values is not contiguous over panels; each panel's piece is.
          for (std::size_t panel = 0; panel < value_columns; panel += kPanel) {
            tools_.kernels.multiply_wide({&weights[run * kRun], size, count,
                                          &values_[head].data[values_[head].offset(run * kRun, panel)], kRun, kPanel,
                                          start, sums.data(), kPanel});
            for (std::size_t i = 0; i < count; ++i) {
              for (std::size_t d = panel; d < std::min(dims_, panel + kPanel); ++d) {
                means[i * dims_ + d] += sums[i * kPanel + d - panel];
              }
            }
          }
        }
        for (std::size_t i = 0; i < count; ++i) {
          // Heads share a row: each writes its own channels.
          std::int16_t* to_row = out.at(to[begin + i]) + first;
          for (std::size_t d = 0; d < dims_; ++d) {
            const std::int64_t mean = floor_divide(means[i * dims_ + d] * (2 << kValueBits) + totals[i], 2 * totals[i]);
            const Requantiser& r = net_.attended;
            const std::int64_t scaled =
                (mean * (mean >= 0 ? r.multiplier[first + d] : r.negative[first + d]) + r.rounding[first + d]) >>
                r.shift[first + d];
            to_row[d] = static_cast<std::int16_t>(std::clamp<std::int64_t>(scaled, -r.limit, r.limit));
          }
        }
      });
    }
  }

 private:
  // set(head, key, channel of the head, value) for keys from `first` on; returns the next one.
  template <typename Set>
  std::size_t pack(nn::Rows rows, const Source& from, std::size_t first, const Set& set) {
    for (const std::size_t position : question_.keys(rows)) {
      const std::int16_t* row = from.at(position);
      for (std::size_t c = 0; c < net_.channels; ++c) set(c / dims_, first, c % dims_, row[c]);
      ++first;
    }
    return first;
  }

  const Attention& net_;
  const Question& question_;
  const Tools& tools_;
  bool masked_;
  std::size_t dims_, depth_, count_, runs_;
  Vector<nn::WideMatrix> keys_, values_;  // of each head
  std::size_t seen_ = 0, known_ = 0;
};

// Keys, values, and queries with all that follows them, which give `out`.
void attend(const Attention& net, bool linear, bool masked, const Question& question, nn::Ends key, nn::Ends value,
            nn::Ends query, const Target& out, const std::optional<Target>& room, Workspace& work, const Tools& tools) {
  const auto with = [&](auto kind) {
    key.take = [&](nn::Rows rows, const Source& k) { kind.keys(rows, k); };
    nn::run(net.key, question.size, key, tools);
    value.take = [&](nn::Rows rows, const Source& v) { kind.values(rows, v); };
    nn::run(net.value, question.size, value, tools);
    kind.finish();
    query.make = [&](nn::Rows rows, const Source& q, const Target& attended) {
      std::int16_t* begin = attended.at(rows.first, 0);  // zero where nobody asks, and behind the last channel
      std::fill_n(begin, (rows.last - rows.first) * attended.width * attended.stride, std::int16_t{0});
      kind.queries(rows, q, attended);
    };
    query.to = out;
    nn::run(net.query, question.size, query, tools);
  };
  if (!linear) return with(Softmax(net, question, masked, tools));
  const std::size_t stride = room ? room->stride : net.channels;
  with(Linear(net, question, room ? room->data : work.kept(question.key_count() * stride), stride, tools));
}

nn::Ends whole(const Source& x) {
  nn::Ends ends;
  ends.from = x;
  return ends;
}

// A map with one colour's positions, the others zero.
nn::Ends coloured(const Source& x, latents::Colour colour, const Tools& tools) {
  nn::Ends ends;
  ends.feed = [x, colour, &tools](nn::Rows rows, const Target& to) {
    parallel_for(rows.last - rows.first, tools.team, [&](std::size_t i) {
      const std::size_t r = rows.first + i;
      for (std::size_t c = 0; c < to.width; ++c) {
        if (c % 2 == colour.first(r)) {
          std::copy_n(x.at(r, c), to.stride, to.at(r, c));
        } else {
          std::fill_n(to.at(r, c), to.stride, std::int16_t{0});
        }
      }
    });
  };
  return ends;
}

}  // namespace

void inter_context(const Attention& net, bool linear, const Source& decoded, const Target& out,
                   const std::optional<Target>& room, Workspace& work, const Tools& tools) {
  const Question all{{}, {}, {decoded.height, decoded.width}};
  attend(net, linear, false, all, whole(decoded), whole(decoded), whole(decoded), out, room, work, tools);
}

void intra_context(const Attention& net, bool linear, const Source& previous, const Source& current, const Target& out,
                   Workspace& work, const Tools& tools) {
  const latents::Colour others = kAnchors.other();
  const Question question{
      latents::Region::of(others), latents::Region::of(kAnchors), {previous.height, previous.width}};
  attend(net, linear, true, question, coloured(previous, kAnchors, tools), whole(current),
         coloured(previous, others, tools), out, std::nullopt, work, tools);
}

void local_context(const LocalAttention& net, const Latents& latent, const Target& out, Workspace& work,
                   const Tools& tools) {
  const std::size_t h = out.height, w = out.width, c = latent.channels, block = padded(c);
  const std::size_t dims = c / kLocalHeads;
  // Queries, keys and values of every anchor, head by head: channels enter the heads interleaved. Everything else is
  // zero before the layer norm and after it: one row serves all of it.
  const std::size_t stride = (dims + 15) / 16 * 16, row_size = kLocalHeads * 3 * stride;
  const std::size_t line = (w + 1) / 2;  // at least the anchors of a row
  std::int16_t* const kept = work.kept(h * line * row_size);
  const auto qkv = [&](std::size_t y, std::size_t x) { return kept + (y * line + x / 2) * row_size; };
  Buffer<std::int16_t> common(row_size), none(row_size);
  const auto arrange = [&](const std::int16_t* from, std::int16_t* to) {
    for (std::size_t head = 0; head < kLocalHeads; ++head) {
      for (std::size_t part = 0; part < 3; ++part) {
        std::int16_t* row = to + (head * 3 + part) * stride;
        for (std::size_t d = 0; d < dims; ++d) row[d] = from[part * c + kLocalHeads * d + head];
        std::fill(row + dims, row + stride, std::int16_t{0});
      }
    }
  };
  {
    const std::size_t wide = net.qkv.columns();
    Buffer<std::int16_t> normal((w / 2 + 1) * block), mixed((w / 2 + 1) * wide);
    apply(net.qkv, normal.data(), block, 1, mixed.data(), wide, tools);  // of zeros
    arrange(mixed.data(), common.data());
    for (std::size_t r = 0; r < h; ++r) {
      const std::size_t first = kAnchors.first(r), count = kAnchors.count(r, w);
      for (std::size_t i = 0; i < count; ++i) {
        normalise(latent.data + (r * w + first + 2 * i) * latent.stride, c, net.epsilon[0], &normal[i * block]);
      }
      apply(net.qkv, normal.data(), block, count, mixed.data(), wide, tools);
      for (std::size_t i = 0; i < count; ++i) arrange(&mixed[i * wide], qkv(r, first + 2 * i));
    }
  }
  const std::size_t outputs = net.proj.outputs, columns = net.proj.columns();
  parallel_for(h, tools.team, [&](std::size_t r) {
    const latents::Colour others = kAnchors.other();
    const std::size_t first = others.first(r), count = others.count(r, w);
    Buffer<std::int16_t> windows(count * kTokens * block);
    Buffer<std::int32_t> attended(kTokens * block);
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t column = first + 2 * i;
      const std::int16_t* tokens[kTokens];
      std::uint32_t anchors = 0;
      for (std::size_t t = 0; t < kTokens; ++t) {
        const std::size_t y = r + t / kWindow - kWindow / 2, x = column + t % kWindow - kWindow / 2;  // wrap to large
        const bool inside = y < h && x < w, anchor = inside && (y + x) % 2 == 1;
        tokens[t] = anchor ? qkv(y, x) : inside ? common.data() : none.data();
        if (anchor) anchors |= 1u << t;
      }
      // Channels leave the heads one after the other; what a head writes behind its own, the next one overwrites.
      for (std::size_t head = 0; head < kLocalHeads; ++head) {
        const std::size_t own = head * 3 * stride;
        Window window{{},      common.data() + own,       dims, stride, &net.bias[head * kTokens * kPanel],
                      anchors, score_of(net.score, head), block};
        for (std::size_t t = 0; t < kTokens; ++t) window.tokens[t] = tokens[t] + own;
        tools.own.window(window, tools.tables, &attended[head * dims]);
      }
      for (std::size_t t = 0; t < kTokens; ++t) {
        tools.kernels.requantise16(&attended[t * block], net.attended, {0, block}, &windows[(i * kTokens + t) * block]);
      }
    }
    const std::size_t wide = net.fusion.columns();  // its outputs may be more than what proj makes of them
    Buffer<std::int16_t> fused(count * wide), x(count * columns), normal(count * columns);
    Buffer<std::int16_t> hidden(count * net.mlp_in.columns()), residue(count * columns);
    Buffer<std::int32_t> sums(columns);
    apply(net.fusion, windows.data(), kTokens * block, count, fused.data(), wide, tools);
    apply(net.proj, fused.data(), wide, count, x.data(), columns, tools);
    for (std::size_t i = 0; i < count; ++i) normalise(&x[i * columns], outputs, net.epsilon[1], &normal[i * columns]);
    apply(net.mlp_in, normal.data(), columns, count, hidden.data(), net.mlp_in.columns(), tools);
    apply(net.mlp_out, hidden.data(), net.mlp_in.columns(), count, residue.data(), columns, tools);
    for (std::size_t i = 0; i < count; ++i) {
      for (std::size_t o = 0; o < columns; ++o) sums[o] = x[i * columns + o] + residue[i * columns + o];
      tools.kernels.requantise16(sums.data(), net.output, {0, columns}, out.at(r, first + 2 * i));
    }
  });
}

}  // namespace fastlic::attention

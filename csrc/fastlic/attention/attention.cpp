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

// Requantises a row of means [channels] that came as int32, padded with zeros.
void attend_row(const Requantiser& attended, std::int32_t* means, std::int16_t* out, const Tools& tools) {
  tools.kernels.requantise16(means, attended, {0, padded(attended.channels)}, out);
}

using Positions = Vector<std::size_t>;

// Keys normalised over positions, queries over the channels of a head.
void attend_linear(const Attention& net, const Source& q, const Source& k, const Source& v, const Positions& to,
                   const Positions& at, const Target& out, const Tools& tools) {
  const std::size_t dims = net.channels / net.heads, keys = at.size();
  const std::size_t stride = padded(dims), runs = (keys + kRun - 1) / kRun;
  // [channel of k][channel of v], in units of 2^-8 of the values'; exact in double
  Vector<double> context(net.heads * dims * stride);
  parallel_for(net.heads, tools.team, [&](std::size_t head) {
    const std::size_t first = head * dims;
    Vector<std::int32_t> highest(dims, -kScore - 1);
    for (const std::size_t position : at) {
      const std::int16_t* row = k.at(position) + first;
      for (std::size_t c = 0; c < dims; ++c) highest[c] = std::max<std::int32_t>(highest[c], row[c]);
    }
    Vector<std::int64_t> totals(dims), sums(dims * stride);
    // One run of keys after the other: weights [channel of k][key] times values [key][channel of v].
    Buffer<std::int16_t> weights(dims * kRun);
    Buffer<std::int32_t> products(dims * stride);
    nn::WideMatrix values(kRun, dims);
    const Vector<std::int32_t> zeros(stride);
    const Vector<const std::int32_t*> start(dims, zeros.data());
    for (std::size_t run = 0; run < runs; ++run) {
      const std::size_t begin = run * kRun, count = std::min(kRun, keys - begin);
      if (count < kRun) std::fill(weights.begin(), weights.end(), std::int16_t{0});
      for (std::size_t i = 0; i < count; ++i) {
        const std::int16_t* row = k.at(at[begin + i]) + first;
        const std::int16_t* value = v.at(at[begin + i]) + first;
        for (std::size_t c = 0; c < dims; ++c) {
          const std::int32_t weight = exp_of(tools.tables, highest[c] - row[c]);
          weights[c * kRun + i] = static_cast<std::int16_t>(weight);
          totals[c] += weight;
          values.set(i, c, value[c]);
        }
      }
      tools.kernels.multiply_wide(
          {weights.data(), kRun, dims, values.data.data(), kRun, stride, start.data(), products.data(), stride});
      for (std::size_t n = 0; n < products.size(); ++n) sums[n] += products[n];
    }
    for (std::size_t c = 0; c < dims; ++c) {
      for (std::size_t d = 0; d < dims; ++d) {
        const std::int64_t mean = floor_divide(sums[c * stride + d] * (2 << kValueBits) + totals[c], 2 * totals[c]);
        context[(head * dims + c) * stride + d] = static_cast<double>(mean);
      }
    }
  });
  constexpr std::size_t kRows = 64;
  parallel_for((to.size() + kRows - 1) / kRows, tools.team, [&](std::size_t chunk) {
    Vector<std::int16_t> weights(dims);
    Vector<std::int64_t> means(stride);
    Vector<std::int32_t> row(padded(net.channels));
    for (std::size_t i = chunk * kRows; i < std::min(to.size(), (chunk + 1) * kRows); ++i) {
      const std::int16_t* scores = q.at(to[i]);
      for (std::size_t head = 0; head < net.heads; ++head) {
        const std::int16_t* own = scores + head * dims;
        const std::int32_t highest = *std::max_element(own, own + dims);
        std::int64_t total = 0;
        for (std::size_t c = 0; c < dims; ++c) {
          const std::int32_t weight = exp_of(tools.tables, highest - own[c]);
          weights[c] = static_cast<std::int16_t>(weight);
          total += weight;
        }
        tools.own.apply(weights.data(), &context[head * dims * stride], dims, total, means.data());
        for (std::size_t d = 0; d < dims; ++d) row[head * dims + d] = static_cast<std::int32_t>(means[d]);
      }
      attend_row(net.attended, row.data(), out.at(to[i]), tools);
    }
  });
}

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

// Weights exp(q k): blocks of queries see all keys, a block of scores is all that is ever held. `width` is that of the
// map if keys near a query are left out, else 0.
void attend_softmax(const Attention& net, const Source& q, const Source& k, const Source& v, const Positions& to,
                    const Positions& at, std::size_t width, const Target& out, const Tools& tools) {
  const std::size_t dims = net.channels / net.heads, keys = at.size(), columns = padded(keys);
  const std::size_t depth = dims + dims % 2;
  constexpr std::size_t kRows = 14;           // one block of the multiplication
  constexpr std::size_t kSoftened = 1 << 15;  // weights whose sum surely fits int32
  const std::size_t height = out.height;
  const std::size_t value_columns = padded(dims), runs = (keys + kRun - 1) / kRun;
  for (std::size_t head = 0; head < net.heads; ++head) {
    const std::size_t first = head * dims;
    nn::WideMatrix keys_matrix(depth, keys), values_matrix(runs * kRun, dims);
    for (std::size_t j = 0; j < keys; ++j) {
      for (std::size_t d = 0; d < dims; ++d) {
        keys_matrix.set(d, j, k.at(at[j])[first + d]);
        values_matrix.set(j, d, v.at(at[j])[first + d]);
      }
    }
    const Vector<std::int32_t> zeros(std::max(columns, value_columns));
    const Score score = score_of(net.score, head);
    parallel_for((to.size() + kRows - 1) / kRows, tools.team, [&](std::size_t chunk) {
      const std::size_t begin = chunk * kRows, count = std::min(kRows, to.size() - begin);
      Buffer<std::int16_t> queries(count * depth), weights(count * runs * kRun);
      Buffer<std::int32_t> scores(count * columns), sums(count * value_columns);
      Vector<std::int64_t> totals(count), means(count * dims);
      const std::int32_t* start[kRows];
      std::fill_n(start, count, zeros.data());
      for (std::size_t i = 0; i < count; ++i) {
        std::memcpy(&queries[i * depth], q.at(to[begin + i]) + first, dims * sizeof queries[0]);
      }
      tools.kernels.multiply_wide(
          {queries.data(), depth, count, keys_matrix.data.data(), depth, columns, start, scores.data(), columns});
      for (std::size_t i = 0; i < count; ++i) {
        std::int32_t* row = &scores[i * columns];
        std::int32_t highest = tools.own.score(row, columns, score);
        const bool masked = width != 0 && leave_out_near(to[begin + i], at.size(), height, width, row);
        // What is left out, or behind the last key, is too far below any score to weigh anything.
        std::fill(row + keys, row + columns, kLeftOut);
        if (masked || columns != keys) highest = *std::max_element(row, row + keys);
        for (std::size_t first_key = 0; first_key < columns; first_key += kSoftened) {
          totals[i] += tools.own.soften(row + first_key, std::min(kSoftened, columns - first_key), highest,
                                        tools.tables, &weights[i * runs * kRun + first_key]);
        }
      }
      for (std::size_t run = 0; run < runs; ++run) {
        // A run of the packed values is not contiguous over panels; each panel's piece is.
        for (std::size_t panel = 0; panel < value_columns; panel += kPanel) {
          tools.kernels.multiply_wide({&weights[run * kRun], runs * kRun, count,
                                       &values_matrix.data[values_matrix.offset(run * kRun, panel)], kRun, kPanel,
                                       start, sums.data(), kPanel});
          for (std::size_t i = 0; i < count; ++i) {
            for (std::size_t d = panel; d < std::min(dims, panel + kPanel); ++d) {
              means[i * dims + d] += sums[i * kPanel + d - panel];
            }
          }
        }
      }
      for (std::size_t i = 0; i < count; ++i) {
        // Heads share a row: each writes its own channels of the means, requantised once all are there.
        std::int16_t* to_row = out.at(to[begin + i]) + first;
        for (std::size_t d = 0; d < dims; ++d) {
          const std::int64_t mean = floor_divide(means[i * dims + d] * (2 << kValueBits) + totals[i], 2 * totals[i]);
          const Requantiser& r = net.attended;
          const std::int64_t scaled =
              (mean * (mean >= 0 ? r.multiplier[first + d] : r.negative[first + d]) + r.rounding[first + d]) >>
              r.shift[first + d];
          to_row[d] = static_cast<std::int16_t>(std::clamp<std::int64_t>(scaled, -r.limit, r.limit));
        }
      }
    });
  }
}

void project(const Projection& net, const Source& x, Plane& mixed, Plane& out, const Tools& tools) {
  convolve(net.mix, x, mixed.shape(x.height, x.width, net.mix.outputs), tools);
  convolve(net.spread, mixed.source(), out.shape(x.height, x.width, net.spread.channels), tools);
}

// What follows attention: projection, MLP, and the way past it.
void tail(const Attention& net, const Source& attended, const Target& out, Workspace& work, const Tools& tools) {
  const std::size_t h = attended.height, w = attended.width;
  const Target projected = work.projected.shape(h, w, net.reprojection.outputs);
  convolve(net.reprojection, attended, projected, tools);
  convolve(net.mlp.in, as_source(projected), work.hidden.shape(h, w, net.mlp.in.outputs), tools);
  convolve(net.mlp.spread, work.hidden.source(), work.spread.shape(h, w, net.mlp.spread.channels), tools);
  const std::size_t columns = net.mlp.out.columns();
  const Target sum = work.sum.shape(h, w, net.mlp.out.outputs);
  convolve(net.mlp.out, work.spread.source(), sum, tools);
  const bool inter = net.skip.outputs != 0;
  const Target skipped = work.hidden.shape(h, w, net.mlp.out.outputs);
  if (inter) convolve(net.skip, as_source(projected), skipped, tools);
  Buffer<std::int32_t> wide(columns);
  for (std::size_t p = 0; p < attended.positions(); ++p) {
    if (!inter) {
      for (std::size_t c = 0; c < columns; ++c) wide[c] = projected.at(p)[c];
      tools.kernels.requantise16(wide.data(), net.residual, {0, columns}, skipped.at(p));
    }
    const std::int16_t *a = sum.at(p), *b = skipped.at(p);
    std::int16_t* to = out.at(p);
    for (std::size_t c = 0; c < columns; ++c) {
      to[c] = static_cast<std::int16_t>(std::clamp(a[c] + b[c], -kActivation, kActivation));
    }
  }
}

}  // namespace

void inter_context(const Attention& net, bool linear, const Source& decoded, const Target& out, Workspace& work,
                   const Tools& tools) {
  project(net.query, decoded, work.mixed, work.query, tools);
  project(net.key, decoded, work.mixed, work.key, tools);
  project(net.value, decoded, work.mixed, work.value, tools);
  const Target attended = work.attended.shape(decoded.height, decoded.width, net.channels);
  std::fill_n(attended.data, attended.positions() * attended.stride, std::int16_t{0});
  const Positions all = latents::Region{}.list(decoded.height, decoded.width);
  const Source q = work.query.source(), k = work.key.source(), v = work.value.source();
  if (linear) {
    attend_linear(net, q, k, v, all, all, attended, tools);
  } else {
    attend_softmax(net, q, k, v, all, all, 0, attended, tools);
  }
  tail(net, as_source(attended), out, work, tools);
}

void intra_context(const Attention& net, bool linear, const Source& previous_others, const Source& previous_anchors,
                   const Source& current_anchors, const Target& out, Workspace& work, const Tools& tools) {
  project(net.query, previous_others, work.mixed, work.query, tools);
  project(net.key, previous_anchors, work.mixed, work.key, tools);
  project(net.value, current_anchors, work.mixed, work.value, tools);
  const std::size_t h = previous_others.height, w = previous_others.width;
  const Target attended = work.attended.shape(h, w, net.channels);
  std::fill_n(attended.data, attended.positions() * attended.stride, std::int16_t{0});
  const Positions to = latents::Region::of(kAnchors.other()).list(h, w), at = latents::Region::of(kAnchors).list(h, w);
  const Source q = work.query.source(), k = work.key.source(), v = work.value.source();
  if (linear) {
    attend_linear(net, q, k, v, to, at, attended, tools);
  } else {
    attend_softmax(net, q, k, v, to, at, w, attended, tools);
  }
  tail(net, as_source(attended), out, work, tools);
}

void local_context(const LocalAttention& net, const Latents& latent, const Target& out, Workspace& work,
                   const Tools& tools) {
  const std::size_t h = out.height, w = out.width, c = latent.channels, block = padded(c);
  const std::size_t dims = c / kLocalHeads;
  // Queries, keys and values of every anchor, head by head: channels enter the heads interleaved. Everything else is
  // zero before the layer norm and after it: one row serves all of it.
  const std::size_t stride = (dims + 15) / 16 * 16, row_size = kLocalHeads * 3 * stride;
  const Target qkv = work.mixed.shape(h, w, row_size);
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
      for (std::size_t i = 0; i < count; ++i) arrange(&mixed[i * wide], qkv.at(r, first + 2 * i));
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
        tokens[t] = anchor ? qkv.at(y, x) : inside ? common.data() : none.data();
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

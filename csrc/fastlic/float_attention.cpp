#include "fastlic/float_attention.hpp"

#include <algorithm>

#include "fastlic/errors.hpp"
#include "fastlic/isa.hpp"
#include "fastlic/memory.hpp"
#include "fastlic/parallel.hpp"

namespace fastlic {
namespace {

// The places of a window and what one thread needs for one head of it. Rows are padded to whole vectors: keys by scores
// of minus infinity, depths by zeros.
struct AttentionJob {
  const float* qkv;
  float* out;
  const std::size_t* places;  // rows of the map
  const float* bias;          // [places][padded] of one head, with masks, minus infinity in the padding
  std::size_t count, padded, depth, padded_depth;
  std::size_t row;    // numbers of a row of qkv
  std::size_t start;  // of the head in a row of out
  float scale;
  // Scratch: [count or more][depth], [depth][padded], [count][padded_depth], [rows][padded].
  float *queries, *keys, *values, *scores;
};

struct AttentionKernel {
  void (*run)(const AttentionJob&);
  std::size_t lanes, rows;  // queries that it takes at a time
};

}  // namespace
}  // namespace fastlic

#define FASTLIC_BODY "fastlic/float_attention_body.hpp"
#include "fastlic/simd/for_each_target.hpp"

namespace fastlic {
namespace {

const AttentionKernel& kernel_of(Isa isa) { FASTLIC_CHOOSE(isa, kKernel); }

std::size_t padded(std::size_t n, std::size_t unit) { return (n + unit - 1) / unit * unit; }

// Which of the two sides of the roll a place of a window is on, by rows and columns: only of the last window.
std::size_t side_of(std::size_t place, const Windows& w, bool last_row, bool last_column) {
  const std::size_t split = w.side - w.shift;
  return (last_row && place / w.side >= split ? 2u : 0u) + (last_column && place % w.side >= split ? 1u : 0u);
}

struct Windowed {
  Vector<float> queries, keys, values, scores, bias;
  Vector<std::size_t> places;
};

}  // namespace

void float_attention(std::span<const float> qkv, std::span<float> out, std::span<const float> bias,
                     std::span<const float> mask, const Windows& w, unsigned threads) {
  const std::size_t count = w.side * w.side, channels = w.heads * w.depth;
  if (w.side == 0 || w.side > 32 || channels == 0 || w.shift >= w.side || w.height % w.side != 0 ||
      w.width % w.side != 0) {
    throw InvalidArgument("attention: windows of " + to_string(w.side) + ", shifted by " + to_string(w.shift) +
                          ", do not fit a map of " + to_string(w.height) + "x" + to_string(w.width) + " with " +
                          to_string(channels) + " channels");
  }
  const std::size_t pixels = w.images * w.height * w.width;
  if (qkv.size() != pixels * channels * 3 || out.size() != pixels * channels ||
      bias.size() != w.heads * count * count || mask.size() % (count * count) != 0) {
    throw InvalidArgument("attention: qkv of " + to_string(qkv.size()) + ", out of " + to_string(out.size()) +
                          ", bias of " + to_string(bias.size()) + " and mask of " + to_string(mask.size()) +
                          " numbers do not fit " + to_string(pixels) + " pixels, " + to_string(w.heads) + " heads of " +
                          to_string(w.depth) + " and windows of " + to_string(count));
  }
  const AttentionKernel& kernel = kernel_of(active_isa());
  const std::size_t wide = padded(count, 2 * kernel.lanes), deep = padded(w.depth, kernel.lanes);
  const std::size_t masks = mask.size() / (count * count);
  const std::size_t down = w.height / w.side, across = w.width / w.side;
  constexpr float kNever = -std::numeric_limits<float>::infinity();

  // bias with its padding, once for all windows that no mask touches.
  Vector<float> plain(w.heads * count * wide, kNever);
  for (std::size_t row = 0; row < w.heads * count; ++row) {
    std::copy_n(bias.data() + row * count, count, plain.data() + row * wide);
  }
  // A job is a row of windows.
  parallel_for(w.images * down, threads, [&](std::size_t job) {
    thread_local Scratch<Windowed> kept;
    Windowed& own = kept.values;
    own.queries.resize(std::max(own.queries.size(), std::max(count, kernel.rows) * w.depth));
    own.keys.assign(std::max(own.keys.size(), w.depth * wide), 0.0f);
    own.values.assign(std::max(own.values.size(), count * deep), 0.0f);
    own.scores.resize(std::max(own.scores.size(), kernel.rows * wide));
    own.bias.resize(std::max(own.bias.size(), count * wide));
    own.places.resize(std::max(own.places.size(), count));
    const std::size_t image = job / down, at_row = job % down;
    for (std::size_t column = 0; column < across; ++column) {
      for (std::size_t i = 0; i < count; ++i) {
        const std::size_t y = (at_row * w.side + i / w.side + w.shift) % w.height;
        const std::size_t x = (column * w.side + i % w.side + w.shift) % w.width;
        own.places[i] = (image * w.height + y) * w.width + x;
      }
      const bool last_row = w.shift != 0 && at_row + 1 == down, last_column = w.shift != 0 && column + 1 == across;
      const float* given = masks == 0 ? nullptr : mask.data() + (job * across + column) % masks * count * count;
      for (std::size_t head = 0; head < w.heads; ++head) {
        const float* scores = plain.data() + head * count * wide;
        if (last_row || last_column || given != nullptr) {
          for (std::size_t i = 0; i < count; ++i) {
            float* to = own.bias.data() + i * wide;
            std::copy_n(scores + i * wide, wide, to);
            const std::size_t side = side_of(i, w, last_row, last_column);
            for (std::size_t j = 0; j < count; ++j) {
              if (given != nullptr) to[j] += given[i * count + j];
              if (side_of(j, w, last_row, last_column) != side) to[j] += w.apart;
            }
          }
          scores = own.bias.data();
        }
        kernel.run({qkv.data() + head * w.depth, out.data(), own.places.data(), scores, count, wide, w.depth, deep,
                    3 * channels, head * w.depth, w.scale, own.queries.data(), own.keys.data(), own.values.data(),
                    own.scores.data()});
      }
    }
  });
}

}  // namespace fastlic

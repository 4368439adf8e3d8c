#include "fastlic/codebook/codebook.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "fastlic/codebook/kernels.hpp"
#include "fastlic/errors.hpp"
#include "fastlic/memory.hpp"
#include "fastlic/parallel.hpp"

namespace fastlic::codebook {
namespace {

constexpr double kUnit = 0x1p-24;        // relative error of one float operation
constexpr double kDoubleUnit = 0x1p-53;  // and of one in double
constexpr double kHuge = 1e37;           // scores above could overflow: such rows are compared exactly throughout
constexpr std::size_t kMaxChannels = 65536;
constexpr std::size_t kMaxByteChannels = 4096;  // sums of products of bytes stay far inside int32
constexpr std::size_t kBlockBytes = 256 << 10;  // packed words that are scanned while they stay in the L2 cache
constexpr std::size_t kChunkRows = 96;          // rows that are scanned against a block; a multiple of every tile
constexpr int kByte = 127;

double norm(const float* values, std::size_t count, std::ptrdiff_t stride) {
  double sum = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const double value = values[static_cast<std::ptrdiff_t>(i) * stride];
    sum += value * value;
  }
  return std::sqrt(sum) * (1 + 1e-9);  // rounding must not make it smaller than it is
}

// What a byte kernel reads of a vector: bytes that times `step` are about its values. Returns the norm of what is lost.
double to_bytes(const float* values, std::size_t count, std::ptrdiff_t stride, float step, std::int8_t* bytes) {
  const double inverse = step > 0 ? 1 / static_cast<double>(step) : 0;
  double lost = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const double value = values[static_cast<std::ptrdiff_t>(i) * stride];
    const int rounded = std::clamp(static_cast<int>(std::lrint(value * inverse)), -kByte, kByte);
    bytes[i] = static_cast<std::int8_t>(rounded);
    const double rest = value - static_cast<double>(step) * rounded;
    lost += rest * rest;
  }
  return std::sqrt(lost) * (1 + 1e-9);
}

float step_for(float largest) {
  const float step = largest / kByte;
  return step >= std::numeric_limits<float>::min() ? step : 0;  // 0: all bytes are 0 and everything counts as lost
}

// Squared distances of up to four words at once; each sum runs in channel order, as the definition says.
template <std::size_t kMany>
void distances(const float* x, std::ptrdiff_t stride, const float* const* words, std::size_t d, double* out) {
  double sums[kMany] = {};
  for (std::size_t i = 0; i < d; ++i) {
    const double value = x[static_cast<std::ptrdiff_t>(i) * stride];
    for (std::size_t w = 0; w < kMany; ++w) {
      const double difference = value - static_cast<double>(words[w][i]);
      sums[w] += difference * difference;
    }
  }
  std::copy(sums, sums + kMany, out);
}

struct Exact {
  const float* x;
  std::ptrdiff_t stride;
  const float* words;  // of the group
  std::size_t d;
  double best = std::numeric_limits<double>::infinity();
  std::uint32_t index = 0;

  // Words in ascending order of index: only a smaller distance replaces an earlier one.
  void offer(const std::uint32_t* candidates, std::size_t count) {
    for (std::size_t done = 0; done < count; done += 4) {
      const std::size_t many = std::min<std::size_t>(4, count - done);
      std::array<const float*, 4> some;
      for (std::size_t w = 0; w < 4; ++w) some[w] = words + candidates[done + std::min(w, many - 1)] * d;
      std::array<double, 4> distance;
      if (many == 1) {
        distances<1>(x, stride, some.data(), d, distance.data());
      } else if (many == 2) {
        distances<2>(x, stride, some.data(), d, distance.data());
      } else {
        distances<4>(x, stride, some.data(), d, distance.data());
      }
      for (std::size_t w = 0; w < many; ++w) {
        // The first word stands even at an infinite distance, which values near the largest floats cannot reach.
        if (distance[w] < best) {
          best = distance[w];
          index = candidates[done + w];
        }
      }
    }
  }

  void offer_all(std::size_t k) {
    std::array<std::uint32_t, 4> some;
    for (std::size_t word = 0; word < k; word += 4) {
      const std::size_t many = std::min<std::size_t>(4, k - word);
      for (std::size_t w = 0; w < many; ++w) some[w] = static_cast<std::uint32_t>(word + w);
      offer(some.data(), many);
    }
  }
};

std::size_t round_up(std::size_t value, std::size_t multiple) { return (value + multiple - 1) / multiple * multiple; }

}  // namespace

float Row::keep(const float* some, std::uint32_t first, std::uint64_t close, float bar) {
  for (; close != 0; close &= close - 1) {
    const auto i = static_cast<std::uint32_t>(std::countr_zero(close));
    if (count == kRoom) {  // words that were close once, when the best was worse, make room
      std::uint32_t kept = 0;
      for (std::uint32_t j = 0; j < count; ++j) {
        if (scores[j] > bar) continue;
        words[kept] = words[j];
        scores[kept++] = scores[j];
      }
      count = kept;
    }
    if (count == kRoom) {
      full = true;
      return -std::numeric_limits<float>::infinity();  // nothing more is of interest
    }
    words[count] = first + i;
    scores[count++] = some[i];
  }
  return bar;
}

Codebooks::Codebooks(const float* words, std::size_t m, std::size_t k, std::size_t d, Isa isa)
    : m_(m), k_(k), d_(d), isa_(isa) {
  if (m == 0 || k == 0 || d == 0) throw InvalidArgument("a codebook has at least one word of one channel");
  if (d > kMaxChannels || k > std::numeric_limits<std::int32_t>::max() / 2) {
    throw InvalidArgument("codebooks have up to " + to_string(kMaxChannels) + " channels and 2^30 words");
  }
  if (kernel(isa_).bytes && d > kMaxByteChannels) isa_ = Isa::avx512;
  words_.assign(words, words + m * k * d);
  if (!std::all_of(words_.begin(), words_.end(), [](float value) { return std::isfinite(value); })) {
    throw InvalidArgument("codebook holds values that are not finite (NaN or infinity)");
  }
  panels_ = round_up(k, kernel(isa_).words) / kernel(isa_).words;
  groups_.resize(m);
  for (std::size_t g = 0; g < m; ++g) pack(g);
}

void Codebooks::pack(std::size_t group) {
  const Kernel& scan = kernel(isa_);
  const float* words = &words_[group * k_ * d_];
  Group& packed = groups_[group];
  packed.half.assign(panels_ * scan.words, std::numeric_limits<float>::infinity());
  for (std::size_t w = 0; w < k_; ++w) {
    double sum = 0;
    for (std::size_t i = 0; i < d_; ++i) sum += static_cast<double>(words[w * d_ + i]) * words[w * d_ + i];
    packed.half[w] = static_cast<float>(std::min(sum / 2, 2 * kHuge));
    packed.largest = std::max(packed.largest, std::sqrt(sum) * (1 + 1e-9));
  }
  if (scan.bytes) {
    pack_bytes(packed, words);
    return;
  }
  packed.panels.assign(panels_ * scan.words * d_, 0.0f);
  for (std::size_t w = 0; w < k_; ++w) {
    float* out = &packed.panels[w / scan.words * scan.words * d_ + w % scan.words];
    for (std::size_t i = 0; i < d_; ++i) out[i * scan.words] = words[w * d_ + i];
  }
}

void Codebooks::pack_bytes(Group& packed, const float* words) const {
  const std::size_t panel = kernel(isa_).words, depth = round_up(d_, 4) / 4;
  float largest = 0;
  for (std::size_t i = 0; i < k_ * d_; ++i) largest = std::max(largest, std::fabs(words[i]));
  packed.step = step_for(largest);
  packed.bytes.assign(panels_ * panel * depth * 4, 0);
  packed.offset.assign(panels_ * panel, 0);
  Vector<std::int8_t> bytes(depth * 4, 0);
  for (std::size_t w = 0; w < k_; ++w) {
    packed.byte_error = std::max(packed.byte_error, to_bytes(words + w * d_, d_, 1, packed.step, bytes.data()));
    std::int64_t sum = 0, squares = 0;
    for (const std::int8_t byte : bytes) {
      sum += byte;
      squares += byte * byte;
    }
    packed.offset[w] = static_cast<std::int32_t>(-128 * sum);
    packed.byte_largest = std::max(
        packed.byte_largest, static_cast<double>(packed.step) * std::sqrt(static_cast<double>(squares)) * (1 + 1e-9));
    std::int8_t* out = &packed.bytes[(w / panel * depth * panel + w % panel) * 4];
    for (std::size_t i = 0; i < depth; ++i) std::memcpy(out + i * panel * 4, &bytes[4 * i], 4);
  }
}

void Codebooks::nearest(const float* x, std::size_t n, Strides strides, std::int64_t* out, unsigned threads) const {
  if (n > std::numeric_limits<std::uint32_t>::max()) throw InvalidArgument("up to 2^32 vectors are searched");
  const std::size_t chunks = round_up(n, kChunkRows) / kChunkRows;
  const auto task = [&](std::size_t group) {
    return Task{x + static_cast<std::ptrdiff_t>(group) * strides.groups,
                strides.rows,
                strides.channels,
                out + group,
                m_,
                group,
                group,
                nullptr};
  };
  Vector<Vector<std::uint32_t>> unsure(m_ * chunks);
  // Group by group, so that threads scan the same words at the same time.
  parallel_for(m_ * chunks, threads, [&](std::size_t job) {
    const std::size_t first = job % chunks * kChunkRows;
    std::array<std::uint32_t, kChunkRows> which;
    std::iota(which.begin(), which.end(), static_cast<std::uint32_t>(first));
    Task some = task(job / chunks);
    if (kernel(isa_).bytes) some.unsure = &unsure[job];
    search(some, which.data(), std::min(kChunkRows, n - first));
  });

  // Where words lie closer together than bytes can tell, floats do, at a quarter of the speed. Comparing all such words
  // exactly would take a fortieth.
  Vector<Vector<std::uint32_t>> left(m_);
  for (std::size_t job = 0; job < unsure.size(); ++job) {
    left[job / chunks].insert(left[job / chunks].end(), unsure[job].begin(), unsure[job].end());
  }
  for (std::size_t group = 0; group < m_; ++group) {
    if (left[group].empty()) continue;
    const Codebooks finer(&words_[group * k_ * d_], 1, k_, d_, Isa::avx512);
    const std::size_t count = left[group].size();
    parallel_for(round_up(count, kChunkRows) / kChunkRows, threads, [&](std::size_t job) {
      Task some = task(group);
      some.group = 0;
      finer.search(some, &left[group][job * kChunkRows], std::min(kChunkRows, count - job * kChunkRows));
    });
  }
}

void Codebooks::search(const Task& task, const std::uint32_t* which, std::size_t rows) const {
  const Kernel& scan = kernel(isa_);
  const Group& packed = groups_[task.group];
  const std::size_t tiles = round_up(rows, scan.rows) / scan.rows;
  const std::size_t depth = scan.bytes ? round_up(d_, 4) / 4 : d_;
  Vector<Row> found(tiles * scan.rows);
  Buffer<float> bars(tiles * scan.rows, std::numeric_limits<float>::infinity());
  Buffer<float> scale(scan.bytes ? tiles * scan.rows : 0);
  Buffer<float> values(tiles * scan.rows * depth);  // floats, or four bytes in the place of one
  Vector<std::int8_t> bytes(4 * depth, 0);

  const double C = packed.largest, n_operations = 2.0 * static_cast<double>(d_) + 2;
  for (std::size_t r = 0; r < rows; ++r) {
    const float* vector = task.x + static_cast<std::ptrdiff_t>(which[r]) * task.rows;
    float* tile = &values[r / scan.rows * scan.rows * depth + r % scan.rows];
    const double length = norm(vector, d_, task.channels);
    if (!std::isfinite(length)) {
      throw InvalidArgument("x holds values that are not finite (NaN or infinity), in vector (" + to_string(which[r]) +
                            ", " + to_string(task.shown) + ")");
    }
    const double magnitude = C * C / 2 + length * C;  // no score exceeds it
    // How far a computed score may be from the true one.
    double error = n_operations * kDoubleUnit * (length + C) * (length + C) + 0x1p-130;
    // A long vector among short words has small scores and an error beyond float: with an infinite bar, words that pad
    // the last panel would count.
    if (!(magnitude + error < kHuge)) {
      found[r].full = true;
      bars[r] = -std::numeric_limits<float>::infinity();
      continue;  // the tile keeps its zeros
    }
    if (scan.bytes) {
      float largest = 0;
      for (std::size_t i = 0; i < d_; ++i) {
        largest = std::max(largest, std::fabs(vector[static_cast<std::ptrdiff_t>(i) * task.channels]));
      }
      const float step = step_for(largest);
      const double lost = to_bytes(vector, d_, task.channels, step, bytes.data());
      scale[r] = step * packed.step;
      // x.c - x'.c' = x.(c - c') + (x - x').c', and four roundings of the products, the halves and their sum. A scale
      // too small for a float loses all of x'.c'.
      const double product = (length + lost) * packed.byte_largest;
      error += length * packed.byte_error + lost * packed.byte_largest + 8 * kUnit * (magnitude + product);
      if (scale[r] < std::numeric_limits<float>::min()) error += product;
      for (std::size_t i = 0; i < depth; ++i) {
        std::array<std::uint8_t, 4> four;
        for (std::size_t j = 0; j < 4; ++j) four[j] = static_cast<std::uint8_t>(bytes[4 * i + j] + 128);
        std::memcpy(tile + i * scan.rows, four.data(), 4);
      }
    } else {
      error += 1.01 * n_operations * kUnit * magnitude;
      for (std::size_t i = 0; i < d_; ++i) {
        tile[i * scan.rows] = vector[static_cast<std::ptrdiff_t>(i) * task.channels];
      }
    }
    // Twice, once for either word, and the rounding of the bar itself.
    found[r].slack = static_cast<float>((2 * error + 4 * kUnit * (magnitude + error)) * (1 + 1e-6));
  }
  for (std::size_t r = rows; r < found.size(); ++r) bars[r] = -std::numeric_limits<float>::infinity();

  const std::size_t panel_floats = scan.words * depth;
  const std::size_t block = std::max<std::size_t>(1, kBlockBytes / (panel_floats * sizeof(float)));
  for (std::size_t begin = 0; begin < panels_; begin += block) {
    const std::size_t count = std::min(block, panels_ - begin), word = begin * scan.words;
    for (std::size_t t = 0; t < tiles; ++t) {
      const std::size_t row = t * scan.rows;
      scan.scan(
          {&values[row * depth], depth,
           scan.bytes ? static_cast<const void*>(&packed.bytes[begin * panel_floats * 4])
                      : static_cast<const void*>(&packed.panels[begin * panel_floats]),
           &packed.half[word],
           scan.bytes ? static_cast<const void*>(&packed.offset[word]) : static_cast<const void*>(&packed.half[word]),
           scan.bytes ? &scale[row] : nullptr, static_cast<std::uint32_t>(word), count, &found[row], &bars[row]});
    }
  }

  for (std::size_t r = 0; r < rows; ++r) {
    Row& row = found[r];
    Exact exact{task.x + static_cast<std::ptrdiff_t>(which[r]) * task.rows, task.channels,
                &words_[task.group * k_ * d_], d_};
    if (row.full && task.unsure != nullptr) {
      task.unsure->push_back(which[r]);
      continue;
    }
    if (row.full) {
      exact.offer_all(k_);
    } else {
      const float bar = row.best + row.slack;
      std::uint32_t kept = 0;
      for (std::uint32_t i = 0; i < row.count; ++i) {
        if (row.scores[i] <= bar) row.words[kept++] = row.words[i];
      }
      if (kept == 1) {
        exact.index = row.words[0];
      } else {
        exact.offer(row.words, kept);
      }
    }
    task.out[which[r] * task.step] = exact.index;
  }
}

}  // namespace fastlic::codebook

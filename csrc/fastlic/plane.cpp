#include "fastlic/plane.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <utility>

#include "fastlic/errors.hpp"
#include "fastlic/memory.hpp"

namespace fastlic::plane {
namespace {

constexpr std::uint32_t kLeastRange = 1u << 24;
constexpr std::uint8_t kOutside = 255;  // samples above the first row: opaque

// The chance that a bit is 0, in 65536ths: the mean of a quick and a slow average.
class Chance {
 public:
  std::uint32_t zero() const noexcept { return (std::uint32_t{quick_} + slow_) >> 1; }

  void learn(bool bit) noexcept {
    if (bit) {
      quick_ = static_cast<std::uint16_t>(quick_ - (quick_ >> kQuick));
      slow_ = static_cast<std::uint16_t>(slow_ - (slow_ >> kSlow));
    } else {
      quick_ = static_cast<std::uint16_t>(quick_ + ((65536u - quick_) >> kQuick));
      slow_ = static_cast<std::uint16_t>(slow_ + ((65536u - slow_) >> kSlow));
    }
  }

 private:
  static constexpr int kQuick = 4, kSlow = 7;
  std::uint16_t quick_ = 32768, slow_ = 32768;
};

// A range coder: the interval [low, low + range) of 32-bit numbers narrows with every bit, and the first byte of its
// numbers leaves when all share it.
class Encoder {
 public:
  bool code(Chance& chance, bool bit) {
    const std::uint32_t bound = (range_ >> 16) * chance.zero();
    if (bit) {
      low_ += bound;
      range_ -= bound;
    } else {
      range_ = bound;
    }
    chance.learn(bit);
    for (; range_ < kLeastRange; range_ <<= 8) shift();
    return bit;
  }

  // The number of the interval with the most zeros behind, which are left out.
  Vector<std::uint8_t> finish() {
    low_ = (low_ + kLeastRange - 1) & ~std::uint64_t{kLeastRange - 1};
    for (int i = 0; i < 5; ++i) shift();
    while (!out_.empty() && out_.back() == 0) out_.pop_back();
    return std::move(out_);
  }

 private:
  // A byte leaves when no carry can reach it: those of 255 wait with the one before them.
  void shift() {
    if (low_ < 0xFF000000u || low_ > 0xFFFFFFFFu) {
      const auto carry = static_cast<std::uint8_t>(low_ >> 32);
      if (started_) out_.push_back(static_cast<std::uint8_t>(held_ + carry));
      out_.insert(out_.end(), waiting_, static_cast<std::uint8_t>(0xFF + carry));
      waiting_ = 0;
      started_ = true;
      held_ = static_cast<std::uint8_t>(low_ >> 24);
    } else {
      ++waiting_;
    }
    low_ = (low_ & 0x00FFFFFFu) << 8;
  }

  Vector<std::uint8_t> out_;
  std::uint64_t low_ = 0;
  std::uint32_t range_ = 0xFFFFFFFFu;
  std::uint8_t held_ = 0;
  bool started_ = false;
  std::size_t waiting_ = 0;
};

class Decoder {
 public:
  explicit Decoder(std::span<const std::uint8_t> data) : data_(data) {
    if (!data.empty() && data.back() == 0) throw CorruptStream("the coded alpha plane ends in a zero");
    for (int i = 0; i < 4; ++i) number_ = number_ << 8 | next();
  }

  bool code(Chance& chance, bool) {
    const std::uint32_t bound = (range_ >> 16) * chance.zero();
    const bool bit = number_ >= bound;
    if (bit) {
      number_ -= bound;
      range_ -= bound;
    } else {
      range_ = bound;
    }
    chance.learn(bit);
    for (; range_ < kLeastRange; range_ <<= 8) number_ = number_ << 8 | next();
    return bit;
  }

  void finish() const {
    if (used_ < data_.size()) throw CorruptStream("the coded alpha plane goes on behind its last sample");
  }

 private:
  std::uint32_t next() noexcept { return used_ < data_.size() ? data_[used_++] : 0; }

  std::span<const std::uint8_t> data_;
  std::size_t used_ = 0;
  std::uint32_t number_ = 0, range_ = 0xFFFFFFFFu;
};

// Codes samples one after the other. Of a decoder the samples given are of no meaning, those returned are.
template <typename Coder>
class Samples {
 public:
  explicit Samples(Coder& coder) : coder_(coder) {}

  // Whether a row is the one above it.
  bool repeats(bool own) { return last_ = coder_.code(repeats_[last_], own); }

  // Rows have `width` samples. above: the row before this one; over: the one before that.
  void row(const std::uint8_t* over, const std::uint8_t* above, std::uint8_t* own, std::size_t width) {
    for (std::size_t x = 0; x < width; ++x) {
      const std::uint8_t n = above[x], w = x > 0 ? own[x - 1] : n, nw = x > 0 ? above[x - 1] : n;
      const std::uint8_t ne = x + 1 < width ? above[x + 1] : n, ww = x > 1 ? own[x - 2] : w, nn = over[x];
      // The median of w, n and w + n - nw.
      const int low = std::min(w, n), high = std::max(w, n);
      const auto guess = static_cast<std::uint8_t>(nw >= high ? low : nw <= low ? high : w + n - nw);
      // Masks are told by what is opaque, clear or between around a sample, soft edges by how much their samples
      // differ.
      std::size_t place = 0;
      for (const std::uint8_t near : {w, n, nw, ne, ww, nn}) place = 3 * place + (near == 0 ? 0 : near == 255 ? 2 : 1);
      const auto change = static_cast<unsigned>(std::abs(w - nw) + std::abs(n - nw) + std::abs(n - ne));
      const std::size_t level = std::min<std::size_t>(std::bit_width(change), kLevels - 1);
      if (!coder_.code(misses_[(place * kLevels + level) * 2 + missed_], own[x] != guess)) {
        own[x] = guess;
        missed_ = false;
        continue;
      }
      // At the edge of what is opaque or clear a sample says little of how much the next one differs.
      const bool edge = w == 0 || w == 255 || n == 0 || n == 255;
      Tree& tree = edge ? edges_[place / 81] : slopes_[2 * level + missed_];
      const std::uint8_t from = edge ? 0 : guess;
      missed_ = true;
      const unsigned difference = static_cast<std::uint8_t>(own[x] - from);
      unsigned node = 1;
      for (int bit = 7; bit >= 0; --bit) node = 2 * node + coder_.code(tree[node], difference >> bit & 1);
      own[x] = static_cast<std::uint8_t>(from + node);
    }
  }

 private:
  using Tree = std::array<Chance, 256>;  // of a difference, from its highest bit on

  Coder& coder_;
  bool last_ = false;
  std::array<Chance, 2> repeats_;
  static constexpr std::size_t kLevels = 8;
  bool missed_ = false;  // whether the sample before was not as guessed
  std::array<Chance, 729 * kLevels * 2> misses_;
  std::array<Tree, 9> edges_;  // of values
  std::array<Tree, kLevels * 2> slopes_;
};

// Three rows that take turns.
class Rows {
 public:
  explicit Rows(std::size_t width) : width_(width), samples_(3 * width, kOutside) {}

  // 0: the current row, 1: the one above it, 2: the one above that.
  std::uint8_t* operator[](std::size_t back) noexcept { return samples_.data() + (turn_ + 3 - back) % 3 * width_; }
  void next() noexcept { turn_ = (turn_ + 1) % 3; }

 private:
  std::size_t width_, turn_ = 0;
  Vector<std::uint8_t> samples_;
};

}  // namespace

std::uint64_t memory(std::size_t height, std::size_t width, bool encode) {
  // Noise takes somewhat more than its own bytes.
  const std::uint64_t area = std::uint64_t{height} * width, coded = area + area / 4;
  return sizeof(Samples<Encoder>) + 3 * std::uint64_t{width} + (encode ? 3 * coded : 0);
}

Vector<std::uint8_t> encode(const View<const std::uint8_t>& samples) {
  Encoder encoder;
  Samples<Encoder> coder(encoder);
  Rows rows(samples.width);
  for (std::size_t y = 0; y < samples.height; ++y, rows.next()) {
    for (std::size_t x = 0; x < samples.width; ++x) rows[0][x] = samples.at(y, x);
    if (!coder.repeats(std::equal(rows[0], rows[0] + samples.width, rows[1]))) {
      coder.row(rows[2], rows[1], rows[0], samples.width);
    }
  }
  return encoder.finish();
}

void decode(std::span<const std::uint8_t> data, const View<std::uint8_t>& samples) {
  Decoder decoder(data);
  Samples<Decoder> coder(decoder);
  Rows rows(samples.width);
  for (std::size_t y = 0; y < samples.height; ++y, rows.next()) {
    if (coder.repeats(false)) {
      std::copy_n(rows[1], samples.width, rows[0]);
    } else {
      coder.row(rows[2], rows[1], rows[0], samples.width);
    }
    for (std::size_t x = 0; x < samples.width; ++x) samples.at(y, x) = rows[0][x];
  }
  decoder.finish();
}

}  // namespace fastlic::plane

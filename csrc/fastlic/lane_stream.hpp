// The frame that all interleaved coders share: header byte, lane states, words, side stream.
//
//     byte 0          bits 0..2 log2 of the lane count N | bit 3 side stream present | bits 4..7 kind of stream
//     4N bytes        lane states, u32, little endian, lane 0 first
//     2W bytes        words, u16, little endian, in the order in which the decoder needs them
//     S bytes         side stream (raw bits and escapes), read from its last byte backwards
//
// Nothing stores W or S: words and side stream must meet exactly. No symbols, no bytes.
//
// Symbol i belongs to lane i mod N; after each symbol its lane takes a word if its state fell below kStateLow. That
// rule is the whole schedule: the scalar loop does it one symbol at a time, SIMD code 8 or 16 at a time, with the same
// words.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "fastlic/memory.hpp"
#include "fastlic/side_stream.hpp"
#include "fastlic/word_buffer.hpp"

namespace fastlic {

constexpr unsigned kWordBits = 16;
// States live in [2^15, 2^31): one word per refill, and the sign bit stays clear, which AVX2 needs for its compares and
// which lets a float quotient be off by at most one.
constexpr std::uint32_t kStateLow = 1u << 15;
constexpr std::uint32_t kStateHigh = kStateLow << kWordBits;
static_assert(std::uint64_t{kStateLow} << kWordBits == std::uint64_t{1} << 31);

constexpr unsigned kMaxLanes = 64;

// A reader that expects one kind rejects the others, so tables cannot be applied to a stream that never used them.
enum class StreamKind : std::uint8_t { tables = 0, gaussian = 1, categorical = 2 };

// A lane adds about 3 bytes (4 of state, which carry some 8 bits of the message). The count is the largest power of two
// whose lanes cost at most 0.15 % of `payload_bytes`.
unsigned choose_lanes(std::uint64_t payload_bytes) noexcept;

// `lanes` if it is a power of two up to 64, choose_lanes() if it is 0; std::invalid_argument otherwise.
unsigned resolve_lanes(unsigned lanes, std::uint64_t payload_bytes);

// Positions at which an encoder looks to estimate its payload before it chooses the lanes: all of them, or 4096 at
// multiples of the golden ratio, modulo 1: evenly spread, yet in step with no period of the data. (A constant stride
// met the same few channels again and again and was wrong tenfold.)
class Samples {
 public:
  explicit Samples(std::size_t count) noexcept : count_(count), size_(count < kMost ? count : kMost) {}
  std::size_t size() const noexcept { return size_; }
  std::size_t operator[](std::size_t sample) const noexcept {
    if (size_ == count_) return sample;
    constexpr std::uint64_t kGolden = 0x9E3779B97F4A7C15;  // 2^64 / golden ratio
    return static_cast<std::size_t>(static_cast<unsigned __int128>(sample * kGolden) * count_ >> 64);
  }
  // A sum over the samples, carried over to all symbols.
  std::uint64_t scale_up(std::uint64_t sum) const noexcept { return size_ == 0 ? 0 : sum * count_ / size_; }

 private:
  static constexpr std::size_t kMost = 4096;
  std::size_t count_;
  std::size_t size_;
};

class LaneReader {
 public:
  // Checks header and states; throws CorruptStream.
  LaneReader(const std::uint8_t* data, std::size_t size, StreamKind kind);

  // Decodes `count` symbols, the first of which is number `position` of the stream.
  //   groups(reader, at, groups) -> groups done: whole groups from lane 0, stops early only when next > limit
  //   one(reader, at, lane): a single symbol
  // `at` counts from 0. Throws CorruptStream where the words run out.
  template <typename Groups, typename One>
  void run(std::uint64_t position, std::size_t count, const Groups& groups, const One& one) {
    std::size_t lane = position % lanes;
    for (std::size_t done = 0; done < count;) {
      if (next > limit) {
        if (in_tail_) throw_exhausted(position + done);
        enter_tail();
      } else if (lane == 0 && count - done >= lanes) {
        done += lanes * groups(*this, done, (count - done) / lanes);
      } else {
        one(*this, done, lane);
        ++done;
        lane = lane + 1 == lanes ? 0 : lane + 1;
      }
    }
    // Loops look at the limit before a group only; what the last group took must have been there, too.
    if (in_tail_ && next > limit) throw_exhausted(position + count);
  }

  // Throws CorruptStream unless all lanes are in the encoder's first state and words and side stream meet.
  void finish() const;

  // Loops read words ahead without looking at the end: they may start a group of symbols while next <= limit, and
  // kReadAhead bytes are readable from there. For the end of the stream, the last bytes are copied to a padded buffer.
  static constexpr std::size_t kReadAhead = kMaxLanes * kWordBits / 8;
  const std::uint8_t* next = nullptr;
  const std::uint8_t* limit = nullptr;
  unsigned lanes = 1;
  SideReader side;
  alignas(64) std::array<std::uint32_t, kMaxLanes> states{};

  // Pointers into the padded buffer move with the object.
  LaneReader(const LaneReader& other) { *this = other; }
  LaneReader& operator=(const LaneReader& other);

 private:
  void enter_tail() noexcept;
  [[noreturn]] void throw_exhausted(std::uint64_t symbol) const;
  std::size_t words_end() const noexcept;  // offset of the first unread word in the stream

  const std::uint8_t* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t tail_begin_ = 0;  // offset in the stream of tail_[0]
  bool in_tail_ = false;
  std::array<std::uint8_t, 3 * kReadAhead> tail_{};
};

class LaneWriter {
 public:
  LaneWriter(StreamKind kind, unsigned lane_count, std::size_t expected_bytes)
      : words(expected_bytes + expected_bytes / 16 + 4096), lanes(lane_count), kind_(kind) {
    states.fill(kStateLow);
  }

  Vector<std::uint8_t> finish();

  static constexpr std::size_t kSlack = 64;  // SIMD loops store whole vectors: reserve that much more
  WordBuffer words;
  SideWriter side;
  unsigned lanes;
  alignas(64) std::array<std::uint32_t, kMaxLanes> states;

 private:
  StreamKind kind_;
};

inline std::uint32_t load_word(const std::uint8_t* at) noexcept {
  std::uint16_t word;
  std::memcpy(&word, at, sizeof word);
  return word;
}

// The tail of a decoding step: back into [kStateLow, kStateHigh).
inline std::uint32_t refill(std::uint32_t reduced, const std::uint8_t*& next) noexcept {
  const std::uint32_t refilled = reduced << kWordBits | load_word(next);
  const bool low = reduced < kStateLow;
  next += low ? 2 : 0;
  return low ? refilled : reduced;
}

// The head of an encoding step: above `bound` = frequency * 2^(31 - precision) the low word goes out first.
inline std::uint32_t shrink(std::uint32_t state, std::uint32_t bound, std::uint8_t*& next) noexcept {
  const bool high = state >= bound;
  const auto word = static_cast<std::uint16_t>(state);
  std::memcpy(next - 2, &word, sizeof word);
  next -= high ? 2 : 0;
  return high ? state >> kWordBits : state;
}

// Kernels of one instruction set and the lanes of its vectors: streams have as many or more.
template <typename Kernels>
struct LaneKernels {
  Kernels kernels;
  unsigned lanes;
};

}  // namespace fastlic

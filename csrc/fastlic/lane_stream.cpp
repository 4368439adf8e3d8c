#include "fastlic/lane_stream.hpp"

#include <algorithm>
#include <bit>

#include "fastlic/errors.hpp"
#include "fastlic/load_once.hpp"
#include "fastlic/memory.hpp"

namespace fastlic {
namespace {

constexpr std::size_t kHeaderBytes = 1;
constexpr unsigned kSideFlag = 8;
constexpr unsigned kKindShift = 4;

}  // namespace

unsigned choose_lanes(std::uint64_t payload_bytes) noexcept {
  constexpr std::uint64_t kBytesPerLane = 2000;  // 3 bytes in 2000 are 0.15 %
  unsigned lanes = 1;
  while (lanes < kMaxLanes && payload_bytes >= kBytesPerLane * 2 * lanes) lanes *= 2;
  return lanes;
}

unsigned resolve_lanes(unsigned lanes, std::uint64_t payload_bytes) {
  if (lanes > kMaxLanes || (lanes & (lanes - 1)) != 0) {
    throw InvalidArgument("lanes must be 0 or a power of two up to 64, got " + to_string(lanes));
  }
  return lanes == 0 ? choose_lanes(payload_bytes) : lanes;
}

LaneReader::LaneReader(const std::uint8_t* data, std::size_t size, StreamKind kind) : data_(data), size_(size) {
  if (size == 0) {  // no symbols; asking for any finds no words
    next = limit = tail_.data();
    in_tail_ = true;
    return;
  }
  const unsigned header = load_once(&data[0]);
  const unsigned log_lanes = header & 7u;
  if (header >> kKindShift != static_cast<unsigned>(kind) || (1u << log_lanes) > kMaxLanes) {
    throw CorruptStream("rANS stream: unknown header byte " + to_string(header));
  }
  lanes = 1u << log_lanes;
  const std::size_t words_begin = kHeaderBytes + 4 * std::size_t{lanes};
  if (size < words_begin) {
    throw CorruptStream("rANS stream: " + to_string(size) + " bytes cannot hold the states of " + to_string(lanes) +
                        " lanes");
  }
  for (unsigned lane = 0; lane < lanes; ++lane) {
    const std::uint8_t* at = data + kHeaderBytes + 4 * lane;
    const std::uint32_t state =
        std::uint32_t{at[0]} | std::uint32_t{at[1]} << 8 | std::uint32_t{at[2]} << 16 | std::uint32_t{at[3]} << 24;
    if (state < kStateLow || state >= kStateHigh) {
      throw CorruptStream("rANS stream: the state of lane " + to_string(lane) + " is out of range");
    }
    states[lane] = state;
  }
  if ((header & kSideFlag) != 0) side = SideReader(data, size, words_begin);
  next = data + words_begin;
  if (size - words_begin > kReadAhead) {
    limit = data + size - kReadAhead;
  } else {
    enter_tail();
  }
}

LaneReader& LaneReader::operator=(const LaneReader& other) {
  if (this == &other) return *this;
  next = other.next;
  limit = other.limit;
  lanes = other.lanes;
  side = other.side;
  states = other.states;
  data_ = other.data_;
  size_ = other.size_;
  tail_begin_ = other.tail_begin_;
  in_tail_ = other.in_tail_;
  tail_ = other.tail_;
  if (in_tail_) {
    next = tail_.data() + (other.next - other.tail_.data());
    limit = tail_.data() + (other.limit - other.tail_.data());
  }
  return *this;
}

void LaneReader::enter_tail() noexcept {
  tail_begin_ = static_cast<std::size_t>(next - data_);
  const std::size_t left = size_ - tail_begin_;
  std::copy_n(data_ + tail_begin_, left, tail_.data());  // the rest of tail_ stays zero
  next = tail_.data();
  limit = next + left;
  in_tail_ = true;
}

void LaneReader::throw_exhausted(std::uint64_t symbol) const {
  throw CorruptStream("rANS stream: its " + to_string(size_) + " bytes end before symbol " + to_string(symbol));
}

std::size_t LaneReader::words_end() const noexcept {
  return in_tail_ ? tail_begin_ + static_cast<std::size_t>(next - tail_.data())
                  : static_cast<std::size_t>(next - data_);
}

void LaneReader::finish() const {
  if (size_ == 0) return;
  for (unsigned lane = 0; lane < lanes; ++lane) {
    if (states[lane] != kStateLow) {
      throw CorruptStream("rANS stream: lane " + to_string(lane) + " does not end in the initial state");
    }
  }
  const bool has_side = (data_[0] & kSideFlag) != 0;
  const std::size_t end = has_side ? side.end_offset() : size_;
  if (words_end() != end || (has_side && !side.at_byte_boundary())) {
    throw CorruptStream("rANS stream: words end at byte " + to_string(words_end()) + ", expected byte " +
                        to_string(end));
  }
}

Vector<std::uint8_t> LaneWriter::finish() {
  const bool has_side = !side.empty();
  const std::size_t state_bytes = 4 * std::size_t{lanes};
  Vector<std::uint8_t> out;
  out.reserve(kHeaderBytes + state_bytes + words.size() + (has_side ? side.size_bound() : 0));
  out.push_back(static_cast<std::uint8_t>(static_cast<unsigned>(kind_) << kKindShift | (has_side ? kSideFlag : 0u) |
                                          static_cast<unsigned>(std::countr_zero(lanes))));
  for (unsigned lane = 0; lane < lanes; ++lane) {
    for (unsigned byte = 0; byte < 4; ++byte) out.push_back(static_cast<std::uint8_t>(states[lane] >> (8 * byte)));
  }
  out.insert(out.end(), words.begin(), words.begin() + words.size());
  if (has_side) {
    const Vector<std::uint8_t>& bytes = side.finish();
    out.insert(out.end(), bytes.begin(), bytes.end());
  }
  return out;
}

}  // namespace fastlic

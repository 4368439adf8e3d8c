// RansDecoder: header, blocks of symbols, end checks. The inner loops are in simd/.
#include <algorithm>
#include <bit>
#include <limits>
#include <string>
#include <type_traits>

#include "fastlic/isa.hpp"
#include "fastlic/rans.hpp"
#include "fastlic/simd/rans_kernels.hpp"

namespace fastlic {
namespace {

// Symbols between two looks at the side stream: one block of indexes and outputs stays in L1.
constexpr std::size_t kBlock = 2048;
static_assert(kBlock % kMaxLanes == 0);

constexpr std::size_t kHeaderBytes = 1;

}  // namespace

RansDecoder::RansDecoder(const std::uint8_t* data, std::size_t size, const CdfTables& tables)
    : tables_(&tables), data_(data), size_(size) {
  if (size == 0) {  // no symbols; decode() of any would find no words
    next_ = tail_.data();
    limit_ = next_;
    in_tail_ = true;
    states_.fill(0);
    return;
  }
  const unsigned header = data[0];
  const unsigned log_lanes = header & 7u;
  if ((header & 0xF0u) != 0 || (1u << log_lanes) > kMaxLanes) {
    throw CorruptStream("rANS stream: unknown header byte " + std::to_string(header));
  }
  lanes_ = 1u << log_lanes;
  const std::size_t words_begin = kHeaderBytes + 4 * std::size_t{lanes_};
  if (size < words_begin) {
    throw CorruptStream("rANS stream: " + std::to_string(size) + " bytes cannot hold the states of " +
                        std::to_string(lanes_) + " lanes");
  }
  for (unsigned lane = 0; lane < lanes_; ++lane) {
    const std::uint8_t* at = data + kHeaderBytes + 4 * lane;
    const std::uint32_t state =
        std::uint32_t{at[0]} | std::uint32_t{at[1]} << 8 | std::uint32_t{at[2]} << 16 | std::uint32_t{at[3]} << 24;
    if (state < kStateLow || state >= kStateHigh) {
      throw CorruptStream("rANS stream: the state of lane " + std::to_string(lane) + " is out of range");
    }
    states_[lane] = state;
  }
  if ((header & 8u) != 0) side_ = SideReader(data, size, words_begin);
  next_ = data + words_begin;
  if (size - words_begin > kReadAhead) {
    limit_ = data + size - kReadAhead;
  } else {
    enter_tail();
  }
}

void RansDecoder::enter_tail() noexcept {
  tail_begin_ = static_cast<std::size_t>(next_ - data_);
  const std::size_t left = size_ - tail_begin_;
  std::copy_n(data_ + tail_begin_, left, tail_.data());  // the rest of tail_ stays zero
  next_ = tail_.data();
  limit_ = next_ + left;
  in_tail_ = true;
}

std::size_t RansDecoder::words_end() const noexcept {
  return in_tail_ ? tail_begin_ + static_cast<std::size_t>(next_ - tail_.data())
                  : static_cast<std::size_t>(next_ - data_);
}

// Decodes `count` symbols to the kernels' int8 values, whatever lane the stream stands at.
template <typename Symbol>
void RansDecoder::decode_words(const std::uint8_t* indexes, Symbol* out, std::size_t count, bool& escaped) {
  const simd::RansKernels& kernels = simd::rans_kernels(active_isa(), lanes_);
  simd::DecodeJob job{states_.data(), lanes_, tables_->decode_words(), tables_->precision(), next_, limit_};
  std::size_t lane = decoded_ % lanes_;
  for (std::size_t done = 0; done < count;) {
    if (job.next > job.limit) {
      next_ = job.next;
      if (in_tail_) {
        throw CorruptStream("rANS stream: its " + std::to_string(size_) + " bytes end before symbol " +
                            std::to_string(decoded_ + done));
      }
      enter_tail();
      job.next = next_;
      job.limit = limit_;
      continue;
    }
    if (lane == 0 && count - done >= lanes_) {
      const std::size_t groups = (count - done) / lanes_;
      if constexpr (std::is_same_v<Symbol, std::int16_t>) {
        done += lanes_ * kernels.decode16(job, indexes + done, out + done, groups);
      } else {
        done += lanes_ * kernels.decode32(job, indexes + done, out + done, groups);
      }
      continue;
    }
    const std::uint32_t* row = job.slots + (std::size_t{indexes[done]} << job.precision);
    const int value = simd::decode_step(states_[lane], job.next, row, job.precision);
    job.escaped |= value == kEscapeValue;
    out[done++] = static_cast<Symbol>(value);
    lane = lane + 1 == lanes_ ? 0 : lane + 1;
  }
  next_ = job.next;
  // Kernels look at the limit before a group only; what the last group took must have been there, too.
  if (in_tail_ && next_ > limit_) {
    throw CorruptStream("rANS stream: its " + std::to_string(size_) + " bytes end before symbol " +
                        std::to_string(decoded_ + count));
  }
  escaped = job.escaped;
}

// Completes the symbols of special rows and the escapes, in stream order.
template <typename Symbol>
void RansDecoder::apply_side(const std::uint8_t* indexes, Symbol* out, std::size_t count, bool escaped) {
  const simd::BlockKernels& kernels = simd::block_kernels(active_isa());
  std::array<std::uint64_t, kBlock / 64> marks{};
  const unsigned first = tables_->first_special_row();
  if (first < kMaxRows) kernels.mark_rows(indexes, count, first, marks.data());
  if (escaped) {
    if constexpr (std::is_same_v<Symbol, std::int16_t>) {
      kernels.mark_escapes16(out, count, marks.data());
    } else {
      kernels.mark_escapes32(out, count, marks.data());
    }
  }
  for (std::size_t block = 0; block < count; block += 64) {
    for (std::uint64_t left = marks[block / 64]; left != 0; left &= left - 1) {
      const std::size_t i = block + static_cast<unsigned>(std::countr_zero(left));
      complete(tables_->row(indexes[i]), out[i], decoded_ + i);
    }
  }
}

template <typename Symbol>
void RansDecoder::complete(const CdfRow& row, Symbol& out, std::uint64_t position) {
  if (row.plain && out != kEscapeValue) return;
  const std::int64_t raw = row.shift == 0 ? 0 : side_.pop(row.shift);
  std::int64_t t = std::int64_t{out} + row.base;
  if (out == kEscapeValue) {
    const std::uint64_t code = side_.pop_gamma();
    const auto distance = static_cast<std::int64_t>(code >> 1);
    t = (code & 1u) != 0 ? row.offset - 1 - distance : std::int64_t{row.offset} + row.size + distance;
  }
  const std::int64_t symbol = t * (std::int64_t{1} << row.shift) + raw;
  if (symbol < std::numeric_limits<Symbol>::min() || symbol > std::numeric_limits<Symbol>::max()) {
    throw CorruptStream("rANS stream: symbol " + std::to_string(position) + " does not fit the output type");
  }
  out = static_cast<Symbol>(symbol);
}

template <typename Symbol>
void RansDecoder::decode_blocks(const std::uint8_t* indexes, Symbol* out, std::size_t count) {
  while (count > 0) {
    const std::size_t block = std::min(count, kBlock);
    const unsigned top = simd::block_kernels(active_isa()).max_index(indexes, block);
    if (top >= tables_->rows()) tables_->check_indexes(indexes, block);
    bool escaped = false;
    decode_words(indexes, out, block, escaped);
    if (escaped || top >= tables_->first_special_row()) apply_side(indexes, out, block, escaped);
    decoded_ += block;
    indexes += block;
    out += block;
    count -= block;
  }
}

void RansDecoder::decode(const std::uint8_t* indexes, std::int16_t* out, std::size_t count) {
  decode_blocks(indexes, out, count);
}

void RansDecoder::decode(const std::uint8_t* indexes, std::int32_t* out, std::size_t count) {
  decode_blocks(indexes, out, count);
}

void RansDecoder::finish() const {
  if (size_ == 0) return;
  for (unsigned lane = 0; lane < lanes_; ++lane) {
    if (states_[lane] != kStateLow) {
      throw CorruptStream("rANS stream: lane " + std::to_string(lane) + " does not end in the initial state");
    }
  }
  const bool has_side = (data_[0] & 8u) != 0;
  const std::size_t end = has_side ? side_.end_offset() : size_;
  if (words_end() != end || (has_side && !side_.at_byte_boundary())) {
    throw CorruptStream("rANS stream: words end at byte " + std::to_string(words_end()) + ", expected byte " +
                        std::to_string(end));
  }
}

}  // namespace fastlic

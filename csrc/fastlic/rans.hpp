// Native entropy coder: interleaved rANS with one table row per symbol. The stream is specified in docs/stream.md.
//
//     byte 0          bits 0..2 log2 of the lane count N | bit 3 side stream present | bits 4..7 zero
//     4N bytes        lane states, u32, little endian, lane 0 first
//     2W bytes        words, u16, little endian, in the order in which the decoder needs them
//     S bytes         side stream (raw bits and escapes), read from its last byte backwards
//
// Nothing stores W or S: the words and the side stream grow towards each other and must meet exactly. No symbols, no
// bytes.
//
// Symbol i belongs to lane i mod N; after each symbol its lane takes a word if its state fell below kStateLow. That
// rule is the whole schedule: the scalar loop does it one symbol at a time, SIMD code 8 or 16 at a time, with the same
// words.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "fastlic/cdf_tables.hpp"
#include "fastlic/side_stream.hpp"

namespace fastlic {

constexpr unsigned kWordBits = 16;
// States live in [2^15, 2^31): one word per refill, and the sign bit stays clear, which AVX2 needs for its compares and
// which lets a float quotient be off by at most one (simd/rans_kernels.hpp).
constexpr std::uint32_t kStateLow = 1u << 15;
constexpr std::uint32_t kStateHigh = kStateLow << kWordBits;
static_assert(std::uint64_t{kStateLow} << kWordBits == std::uint64_t{1} << 31);

constexpr unsigned kMaxLanes = 64;

// Encodes `count` symbols; `lanes` is a power of two up to 64, or 0 to choose by the estimated size (choose_lanes).
// Symbol is std::int16_t or std::int32_t; every value of the type survives.
template <typename Symbol>
std::vector<std::uint8_t> rans_encode(const Symbol* symbols, const std::uint8_t* indexes, std::size_t count,
                                      const CdfTables& tables, unsigned lanes = 0);

// A lane adds about 3 bytes (4 of state, which carry some 8 bits of the message). The count is the largest power of two
// whose lanes cost at most 0.15 % of `payload_bytes`.
unsigned choose_lanes(std::uint64_t payload_bytes) noexcept;

// Decodes a stream in pieces of any size. The pieces' symbols come out in the order in which rans_encode got them.
//
//     RansDecoder decoder(data, size, tables);   // checks the header
//     decoder.decode(indexes, out, n);           // any number of times, e.g. once per wavefront step
//     decoder.finish();                          // throws if anything is left over or the end does not fit
//
// Throws CorruptStream where the bytes cannot be right, std::invalid_argument for an index outside the tables.
// `data` and `tables` must outlive the decoder. Fastest when n is a multiple of the lane count.
class RansDecoder {
 public:
  RansDecoder(const std::uint8_t* data, std::size_t size, const CdfTables& tables);

  void decode(const std::uint8_t* indexes, std::int16_t* out, std::size_t count);
  void decode(const std::uint8_t* indexes, std::int32_t* out, std::size_t count);
  void finish() const;

  unsigned lanes() const noexcept { return lanes_; }
  std::uint64_t decoded() const noexcept { return decoded_; }

 private:
  template <typename Symbol>
  void decode_blocks(const std::uint8_t* indexes, Symbol* out, std::size_t count);
  template <typename Symbol>
  void decode_words(const std::uint8_t* indexes, Symbol* out, std::size_t count, bool& escaped);
  template <typename Symbol>
  void apply_side(const std::uint8_t* indexes, Symbol* out, std::size_t count, bool escaped);
  template <typename Symbol>
  void complete(const CdfRow& row, Symbol& out, std::uint64_t position);

  void enter_tail() noexcept;
  std::size_t words_end() const noexcept;  // offset of the first unread word in the stream

  const CdfTables* tables_;
  const std::uint8_t* data_;
  std::size_t size_;
  SideReader side_;
  unsigned lanes_ = 1;
  std::uint64_t decoded_ = 0;
  alignas(64) std::array<std::uint32_t, kMaxLanes> states_{};

  // Kernels read words ahead without looking at the end: they may start a group of symbols while next_ <= limit_, and
  // kReadAhead bytes are readable from there. For the end of the stream, the last bytes are copied to a padded buffer.
  static constexpr std::size_t kReadAhead = kMaxLanes * kWordBits / 8;
  const std::uint8_t* next_ = nullptr;
  const std::uint8_t* limit_ = nullptr;
  std::size_t tail_begin_ = 0;  // offset in the stream of tail_[0]
  bool in_tail_ = false;
  std::array<std::uint8_t, 3 * kReadAhead> tail_{};
};

}  // namespace fastlic

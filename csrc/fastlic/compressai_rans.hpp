// CompressAI's entropy coder, byte for byte: one 64-bit rANS state, 32-bit words, 16-bit tables, nibble escapes.
//
// Stream: state (u64, little endian, i.e. low word first), then words in the order of decoding. No length, no checksum.
// A symbol s of row k is coded as slot v = s - offset; values outside 0..M-1 (M = row length - 2) take slot M and then
// nibbles of 4 bits: how many nibbles the zig-zag value has, then the nibbles, lowest first.
//
// Only the integers are fixed by compatibility. Ours: flat records with reciprocals in place of a 64-bit division, a
// 256-bucket table in place of a scan from slot 0, reads that know the end, and any int32 as a symbol.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "fastlic/memory.hpp"
#include "fastlic/rans64.hpp"
#include "fastlic/word_buffer.hpp"

namespace fastlic {

class CompressAiTables {
 public:
  // cdf: [rows][columns], as in a model's _quantized_cdf; lengths: [rows] used entries; offsets: [rows].
  // Throws std::invalid_argument unless each used row runs strictly upwards from 0 to 65536.
  CompressAiTables(std::span<const std::int32_t> cdf, std::size_t columns, std::span<const std::int32_t> lengths,
                   std::span<const std::int32_t> offsets);

  static constexpr unsigned kPrecision = 16;
  static constexpr unsigned kBucketBits = 8;  // 64 rows of 256 buckets are 128 kB: half of a small L2

  struct EncodeRecord {
    Reciprocal reciprocal;
    std::uint16_t start;
    std::uint16_t frequency;  // at most 65535: every row has at least two slots
  };

  struct Row {
    std::uint32_t begin;   // of its slots in records() and starts()
    std::uint32_t escape;  // slot M
    std::int32_t offset;
    std::uint32_t zero_start;      // the slot of symbol 0, or of the escape if 0 is outside the window: tried first,
    std::uint32_t zero_frequency;  // because its bounds depend on the index alone and most symbols are zeros
    std::uint32_t zero_slot;
  };

  // What a bucket (the slots of 256 consecutive code points) knows: its only slot, or its first one.
  struct Bucket {
    std::uint16_t start;
    std::uint16_t frequency;  // 0: the bucket holds several slots, search from `slot`
    std::uint32_t slot;
  };

  std::span<const Row> rows() const noexcept { return rows_; }
  const EncodeRecord* records() const noexcept { return records_.data(); }
  const std::uint32_t* starts() const noexcept { return starts_.data(); }  // one more per row: 65536
  const Bucket* buckets() const noexcept { return buckets_.data(); }       // [rows][256]

 private:
  void add_row(std::span<const std::int32_t> cdf, std::int32_t offset);

  Vector<Row> rows_;
  Vector<EncodeRecord> records_;
  Vector<std::uint32_t> starts_;
  Vector<Bucket> buckets_;
};

// Index is std::uint8_t or std::int32_t. Throws std::invalid_argument for an index that names no row.
template <typename Index>
Vector<std::uint8_t> compressai_encode(const std::int32_t* symbols, const Index* indexes, std::size_t count,
                                       const CompressAiTables& tables);

// A stream made from its end: the last piece is put first, and each has tables of its own.
class CompressAiEncoder {
 public:
  explicit CompressAiEncoder(std::size_t count = 0) : words_(count / 4 + 4096) {}

  // Throws std::invalid_argument for an index that names no row: what was put then is of no use.
  template <typename Index>
  void put(const std::int32_t* symbols, const Index* indexes, std::size_t count, const CompressAiTables& tables);

  Vector<std::uint8_t> finish() const { return rans64_stream(state_, words_); }

 private:
  template <typename Index>
  void put_block(const std::int32_t* symbols, const Index* indexes, std::size_t count, const CompressAiTables& tables);

  WordBuffer words_;
  std::uint64_t state_ = kState64Low;
};

// A stream and where decoding stands. Bytes and tables must outlive it.
class CompressAiDecoder {
 public:
  CompressAiDecoder(const std::uint8_t* data, std::size_t size) : decoder_(data, size) {}

  template <typename Index>
  void decode(const Index* indexes, std::int32_t* out, std::size_t count, const CompressAiTables& tables);

  // Throws CorruptStream unless every word was used and the state is the encoder's first: CompressAI itself never
  // looks.
  void finish() const { decoder_.finish(); }

  // Four streams in lock-step: the serial chains of four decoders overlap in one core. Symbols of stream i: counts[i].
  template <typename Index>
  static void decode_four(CompressAiDecoder* const decoders[4], const Index* const indexes[4],
                          std::int32_t* const out[4], const std::size_t counts[4], const CompressAiTables& tables);

 private:
  template <unsigned Streams, typename Index>
  static void decode_lockstep(CompressAiDecoder* const* decoders, const Index* const* indexes, std::int32_t* const* out,
                              std::size_t count, const CompressAiTables& tables);

  Rans64Decoder decoder_;
};

}  // namespace fastlic

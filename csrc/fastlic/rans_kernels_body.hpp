// The native coder's loops, for each instruction set (simd/for_each_target.hpp).
namespace fastlic {
namespace {
namespace FASTLIC_SET {

namespace v = simd::FASTLIC_SET;
using v::Ints, v::Uints;

template <typename Symbol>
FASTLIC_INLINE Ints decode_vector(const DecodeJob& job, Ints state, const std::uint8_t* index,
                                  const std::uint8_t*& next, Ints& lowest, Symbol* out) {
  const int precision = static_cast<int>(job.precision);
  const Ints slot = v::load_bytes(index) << precision | (state & ((1 << precision) - 1));
  const Ints packed = v::load_each(job.slots, slot);
  const Ints frequency = (packed >> static_cast<int>(kFieldBits)) & static_cast<int>(kFieldMask);
  const Ints values = packed >> static_cast<int>(2 * kFieldBits);
  const Ints reduced = frequency * (state >> precision) + (packed & static_cast<int>(kFieldMask));
  lowest = v::least(lowest, values);
  v::store_single(values, out);
  return v::take_words(reduced, static_cast<std::int32_t>(kStateLow), next);
}

FASTLIC_INLINE Ints encode_vector(const EncodeJob& job, Ints state, const std::uint8_t* indexes,
                                  const std::int8_t* values, std::size_t at, std::uint8_t*& next) {
  const int precision = static_cast<int>(job.precision);
  const Ints column = v::load_bytes(reinterpret_cast<const std::uint8_t*>(values) + at);
  const Ints packed = v::load_each(job.words, v::load_bytes(indexes + at) << 8 | column);
  const Ints flag = v::all<Ints>(static_cast<int>(kEncodeEscapeFlag));
  const unsigned escapes = v::equal_bits(packed & flag, flag);
  if constexpr (v::kLanes >= 8) {
    std::memcpy(job.marks + at / 8, &escapes, v::kLanes / 8);
  } else {
    job.marks[at / 8] = static_cast<std::uint8_t>(job.marks[at / 8] | escapes << at % 8);
  }
  const Ints frequency = packed & static_cast<int>(kFieldMask);
  const Ints start = (packed >> static_cast<int>(kFieldBits)) & static_cast<int>(kFieldMask);
  // frequency <= 4095 keeps the bound below 2^31: signed comparisons are right.
  const Ints x = v::give_words(state, frequency << (31 - precision), next);
  // The quotient is below 2^(31 - precision) <= 2^21 and two roundings are off by 2^-24 (2^-23 if both go down) each:
  // the guess is at most one off, either way unless both go down.
  const Ints guess = v::quotient(x, frequency);
  // state = x + start + q * (total - f), with q one larger if the remainder under the guess is still f or more.
  const Ints remainder = x - guess * frequency, gain = (1 << precision) - frequency;
  Uints coded = Uints(remainder + start) + (Uints(guess) << precision);
  coded += Uints(remainder >= frequency ? gain : Ints{});
  if constexpr (!v::kQuotientNeverAbove) coded -= Uints(remainder < 0 ? gain : Ints{});
  return Ints(coded);
}

// V vectors of states stay in registers; 0: more than there are registers for, so they stay in memory. The dependency
// from one refill to the next is only the word pointer (compare, count, add); look-ups of vectors overlap.
template <unsigned V, typename Symbol>
[[FASTLIC_TARGET]] std::size_t decode_vectors(DecodeJob& job, const std::uint8_t* indexes, Symbol* out,
                                              std::size_t groups) {
  const DecodeJob copy = job;  // which stores to `out` cannot change
  auto* memory = reinterpret_cast<std::int32_t*>(job.states);
  Ints states[V == 0 ? 1 : V], lowest = {};
#pragma GCC unroll 8
  for (unsigned i = 0; i < V; ++i) states[i] = v::load(memory + i * v::kLanes);
  const std::uint8_t* next = copy.next;
  std::size_t done = 0;
  for (; done < groups && next <= copy.limit; ++done) {
    if constexpr (V == 0) {
      for (unsigned lane = 0; lane < copy.lanes; lane += v::kLanes) {
        v::store(decode_vector(copy, v::load(memory + lane), indexes + lane, next, lowest, out + lane), memory + lane);
      }
    } else {
#pragma GCC unroll 8
      for (unsigned i = 0; i < V; ++i) {
        states[i] = decode_vector(copy, states[i], indexes + i * v::kLanes, next, lowest, out + i * v::kLanes);
      }
    }
    indexes += copy.lanes;
    out += copy.lanes;
  }
#pragma GCC unroll 8
  for (unsigned i = 0; i < V; ++i) v::store(states[i], memory + i * v::kLanes);
  job.next = next;
  job.escaped |= v::equal_bits(lowest, v::all<Ints>(kEscapeValue)) != 0;
  return done;
}

template <typename Symbol>
std::size_t decode_groups(DecodeJob& job, const std::uint8_t* indexes, Symbol* out, std::size_t groups) {
  switch (job.lanes / v::kLanes) {
    case 1: return decode_vectors<1>(job, indexes, out, groups);
    case 2: return decode_vectors<2>(job, indexes, out, groups);
    case 4: return decode_vectors<4>(job, indexes, out, groups);
    default: return decode_vectors<0>(job, indexes, out, groups);
  }
}

template <unsigned V>
[[FASTLIC_TARGET]] void encode_vectors(EncodeJob& job, const std::uint8_t* indexes, const std::int8_t* values,
                                       std::size_t groups) {
  const EncodeJob copy = job;
  auto* memory = reinterpret_cast<std::int32_t*>(job.states);
  Ints states[V == 0 ? 1 : V];
#pragma GCC unroll 8
  for (unsigned i = 0; i < V; ++i) states[i] = v::load(memory + i * v::kLanes);
  std::uint8_t* next = copy.next;
  for (std::size_t end = groups * copy.lanes; end > 0; end -= copy.lanes) {
    if constexpr (V == 0) {
      for (std::size_t lane = copy.lanes; lane > 0;) {
        lane -= v::kLanes;
        const std::size_t at = end - copy.lanes + lane;
        v::store(encode_vector(copy, v::load(memory + lane), indexes, values, at, next), memory + lane);
      }
    } else {
#pragma GCC unroll 8
      for (unsigned i = 1; i <= V; ++i) {
        states[V - i] = encode_vector(copy, states[V - i], indexes, values, end - i * v::kLanes, next);
      }
    }
  }
#pragma GCC unroll 8
  for (unsigned i = 0; i < V; ++i) v::store(states[i], memory + i * v::kLanes);
  job.next = next;
}

void encode_groups(EncodeJob& job, const std::uint8_t* indexes, const std::int8_t* values, std::size_t groups) {
  switch (job.lanes / v::kLanes) {
    case 1: return encode_vectors<1>(job, indexes, values, groups);
    case 2: return encode_vectors<2>(job, indexes, values, groups);
    case 4: return encode_vectors<4>(job, indexes, values, groups);
    default: return encode_vectors<0>(job, indexes, values, groups);
  }
}

template <typename Symbol>
[[FASTLIC_TARGET]] void narrow(const Symbol* symbols, std::size_t count, std::int8_t* values) {
  for (std::size_t i = 0; i < count; ++i) {
    const Symbol low = std::max<Symbol>(symbols[i], kEscapeValue);
    values[i] = static_cast<std::int8_t>(low > 127 ? Symbol{kEscapeValue} : low);
  }
}

[[FASTLIC_TARGET]] unsigned copy_indexes(const std::uint8_t* __restrict from, std::size_t count,
                                         std::uint8_t* __restrict to) {
  std::uint8_t top = 0;
#pragma GCC unroll 4  // which pays for the copy
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint8_t index = from[i];
    to[i] = index;
    top = std::max(top, index);
  }
  return top;
}

[[FASTLIC_TARGET]] void mark_rows(const std::uint8_t* indexes, std::size_t count, unsigned row, std::uint64_t* marks) {
  std::size_t i = 0;
  for (; i + v::kByteLanes <= count; i += v::kByteLanes) {
    const auto some = v::load_as<v::Bytes>(indexes + i) >= static_cast<std::uint8_t>(row);
    marks[i / 64] |= v::byte_bits(some) << i % 64;
  }
  for (; i < count; ++i) marks[i / 64] |= std::uint64_t{indexes[i] >= row} << i % 64;
}

[[FASTLIC_TARGET]] void mark_escapes16(const std::int16_t* values, std::size_t count, std::uint64_t* marks) {
  std::size_t i = 0;
  for (; i + v::kWordLanes <= count; i += v::kWordLanes) {
    marks[i / 64] |= v::word_bits(v::load(values + i) == std::int16_t{kEscapeValue}) << i % 64;
  }
  for (; i < count; ++i) marks[i / 64] |= std::uint64_t{values[i] == kEscapeValue} << i % 64;
}

[[FASTLIC_TARGET]] void mark_escapes32(const std::int32_t* values, std::size_t count, std::uint64_t* marks) {
  std::size_t i = 0;
  for (; i + v::kLanes <= count; i += v::kLanes) {
    marks[i / 64] |= std::uint64_t{v::equal_bits(v::load(values + i), v::all<Ints>(kEscapeValue))} << i % 64;
  }
  for (; i < count; ++i) marks[i / 64] |= std::uint64_t{values[i] == kEscapeValue} << i % 64;
}

constexpr LaneKernels<RansKernels> kRans = {{decode_groups<std::int16_t>, decode_groups<std::int32_t>, encode_groups},
                                            v::kLanes};
constexpr BlockKernels kBlocks = {narrow<std::int16_t>, narrow<std::int32_t>, copy_indexes, mark_rows,
                                  mark_escapes16,       mark_escapes32};

}  // namespace FASTLIC_SET
}  // namespace
}  // namespace fastlic

#include "fastlic/rans_kernels.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#define FASTLIC_BODY "fastlic/rans_kernels_body.hpp"
#include "fastlic/simd/for_each_target.hpp"

namespace fastlic {
namespace {

// By hand where a stream has fewer lanes than vectors have, or there are no vectors: reciprocals in place of divisions,
// and few lanes in registers.

constexpr std::array<std::uint64_t, kFieldMask + 1> make_reciprocals() {
  std::array<std::uint64_t, kFieldMask + 1> table{};
  for (std::uint64_t f = 1; f <= kFieldMask; ++f) table[f] = ((std::uint64_t{1} << kReciprocalBits) + f - 1) / f;
  return table;
}
constexpr std::array<std::uint64_t, kFieldMask + 1> kReciprocalTable = make_reciprocals();

// With few lanes the states live in registers and their chains overlap; N is known so that the inner loop unrolls.
template <unsigned N, typename Symbol>
std::size_t decode_in_registers(DecodeJob& job, const std::uint8_t* indexes, Symbol* out, std::size_t groups) {
  std::array<std::uint32_t, N> states;
  std::memcpy(states.data(), job.states, sizeof states);
  const std::uint8_t* next = job.next;
  const unsigned precision = job.precision;
  int lowest = 0;
  std::size_t done = 0;
  for (; done < groups && next <= job.limit; ++done) {
    for (unsigned lane = 0; lane < N; ++lane) {
      const std::uint32_t* row = job.slots + (std::size_t{indexes[lane]} << precision);
      const int value = decode_step(states[lane], next, row, precision);
      out[lane] = static_cast<Symbol>(value);
      lowest = value < lowest ? value : lowest;
    }
    indexes += N;
    out += N;
  }
  std::memcpy(job.states, states.data(), sizeof states);
  job.next = next;
  job.escaped |= lowest == kEscapeValue;
  return done;
}

template <typename Symbol>
std::size_t decode_any(DecodeJob& job, const std::uint8_t* indexes, Symbol* out, std::size_t groups) {
  const unsigned lanes = job.lanes;
  int lowest = 0;
  std::size_t done = 0;
  for (; done < groups && job.next <= job.limit; ++done) {
    for (unsigned lane = 0; lane < lanes; ++lane) {
      const std::uint32_t* row = job.slots + (std::size_t{indexes[lane]} << job.precision);
      const int value = decode_step(job.states[lane], job.next, row, job.precision);
      out[lane] = static_cast<Symbol>(value);
      lowest = value < lowest ? value : lowest;
    }
    indexes += lanes;
    out += lanes;
  }
  job.escaped |= lowest == kEscapeValue;
  return done;
}

template <typename Symbol>
std::size_t decode_groups(DecodeJob& job, const std::uint8_t* indexes, Symbol* out, std::size_t groups) {
  switch (job.lanes) {
    case 1: return decode_in_registers<1>(job, indexes, out, groups);
    case 2: return decode_in_registers<2>(job, indexes, out, groups);
    case 4: return decode_in_registers<4>(job, indexes, out, groups);
    case 8: return decode_in_registers<8>(job, indexes, out, groups);
    default: return decode_any(job, indexes, out, groups);
  }
}

template <unsigned N>
void encode_in_registers(EncodeJob& job, const std::uint8_t* indexes, const std::int8_t* values, std::size_t groups) {
  std::array<std::uint32_t, N> states;
  std::memcpy(states.data(), job.states, sizeof states);
  std::uint8_t* next = job.next;
  for (std::size_t i = groups * N; i > 0; i -= N) {
    for (unsigned lane = N; lane-- > 0;) {
      const std::size_t at = i - N + lane;
      const std::uint32_t packed = job.words[std::size_t{indexes[at]} << 8 | static_cast<std::uint8_t>(values[at])];
      if ((packed & kEncodeEscapeFlag) != 0) job.marks[at / 8] |= static_cast<std::uint8_t>(1u << at % 8);
      encode_step(states[lane], next, packed, job.precision);
    }
  }
  std::memcpy(job.states, states.data(), sizeof states);
  job.next = next;
}

void encode_any(EncodeJob& job, const std::uint8_t* indexes, const std::int8_t* values, std::size_t groups) {
  for (std::size_t i = groups * job.lanes; i-- > 0;) {
    const std::uint32_t packed = job.words[std::size_t{indexes[i]} << 8 | static_cast<std::uint8_t>(values[i])];
    if ((packed & kEncodeEscapeFlag) != 0) job.marks[i / 8] |= static_cast<std::uint8_t>(1u << i % 8);
    encode_step(job.states[i % job.lanes], job.next, packed, job.precision);
  }
}

void encode_groups(EncodeJob& job, const std::uint8_t* indexes, const std::int8_t* values, std::size_t groups) {
  switch (job.lanes) {
    case 1: return encode_in_registers<1>(job, indexes, values, groups);
    case 2: return encode_in_registers<2>(job, indexes, values, groups);
    case 4: return encode_in_registers<4>(job, indexes, values, groups);
    case 8: return encode_in_registers<8>(job, indexes, values, groups);
    default: return encode_any(job, indexes, values, groups);
  }
}

constexpr RansKernels kSingle = {decode_groups<std::int16_t>, decode_groups<std::int32_t>, encode_groups};

const LaneKernels<RansKernels>& widest(Isa isa) { FASTLIC_CHOOSE(isa, kRans); }

}  // namespace

const std::uint64_t* const kReciprocals = kReciprocalTable.data();

const RansKernels& rans_kernels(Isa isa, unsigned lanes) noexcept {
#if defined(__x86_64__)
  if (isa >= Isa::avx512 && lanes < avx512::kRans.lanes) isa = Isa::avx2;
#endif
  const LaneKernels<RansKernels>& best = widest(isa);
  return isa == Isa::scalar || lanes < best.lanes ? kSingle : best.kernels;
}

const BlockKernels& block_kernels(Isa isa) noexcept { FASTLIC_CHOOSE(isa, kBlocks); }

}  // namespace fastlic

// AVX2 loops of the native coder: 8 lanes to a vector, up to four vectors in flight.
#if defined(__x86_64__)

#include <immintrin.h>

#include "fastlic/simd/block_bodies.hpp"
#include "fastlic/simd/permutations_avx2.hpp"
#include "fastlic/simd/rans_kernels.hpp"

#define FASTLIC_AVX2 gnu::target("avx2,bmi2,popcnt")

namespace fastlic::simd {
namespace {

constexpr unsigned kWidth = 8;

[[FASTLIC_AVX2]] inline __m256i permutation(const Avx2Permutations& table, unsigned mask) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(table[mask].data()));
}

[[FASTLIC_AVX2]] inline unsigned mask_of(__m256i lanes) {
  return static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(lanes)));
}

// Eight plain loads: faster than a gather on every processor with the gather mitigation, and on AMD.
[[FASTLIC_AVX2]] inline __m256i load_each(const std::uint32_t* table, __m256i at) {
  alignas(32) std::uint32_t index[kWidth];
  _mm256_store_si256(reinterpret_cast<__m256i*>(index), at);
  return _mm256_setr_epi32(static_cast<int>(table[index[0]]), static_cast<int>(table[index[1]]),
                           static_cast<int>(table[index[2]]), static_cast<int>(table[index[3]]),
                           static_cast<int>(table[index[4]]), static_cast<int>(table[index[5]]),
                           static_cast<int>(table[index[6]]), static_cast<int>(table[index[7]]));
}

[[FASTLIC_AVX2]] inline __m256i load_bytes(const void* at) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(at)));
}

// Low 16 bits of each lane. Values are in int16 range where `packs` may saturate.
[[FASTLIC_AVX2]] inline void store(std::int16_t* out, __m256i values) {
  const __m128i packed = _mm_packs_epi32(_mm256_castsi256_si128(values), _mm256_extracti128_si256(values, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), packed);
}

[[FASTLIC_AVX2]] inline void store(std::int32_t* out, __m256i values) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), values);
}

template <unsigned V, typename Symbol>
[[FASTLIC_AVX2]] std::size_t decode_vectors(DecodeJob& job, const std::uint8_t* indexes, Symbol* out,
                                            std::size_t groups) {
  const unsigned vectors = job.lanes / kWidth;
  __m256i states[V];
  const std::uint8_t* next = job.next;
  const __m128i precision = _mm_cvtsi32_si128(static_cast<int>(job.precision));
  const __m256i slot_mask = _mm256_set1_epi32((1 << job.precision) - 1);
  const __m256i field_mask = _mm256_set1_epi32(static_cast<int>(kFieldMask));
  const __m256i low = _mm256_set1_epi32(static_cast<int>(kStateLow));
  const __m256i escape = _mm256_set1_epi32(kEscapeValue);
  __m256i escapes = _mm256_setzero_si256();

  const auto step = [&](__m256i state, const std::uint8_t* index,
                        Symbol* to) __attribute__((always_inline, target("avx2,bmi2,popcnt"))) {
    const __m256i slot =
        _mm256_or_si256(_mm256_sll_epi32(load_bytes(index), precision), _mm256_and_si256(state, slot_mask));
    const __m256i packed = load_each(job.slots, slot);
    const __m256i frequency = _mm256_and_si256(_mm256_srli_epi32(packed, kFieldBits), field_mask);
    const __m256i within = _mm256_and_si256(packed, field_mask);
    const __m256i reduced = _mm256_add_epi32(_mm256_mullo_epi32(frequency, _mm256_srl_epi32(state, precision)), within);
    const __m256i refill = _mm256_cmpgt_epi32(low, reduced);
    const unsigned mask = mask_of(refill);
    const __m256i words = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(next)));
    const __m256i spread = _mm256_permutevar8x32_epi32(words, permutation(kAvx2Expand, mask));
    next += 2 * static_cast<unsigned>(_mm_popcnt_u32(mask));
    const __m256i values = _mm256_srai_epi32(packed, 2 * kFieldBits);
    escapes = _mm256_or_si256(escapes, _mm256_cmpeq_epi32(values, escape));
    store(to, values);
    return _mm256_blendv_epi8(reduced, _mm256_or_si256(_mm256_slli_epi32(reduced, kWordBits), spread), refill);
  };

  std::size_t done = 0;
  if (vectors == V) {
    for (unsigned v = 0; v < V; ++v) {
      states[v] = _mm256_load_si256(reinterpret_cast<const __m256i*>(job.states + v * kWidth));
    }
    for (; done < groups && next <= job.limit; ++done) {
      for (unsigned v = 0; v < V; ++v) states[v] = step(states[v], indexes + v * kWidth, out + v * kWidth);
      indexes += V * kWidth;
      out += V * kWidth;
    }
    for (unsigned v = 0; v < V; ++v) {
      _mm256_store_si256(reinterpret_cast<__m256i*>(job.states + v * kWidth), states[v]);
    }
  } else {  // 64 lanes: more states than registers, so they stay in memory
    for (; done < groups && next <= job.limit; ++done) {
      for (unsigned v = 0; v < vectors; ++v) {
        auto* state = reinterpret_cast<__m256i*>(job.states + v * kWidth);
        _mm256_store_si256(state, step(_mm256_load_si256(state), indexes + v * kWidth, out + v * kWidth));
      }
      indexes += job.lanes;
      out += job.lanes;
    }
  }
  job.next = next;
  job.escaped |= mask_of(escapes) != 0;
  return done;
}

template <typename Symbol>
[[FASTLIC_AVX2]] std::size_t decode_groups(DecodeJob& job, const std::uint8_t* indexes, Symbol* out,
                                           std::size_t groups) {
  switch (job.lanes) {
    case 8: return decode_vectors<1>(job, indexes, out, groups);
    case 16: return decode_vectors<2>(job, indexes, out, groups);
    default: return decode_vectors<4>(job, indexes, out, groups);
  }
}

[[FASTLIC_AVX2]] void encode_groups(EncodeJob& job, const std::uint8_t* indexes, const std::int8_t* values,
                                    std::size_t groups) {
  std::uint8_t* next = job.next;
  const __m128i precision = _mm_cvtsi32_si128(static_cast<int>(job.precision));
  const __m128i headroom = _mm_cvtsi32_si128(static_cast<int>(31 - job.precision));
  const __m256i total = _mm256_set1_epi32(1 << job.precision);
  const __m256i field_mask = _mm256_set1_epi32(static_cast<int>(kFieldMask));

  for (std::size_t i = groups * job.lanes; i > 0; i -= kWidth) {
    const std::size_t at = i - kWidth;
    auto* memory = reinterpret_cast<__m256i*>(job.states + at % job.lanes);
    const __m256i state = _mm256_load_si256(memory);
    const __m256i packed =
        load_each(job.words, _mm256_or_si256(_mm256_slli_epi32(load_bytes(indexes + at), 8), load_bytes(values + at)));
    job.marks[at / 8] = static_cast<std::uint8_t>(mask_of(_mm256_slli_epi32(packed, 31 - 2 * kFieldBits)));
    const __m256i frequency = _mm256_and_si256(packed, field_mask);
    const __m256i start = _mm256_and_si256(_mm256_srli_epi32(packed, kFieldBits), field_mask);

    // frequency <= 4095 keeps the bound below 2^31: signed compares are right. bound > state: keep.
    const __m256i keep = _mm256_cmpgt_epi32(_mm256_sll_epi32(frequency, headroom), state);
    const unsigned mask = ~mask_of(keep) & 0xFFu;
    const __m256i top = _mm256_permutevar8x32_epi32(state, permutation(kAvx2CompressToTop, mask));
    const __m256i words = _mm256_and_si256(top, _mm256_set1_epi32(0xFFFF));
    const __m128i narrow = _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(next - 2 * kWidth), narrow);
    next -= 2 * static_cast<unsigned>(_mm_popcnt_u32(mask));
    const __m256i x = _mm256_blendv_epi8(_mm256_srli_epi32(state, kWordBits), state, keep);

    // The quotient is below 2^21 and its two roundings are off by 2^-24 each, so the guess is at most one off, either
    // way.
    const __m256i guess = _mm256_cvttps_epi32(_mm256_div_ps(_mm256_cvtepi32_ps(x), _mm256_cvtepi32_ps(frequency)));
    const __m256i remainder = _mm256_sub_epi32(x, _mm256_mullo_epi32(guess, frequency));
    const __m256i gain = _mm256_sub_epi32(total, frequency);
    const __m256i too_low = _mm256_cmpgt_epi32(remainder, _mm256_sub_epi32(frequency, _mm256_set1_epi32(1)));
    const __m256i too_high = _mm256_cmpgt_epi32(_mm256_setzero_si256(), remainder);
    __m256i coded = _mm256_add_epi32(_mm256_add_epi32(remainder, start), _mm256_sll_epi32(guess, precision));
    coded = _mm256_add_epi32(coded, _mm256_and_si256(too_low, gain));
    coded = _mm256_sub_epi32(coded, _mm256_and_si256(too_high, gain));
    _mm256_store_si256(memory, coded);
  }
  job.next = next;
}

[[FASTLIC_AVX2]] void narrow16(const std::int16_t* symbols, std::size_t count, std::int8_t* values) {
  narrow_body(symbols, count, values);
}

[[FASTLIC_AVX2]] void narrow32(const std::int32_t* symbols, std::size_t count, std::int8_t* values) {
  narrow_body(symbols, count, values);
}

[[FASTLIC_AVX2]] unsigned copy_indexes(const std::uint8_t* from, std::size_t count, std::uint8_t* to) {
  return copy_indexes_body(from, count, to);
}

[[FASTLIC_AVX2]] inline std::uint64_t byte_mask(__m256i bytes) {
  return static_cast<std::uint32_t>(_mm256_movemask_epi8(bytes));
}

[[FASTLIC_AVX2]] void mark_rows(const std::uint8_t* indexes, std::size_t count, unsigned row, std::uint64_t* marks) {
  const __m256i first = _mm256_set1_epi8(static_cast<char>(row));
  std::size_t i = 0;
  for (; i + 32 <= count; i += 32) {
    const __m256i block = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(indexes + i));
    marks[i / 64] |= byte_mask(_mm256_cmpeq_epi8(_mm256_max_epu8(block, first), block)) << i % 64;
  }
  for (; i < count; ++i) marks[i / 64] |= std::uint64_t{indexes[i] >= row} << i % 64;
}

[[FASTLIC_AVX2]] void mark_escapes16(const std::int16_t* values, std::size_t count, std::uint64_t* marks) {
  const __m256i escape = _mm256_set1_epi16(kEscapeValue);
  std::size_t i = 0;
  for (; i + 32 <= count; i += 32) {
    const auto* at = reinterpret_cast<const __m256i*>(values + i);
    const __m256i low = _mm256_cmpeq_epi16(_mm256_loadu_si256(at), escape);
    const __m256i high = _mm256_cmpeq_epi16(_mm256_loadu_si256(at + 1), escape);
    // `packs` works within 128-bit halves; the permutation puts the quarters back in order.
    marks[i / 64] |= byte_mask(_mm256_permute4x64_epi64(_mm256_packs_epi16(low, high), 0xD8)) << i % 64;
  }
  for (; i < count; ++i) marks[i / 64] |= std::uint64_t{values[i] == kEscapeValue} << i % 64;
}

[[FASTLIC_AVX2]] void mark_escapes32(const std::int32_t* values, std::size_t count, std::uint64_t* marks) {
  const __m256i escape = _mm256_set1_epi32(kEscapeValue);
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m256i block = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(values + i));
    marks[i / 64] |= std::uint64_t{mask_of(_mm256_cmpeq_epi32(block, escape))} << i % 64;
  }
  for (; i < count; ++i) marks[i / 64] |= std::uint64_t{values[i] == kEscapeValue} << i % 64;
}

}  // namespace

const BlockKernels kBlockAvx2 = {&narrow16, &narrow32, &copy_indexes, &mark_rows, &mark_escapes16, &mark_escapes32};
const RansKernels kRansAvx2 = {&decode_groups<std::int16_t>, &decode_groups<std::int32_t>, &encode_groups};

}  // namespace fastlic::simd

#endif  // __x86_64__

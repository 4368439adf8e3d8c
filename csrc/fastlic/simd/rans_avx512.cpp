// AVX-512 loops of the native coder: 16 lanes to a vector, up to four vectors in flight.
#if defined(__x86_64__)

#include <immintrin.h>

#include "fastlic/simd/block_bodies.hpp"
#include "fastlic/simd/rans_kernels.hpp"

#define FASTLIC_AVX512 gnu::target("avx512f,avx512bw,avx512dq,avx512vl,bmi2,popcnt")

namespace fastlic::simd {
namespace {

constexpr unsigned kWidth = 16;

[[FASTLIC_AVX512]] inline void store(std::int16_t* out, __m512i values) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_cvtepi32_epi16(values));
}

[[FASTLIC_AVX512]] inline void store(std::int32_t* out, __m512i values) { _mm512_storeu_si512(out, values); }

[[FASTLIC_AVX512]] inline __m128i load_four(const std::uint32_t* table, const std::uint32_t* at) {
  __m128i four = _mm_cvtsi32_si128(static_cast<int>(table[at[0]]));
  four = _mm_insert_epi32(four, static_cast<int>(table[at[1]]), 1);
  four = _mm_insert_epi32(four, static_cast<int>(table[at[2]]), 2);
  return _mm_insert_epi32(four, static_cast<int>(table[at[3]]), 3);
}

[[FASTLIC_AVX512]] inline __m512i load_each(const std::uint32_t* table, __m512i at) {
  alignas(64) std::uint32_t index[kWidth];
  _mm512_store_si512(index, at);
  const __m256i low =
      _mm256_inserti128_si256(_mm256_castsi128_si256(load_four(table, index)), load_four(table, index + 4), 1);
  const __m256i high =
      _mm256_inserti128_si256(_mm256_castsi128_si256(load_four(table, index + 8)), load_four(table, index + 12), 1);
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

// V vectors of states stay in registers. The dependency from one refill to the next is only the word pointer (compare,
// popcount, add); the gather of each vector overlaps with those of the others.
template <unsigned V, typename Symbol>
[[FASTLIC_AVX512]] std::size_t decode_vectors(DecodeJob& job, const std::uint8_t* indexes, Symbol* out,
                                              std::size_t groups) {
  __m512i states[V];
  for (unsigned v = 0; v < V; ++v) states[v] = _mm512_load_si512(job.states + v * kWidth);
  const std::uint8_t* next = job.next;
  const __m128i precision = _mm_cvtsi32_si128(static_cast<int>(job.precision));
  const __m512i slot_mask = _mm512_set1_epi32((1 << job.precision) - 1);
  const __m512i field_mask = _mm512_set1_epi32(static_cast<int>(kFieldMask));
  const __m512i low = _mm512_set1_epi32(static_cast<int>(kStateLow));
  const __m512i escape = _mm512_set1_epi32(kEscapeValue);
  __mmask16 escapes = 0;

  std::size_t done = 0;
  for (; done < groups && next <= job.limit; ++done) {
    for (unsigned v = 0; v < V; ++v) {
      const __m512i row = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(indexes + v * kWidth)));
      const __m512i slot = _mm512_or_si512(_mm512_sll_epi32(row, precision), _mm512_and_si512(states[v], slot_mask));
      const __m512i packed = load_each(job.slots, slot);
      const __m512i frequency = _mm512_and_si512(_mm512_srli_epi32(packed, kFieldBits), field_mask);
      const __m512i within = _mm512_and_si512(packed, field_mask);
      const __m512i reduced =
          _mm512_add_epi32(_mm512_mullo_epi32(frequency, _mm512_srl_epi32(states[v], precision)), within);
      const __mmask16 refill = _mm512_cmplt_epi32_mask(reduced, low);
      const __m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(next)));
      states[v] = _mm512_mask_or_epi32(reduced, refill, _mm512_slli_epi32(reduced, kWordBits),
                                       _mm512_maskz_expand_epi32(refill, words));
      next += 2 * static_cast<unsigned>(_mm_popcnt_u32(refill));
      const __m512i values = _mm512_srai_epi32(packed, 2 * kFieldBits);
      escapes |= _mm512_cmpeq_epi32_mask(values, escape);
      store(out + v * kWidth, values);
    }
    indexes += V * kWidth;
    out += V * kWidth;
  }
  for (unsigned v = 0; v < V; ++v) _mm512_store_si512(job.states + v * kWidth, states[v]);
  job.next = next;
  job.escaped |= escapes != 0;
  return done;
}

template <typename Symbol>
[[FASTLIC_AVX512]] std::size_t decode_groups(DecodeJob& job, const std::uint8_t* indexes, Symbol* out,
                                             std::size_t groups) {
  switch (job.lanes) {
    case 16: return decode_vectors<1>(job, indexes, out, groups);
    case 32: return decode_vectors<2>(job, indexes, out, groups);
    default: return decode_vectors<4>(job, indexes, out, groups);
  }
}

template <unsigned V>
[[FASTLIC_AVX512]] void encode_vectors(EncodeJob& job, const std::uint8_t* indexes, const std::int8_t* values,
                                       std::size_t groups) {
  __m512i states[V];
  for (unsigned v = 0; v < V; ++v) states[v] = _mm512_load_si512(job.states + v * kWidth);
  std::uint8_t* next = job.next;
  const __m128i precision = _mm_cvtsi32_si128(static_cast<int>(job.precision));
  const __m128i headroom = _mm_cvtsi32_si128(static_cast<int>(31 - job.precision));
  const __m512i total = _mm512_set1_epi32(1 << job.precision);
  const __m512i field_mask = _mm512_set1_epi32(static_cast<int>(kFieldMask));
  const __m512i flag = _mm512_set1_epi32(static_cast<int>(kEncodeEscapeFlag));
  const __m256i iota = _mm256_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);

  for (std::size_t i = groups * V * kWidth; i > 0; i -= V * kWidth) {
    for (unsigned v = V; v-- > 0;) {
      const std::size_t at = i - (V - v) * kWidth;
      const __m512i row = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(indexes + at)));
      const __m512i column = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(values + at)));
      const __m512i packed = load_each(job.words, _mm512_or_si512(_mm512_slli_epi32(row, 8), column));
      const __mmask16 escapes = _mm512_test_epi32_mask(packed, flag);
      std::memcpy(job.marks + at / 8, &escapes, sizeof escapes);
      const __m512i frequency = _mm512_and_si512(packed, field_mask);
      const __m512i start = _mm512_and_si512(_mm512_srli_epi32(packed, kFieldBits), field_mask);

      // Words of lanes that must shrink, packed to the top of a vector and stored to end at `next`; the lanes below
      // hold rubbish that later words overwrite. (A masked or compressing store to memory is microcoded on Zen 4.)
      const __mmask16 high = _mm512_cmpge_epu32_mask(states[v], _mm512_sll_epi32(frequency, headroom));
      const unsigned count = static_cast<unsigned>(_mm_popcnt_u32(high));
      const __m256i words = _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(high, states[v]));
      const __m256i rotate = _mm256_add_epi16(iota, _mm256_set1_epi16(static_cast<short>(count)));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(next - 2 * kWidth), _mm256_permutexvar_epi16(rotate, words));
      next -= 2 * count;
      const __m512i x = _mm512_mask_srli_epi32(states[v], high, states[v], kWordBits);

      // Both roundings go down, so the float quotient is never above the true one, and below it by less than one:
      // x / f < 2^(31 - precision) <= 2^21, and two relative errors of 2^-23 make 2^-1 at most.
      const __m512 ratio = _mm512_div_round_ps(_mm512_cvt_roundepi32_ps(x, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC),
                                               _mm512_cvtepi32_ps(frequency), _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
      const __m512i guess = _mm512_cvttps_epi32(ratio);
      // state = x + start + q * (total - f). If the remainder under the guess is still f or more, q is one larger.
      const __m512i remainder = _mm512_sub_epi32(x, _mm512_mullo_epi32(guess, frequency));
      const __m512i gain = _mm512_sub_epi32(total, frequency);
      const __m512i coded = _mm512_add_epi32(_mm512_add_epi32(remainder, start), _mm512_sll_epi32(guess, precision));
      states[v] = _mm512_mask_add_epi32(coded, _mm512_cmpge_epi32_mask(remainder, frequency), coded, gain);
    }
  }
  for (unsigned v = 0; v < V; ++v) _mm512_store_si512(job.states + v * kWidth, states[v]);
  job.next = next;
}

[[FASTLIC_AVX512]] void encode_groups(EncodeJob& job, const std::uint8_t* indexes, const std::int8_t* values,
                                      std::size_t groups) {
  switch (job.lanes) {
    case 16: return encode_vectors<1>(job, indexes, values, groups);
    case 32: return encode_vectors<2>(job, indexes, values, groups);
    default: return encode_vectors<4>(job, indexes, values, groups);
  }
}

[[FASTLIC_AVX512]] void narrow16(const std::int16_t* symbols, std::size_t count, std::int8_t* values) {
  narrow_body(symbols, count, values);
}

[[FASTLIC_AVX512]] void narrow32(const std::int32_t* symbols, std::size_t count, std::int8_t* values) {
  narrow_body(symbols, count, values);
}

[[FASTLIC_AVX512]] unsigned copy_indexes(const std::uint8_t* from, std::size_t count, std::uint8_t* to) {
  return copy_indexes_body(from, count, to);
}

[[FASTLIC_AVX512]] void mark_rows(const std::uint8_t* indexes, std::size_t count, unsigned row, std::uint64_t* marks) {
  const __m512i first = _mm512_set1_epi8(static_cast<char>(row));
  std::size_t i = 0;
  for (; i + 64 <= count; i += 64) marks[i / 64] |= _mm512_cmpge_epu8_mask(_mm512_loadu_si512(indexes + i), first);
  mark_rows_body(indexes + i, count - i, row, marks + i / 64);
}

[[FASTLIC_AVX512]] void mark_escapes16(const std::int16_t* values, std::size_t count, std::uint64_t* marks) {
  const __m512i escape = _mm512_set1_epi16(kEscapeValue);
  std::size_t i = 0;
  for (; i + 64 <= count; i += 64) {
    const std::uint64_t low = _mm512_cmpeq_epi16_mask(_mm512_loadu_si512(values + i), escape);
    const std::uint64_t high = _mm512_cmpeq_epi16_mask(_mm512_loadu_si512(values + i + 32), escape);
    marks[i / 64] |= low | high << 32;
  }
  mark_escapes_body(values + i, count - i, marks + i / 64);
}

[[FASTLIC_AVX512]] void mark_escapes32(const std::int32_t* values, std::size_t count, std::uint64_t* marks) {
  const __m512i escape = _mm512_set1_epi32(kEscapeValue);
  std::size_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const std::uint64_t found = _mm512_cmpeq_epi32_mask(_mm512_loadu_si512(values + i), escape);
    marks[i / 64] |= found << i % 64;
  }
  for (; i < count; ++i) marks[i / 64] |= std::uint64_t{values[i] == kEscapeValue} << i % 64;
}

}  // namespace

const BlockKernels kBlockAvx512 = {&narrow16, &narrow32, &copy_indexes, &mark_rows, &mark_escapes16, &mark_escapes32};
const RansKernels kRansAvx512 = {&decode_groups<std::int16_t>, &decode_groups<std::int32_t>, &encode_groups};

}  // namespace fastlic::simd

#endif  // __x86_64__

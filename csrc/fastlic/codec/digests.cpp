#include "fastlic/codec/digests.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

#include "fastlic/isa.hpp"
#include "fastlic/memory.hpp"
#endif

namespace fastlic::codec {
namespace {

// Fractional parts of cube roots of the first 64 primes.
constexpr std::array<std::uint32_t, 64> kSha = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

// Fractional parts of square roots of the first 8 primes.
constexpr std::array<std::uint64_t, 8> kBlake = {0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b,
                                                 0xa54ff53a5f1d36f1, 0x510e527fade682d1, 0x9b05688c2b3e6c1f,
                                                 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179};
constexpr std::uint8_t kOrder[10][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0}};

std::uint32_t big_endian(const std::uint8_t* p) {
  return static_cast<std::uint32_t>(p[0]) << 24 | static_cast<std::uint32_t>(p[1]) << 16 |
         static_cast<std::uint32_t>(p[2]) << 8 | p[3];
}

using ShaState = std::array<std::uint32_t, 8>;

void add_block(ShaState& state, const std::uint8_t* data) {
  std::array<std::uint32_t, 64> w;
  for (unsigned i = 0; i < 16; ++i) w[i] = big_endian(data + 4 * i);
  for (unsigned i = 16; i < 64; ++i) {
    const std::uint32_t a = w[i - 15], b = w[i - 2];
    w[i] = w[i - 16] + w[i - 7] + (std::rotr(a, 7) ^ std::rotr(a, 18) ^ a >> 3) +
           (std::rotr(b, 17) ^ std::rotr(b, 19) ^ b >> 10);
  }
  ShaState s = state;
  for (unsigned i = 0; i < 64; ++i) {
    const std::uint32_t sum1 = std::rotr(s[4], 6) ^ std::rotr(s[4], 11) ^ std::rotr(s[4], 25);
    const std::uint32_t sum0 = std::rotr(s[0], 2) ^ std::rotr(s[0], 13) ^ std::rotr(s[0], 22);
    const std::uint32_t one = s[7] + sum1 + ((s[4] & s[5]) ^ (~s[4] & s[6])) + kSha[i] + w[i];
    const std::uint32_t two = sum0 + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
    s = {one + two, s[0], s[1], s[2], s[3] + one, s[4], s[5], s[6]};
  }
  for (unsigned i = 0; i < 8; ++i) state[i] += s[i];
}

#if defined(__x86_64__)
// A word of `data` after the other in each lane, and two rounds an instruction, which wants (a, b, e, f) and (c, d, g,
// h), the first in the highest lane.
[[gnu::target("sha,sse4.1,ssse3")]] void add_blocks(ShaState& state, const std::uint8_t* data, std::size_t count) {
  const auto four = [&](unsigned a, unsigned b, unsigned c, unsigned d) {
    const std::array<std::uint32_t, 4> words = {state[d], state[c], state[b], state[a]};
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(words.data()));
  };
  const __m128i swapped = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
  __m128i abef = four(0, 1, 4, 5), cdgh = four(2, 3, 6, 7);
  for (; count > 0; --count, data += 64) {
    const __m128i abef_before = abef, cdgh_before = cdgh;
    __m128i w[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
      if (i < 4) {
        w[i] = _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(data + 16 * i)), swapped);
      } else {
        const __m128i sum =
            _mm_add_epi32(_mm_sha256msg1_epu32(w[i - 4], w[i - 3]), _mm_alignr_epi8(w[i - 1], w[i - 2], 4));
        w[i] = _mm_sha256msg2_epu32(sum, w[i - 1]);
      }
      const __m128i sums = _mm_add_epi32(w[i], _mm_loadu_si128(reinterpret_cast<const __m128i*>(&kSha[4 * i])));
      cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sums);
      abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sums, 0x0E));
    }
    abef = _mm_add_epi32(abef, abef_before);
    cdgh = _mm_add_epi32(cdgh, cdgh_before);
  }
  std::array<std::uint32_t, 4> one, other;
  _mm_storeu_si128(reinterpret_cast<__m128i*>(one.data()), abef);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(other.data()), cdgh);
  state = {one[3], one[2], other[3], other[2], one[1], one[0], other[1], other[0]};
}

bool has_instructions() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b >> 29 & 1) != 0 && __builtin_cpu_supports("sse4.1") &&
         __builtin_cpu_supports("ssse3");
}
#endif

std::uint64_t little_endian(const std::uint8_t* p) {
  std::uint64_t value = 0;
  for (int i = 7; i >= 0; --i) value = value << 8 | p[i];
  return value;
}

}  // namespace

String hexadecimal(Input bytes) {
  constexpr std::string_view digits = "0123456789abcdef";
  String text;
  for (const std::uint8_t byte : bytes) {
    text += digits[byte >> 4];
    text += digits[byte & 15];
  }
  return text;
}

void Sha256::update(Input data) {
  while (!data.empty()) {
    const std::size_t used = size_ % rest_.size();
    if (used == 0 && data.size() >= rest_.size()) {
      const std::size_t count = data.size() / rest_.size();
      blocks(data.data(), count);
      size_ += count * rest_.size();
      data = data.subspan(count * rest_.size());
      continue;
    }
    const std::size_t taken = std::min(data.size(), rest_.size() - used);
    std::memcpy(&rest_[used], data.data(), taken);
    size_ += taken;
    if (used + taken == rest_.size()) blocks(rest_.data(), 1);
    data = data.subspan(taken);
  }
}

std::array<std::uint8_t, 32> Sha256::finish() {
  const std::uint64_t bits = 8 * size_;
  std::array<std::uint8_t, 72> end{0x80};
  const std::size_t zeros = (119 - size_ % 64) % 64;
  for (unsigned i = 0; i < 8; ++i) end[1 + zeros + i] = static_cast<std::uint8_t>(bits >> (56 - 8 * i));
  update({end.data(), 9 + zeros});
  std::array<std::uint8_t, 32> out;
  for (unsigned i = 0; i < out.size(); ++i) out[i] = static_cast<std::uint8_t>(state_[i / 4] >> (24 - 8 * (i % 4)));
  return out;
}

void Sha256::blocks(const std::uint8_t* data, std::size_t count) {
#if defined(__x86_64__)
  static const bool instructions = has_instructions();
  if (instructions && active_isa() != Isa::scalar) return add_blocks(state_, data, count);
#endif
  for (; count > 0; --count, data += rest_.size()) add_block(state_, data);
}

// Without a key; the length of the digest is part of the first word.
Blake2b::Blake2b() : state_(kBlake) { state_[0] ^= 0x01010000 ^ std::tuple_size_v<Fingerprint>; }

void Blake2b::update(Input data) {
  while (!data.empty()) {
    if (used_ == rest_.size()) {  // the last block is for finish(), full or not
      size_ += used_;
      block(false);
      used_ = 0;
    }
    const std::size_t taken = std::min(data.size(), rest_.size() - used_);
    std::memcpy(&rest_[used_], data.data(), taken);
    used_ += taken;
    data = data.subspan(taken);
  }
}

Fingerprint Blake2b::finish() {
  std::fill(rest_.begin() + static_cast<std::ptrdiff_t>(used_), rest_.end(), std::uint8_t{0});
  size_ += used_;
  block(true);
  Fingerprint out;
  for (unsigned i = 0; i < out.size(); ++i) out[i] = static_cast<std::uint8_t>(state_[0] >> (8 * i));
  return out;
}

void Blake2b::block(bool last) {
  std::array<std::uint64_t, 16> v, m;
  for (unsigned i = 0; i < 16; ++i) m[i] = little_endian(&rest_[8 * i]);
  std::copy(state_.begin(), state_.end(), v.begin());
  std::copy(kBlake.begin(), kBlake.end(), v.begin() + 8);
  v[12] ^= size_;
  if (last) v[14] = ~v[14];
  const auto mix = [&](unsigned a, unsigned b, unsigned c, unsigned d, std::uint64_t x, std::uint64_t y)
                       __attribute__((always_inline)) {
                         v[a] += v[b] + x;
                         v[d] = std::rotr(v[d] ^ v[a], 32);
                         v[c] += v[d];
                         v[b] = std::rotr(v[b] ^ v[c], 24);
                         v[a] += v[b] + y;
                         v[d] = std::rotr(v[d] ^ v[a], 16);
                         v[c] += v[d];
                         v[b] = std::rotr(v[b] ^ v[c], 63);
                       };
  // Unrolled: places in `m` are constants then.
#pragma GCC unroll 12
  for (unsigned round = 0; round < 12; ++round) {
    const std::uint8_t* s = kOrder[round % 10];
    mix(0, 4, 8, 12, m[s[0]], m[s[1]]);
    mix(1, 5, 9, 13, m[s[2]], m[s[3]]);
    mix(2, 6, 10, 14, m[s[4]], m[s[5]]);
    mix(3, 7, 11, 15, m[s[6]], m[s[7]]);
    mix(0, 5, 10, 15, m[s[8]], m[s[9]]);
    mix(1, 6, 11, 12, m[s[10]], m[s[11]]);
    mix(2, 7, 8, 13, m[s[12]], m[s[13]]);
    mix(3, 4, 9, 14, m[s[14]], m[s[15]]);
  }
  for (unsigned i = 0; i < 8; ++i) state_[i] ^= v[i] ^ v[i + 8];
}

}  // namespace fastlic::codec

// AVX-512 with VNNI: products of pairs are added in the same instruction.
#undef FASTLIC_SET
#undef FASTLIC_TARGET
#define FASTLIC_SET avx512vnni
#define FASTLIC_TARGET gnu::target(FASTLIC_AVX512 ",avx512vnni")

namespace fastlic::simd::avx512vnni {

using namespace avx512;

FASTLIC_INLINE __m512i add_products(__m512i sum, Pair a, Pairs b) { return _mm512_dpwssd_epi32(sum, a, b); }
FASTLIC_INLINE Ints dot(Ints sum, Pair a, Pairs b) { return reinterpret_cast<Ints>(add_products(raw(sum), a, b)); }
FASTLIC_INLINE void dot(Sum (&sums)[kTileVectors], Pair a, const Weights& b) {
  sums[0] = add_products(sums[0], a, b.at[0]);
  sums[1] = add_products(sums[1], a, b.at[1]);
}

FASTLIC_INLINE Narrow narrow_dot(Narrow sum, const std::int16_t* a, const std::int16_t* b) {
  return reinterpret_cast<Narrow>(_mm256_dpwssd_epi32(avx2::raw(sum), avx2::pair(a), avx2::load_pairs(b)));
}

constexpr bool kByteProducts = true;
// Spelled out, because GCC 12 copies the sum around the intrinsic and runs out of registers: a quarter of the time.
FASTLIC_INLINE __m512i add_byte_products(__m512i sum, __m512i a, __m512i b) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
  return sum;
}

}  // namespace fastlic::simd::avx512vnni

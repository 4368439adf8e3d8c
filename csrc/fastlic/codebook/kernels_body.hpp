// Scans of packed words, for each instruction set (simd/for_each_target.hpp): a tile of rows against a panel of words,
// whose sums stay in registers.
//
// With products of bytes, four channels an instruction, scores are coarser by far than those of floats, and their error
// bound says so: a handful of words per row is left to compare exactly.
namespace fastlic::codebook {
namespace {
namespace FASTLIC_SET {

namespace v = simd::FASTLIC_SET;

constexpr std::size_t kRows = v::kRegisters > 16 ? 8 : 6, kVectors = v::kRegisters > 16 ? 3 : 2;
constexpr std::size_t kWords = kVectors * v::kLanes;

template <typename Sum>
FASTLIC_INLINE Sum multiply(Sum sum, Sum x, Sum words) {
  if constexpr (std::is_same_v<Sum, v::Floats>) {
    return v::subtract_product(sum, x, words);
  } else {
    return v::add_byte_products(sum, x, words);
  }
}
template <typename Sum>
FASTLIC_INLINE v::Floats score(Sum sum, const Scan& job, std::size_t row, const float* half) {
  if constexpr (std::is_same_v<Sum, v::Floats>) {
    return sum;
  } else {
    const v::Floats unit = v::all<v::Floats>(job.scale[row]);
    return v::subtract_product(v::load(half), unit, v::to_floats(reinterpret_cast<v::Ints>(sum)));
  }
}

// Rarely needed, so out of the loop: the rows of `hits` have scores below their bars.
template <typename Sum>
[[gnu::noinline, FASTLIC_TARGET]] void take_in(const Scan& job, unsigned hits, const Sum (*sums)[kVectors],
                                               const float* half, std::uint32_t first) {
  for (std::size_t r = 0; r < kRows; ++r) {
    if ((hits >> r & 1) == 0) continue;
    alignas(64) float scores[kWords];
    v::Floats least = v::all<v::Floats>(job.bars[r]);
    for (std::size_t i = 0; i < kVectors; ++i) {
      const v::Floats some = score(sums[r][i], job, r, half + i * v::kLanes);
      least = v::least(least, some);
      v::store(some, scores + i * v::kLanes);
    }
    const float bar = job.rows[r].bar(v::lowest(least));
    std::uint64_t close = 0;
    for (std::size_t i = 0; i < kVectors; ++i) {
      const unsigned some = v::at_most(v::load(scores + i * v::kLanes), v::all<v::Floats>(bar));
      close |= std::uint64_t{some} << (i * v::kLanes);
    }
    job.bars[r] = job.rows[r].keep(scores, first, close, bar);
  }
}

// Factor: float, or four bytes in an int32.
template <typename Factor>
[[FASTLIC_TARGET]] void scan(const Scan& job) {
  constexpr bool kFloats = std::is_same_v<Factor, float>;
  using Each = std::conditional_t<kFloats, v::Floats, v::Ints>;
  using Sum = std::conditional_t<kFloats, v::Floats, v::Sum>;
  const auto* panel = static_cast<const Factor*>(job.panels);
  const float* half = job.half;
  const auto* start = static_cast<const Factor*>(job.start);
  std::uint32_t first = job.first;
  for (std::size_t p = 0; p < job.count; ++p, half += kWords, start += kWords, first += kWords) {
    Sum sums[kRows][kVectors];
#pragma GCC unroll 8
    for (auto& sum : sums) {
#pragma GCC unroll 8
      for (std::size_t i = 0; i < kVectors; ++i) sum[i] = v::load_as<Sum>(start + i * v::kLanes);
    }
    const auto* x = static_cast<const Factor*>(job.tile);
    for (std::size_t k = 0; k < job.depth; ++k, x += kRows, panel += kWords) {
      Sum words[kVectors];
#pragma GCC unroll 8
      for (std::size_t i = 0; i < kVectors; ++i) words[i] = v::load_as<Sum>(panel + i * v::kLanes);
#pragma GCC unroll 8
      for (std::size_t r = 0; r < kRows; ++r) {
        const Sum value = reinterpret_cast<Sum>(v::all<Each>(x[r]));
#pragma GCC unroll 8
        for (std::size_t i = 0; i < kVectors; ++i) sums[r][i] = multiply(sums[r][i], value, words[i]);
      }
    }
    unsigned hits = 0;
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kRows; ++r) {
      v::Floats least = score(sums[r][0], job, r, half);
#pragma GCC unroll 8
      for (std::size_t i = 1; i < kVectors; ++i) {
        least = v::least(least, score(sums[r][i], job, r, half + i * v::kLanes));
      }
      hits |= static_cast<unsigned>(v::at_most(least, v::all<v::Floats>(job.bars[r])) != 0) << r;
    }
    if (hits != 0) [[unlikely]] {
      Sum kept[kRows][kVectors];  // a copy: an array whose address is taken would not stay in registers
#pragma GCC unroll 8
      for (std::size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
        for (std::size_t i = 0; i < kVectors; ++i) kept[r][i] = sums[r][i];
      }
      take_in(job, hits, kept, half, first);
    }
  }
}

constexpr Kernel kKernel = {kRows, kWords, v::kByteProducts,
                            scan<std::conditional_t<v::kByteProducts, std::int32_t, float>>};

}  // namespace FASTLIC_SET
}  // namespace
}  // namespace fastlic::codebook

// From logits to frequencies, for each instruction set (simd/for_each_target.hpp).
namespace fastlic::codes {
namespace {
namespace FASTLIC_SET {

namespace v = simd::FASTLIC_SET;
using nn::kPanel;

[[FASTLIC_TARGET]] Peak peak(const std::int32_t* logits, std::size_t count) {
  v::Ints even = v::load(logits), odd = even;
  for (std::size_t i = 0; i < count; i += v::kWordLanes) {
    even = v::most(even, v::load(logits + i));
    odd = v::most(odd, v::load(logits + i + v::kLanes));
  }
  const std::int32_t best = v::highest(v::most(even, odd));
  std::size_t word = 0;
  while (v::equal_bits(v::load(logits + word), v::all<v::Ints>(best)) == 0) word += v::kLanes;
  while (logits[word] != best) ++word;
  return {best, word};
}

[[FASTLIC_TARGET]] std::uint64_t weigh(const std::int32_t* logits, std::size_t count, std::int32_t peak,
                                       const std::int32_t* table, std::uint32_t* weights) {
  constexpr std::size_t kChunk = 1024 * v::kLanes;  // sums of as many weights of 2^20 stay below 2^31 in each lane
  std::uint64_t total = 0;
  for (std::size_t first = 0; first < count; first += kChunk) {
    v::Ints sums = {};
    for (std::size_t i = first; i < std::min(count, first + kChunk); i += v::kLanes) {
      const v::Ints d = peak - v::load(logits + i);
      const v::Ints weight = v::shift_down(v::look_up(table, d & 255), d >> 8);
      v::store(weight, weights + i);
      sums += weight;
    }
    for (std::size_t lane = 0; lane < v::kLanes; ++lane) total += static_cast<std::uint32_t>(sums[lane]);
  }
  return total;
}

[[FASTLIC_TARGET]] std::uint32_t share(const std::uint32_t* __restrict weights, std::size_t count, std::uint32_t rate,
                                       unsigned shift, std::uint32_t* __restrict shares,
                                       std::uint32_t* __restrict sums) {
  std::uint32_t total = 0;
  for (std::size_t first = 0; first < count; first += kPanel) {
    std::uint32_t sum = 0;
    for (std::size_t i = first; i < first + kPanel; ++i) {
      shares[i] = static_cast<std::uint32_t>(std::uint64_t{weights[i]} * rate >> shift);
      sum += shares[i];
    }
    *sums++ = sum;
    total += sum;
  }
  return total;
}

constexpr Kernels kKernels = {peak, weigh, share};

}  // namespace FASTLIC_SET
}  // namespace
}  // namespace fastlic::codes

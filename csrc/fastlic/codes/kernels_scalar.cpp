// Portable loops, and the dispatch.
#include "fastlic/codes/bodies.hpp"

namespace fastlic::codes {
namespace {

Peak peak(const std::int32_t* logits, std::size_t count) { return bodies::peak<bodies::OneByOne>(logits, count); }

std::uint64_t weigh(const std::int32_t* logits, std::size_t count, std::int32_t peak, const std::int32_t* table,
                    std::uint32_t* weights) {
  return bodies::weigh<bodies::OneByOne>(logits, count, peak, table, weights);
}

std::uint32_t share(const std::uint32_t* weights, std::size_t count, std::uint32_t rate, unsigned shift,
                    std::uint32_t* shares, std::uint32_t* sums) {
  return bodies::share(weights, count, rate, shift, shares, sums);
}

}  // namespace

const Kernels kScalar = {peak, weigh, share};

const Kernels& kernels(Isa isa) noexcept {
#if defined(__x86_64__)
  switch (isa) {
    case Isa::avx512vnni:
    case Isa::avx512: return kAvx512;
    case Isa::avx2: return kAvx2;
    case Isa::scalar:
    case Isa::neon: break;
  }
#else
  static_cast<void>(isa);
#endif
  return kScalar;
}

}  // namespace fastlic::codes

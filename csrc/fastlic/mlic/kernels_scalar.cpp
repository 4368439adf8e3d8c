// Portable loops, and the dispatch.
#include "fastlic/mlic/bodies.hpp"

namespace fastlic::mlic {
namespace {

void apply(const std::int16_t* p, const double* context, std::size_t dims, std::int64_t total, std::int64_t* out) {
  bodies::apply(p, context, dims, total, out);
}

std::int32_t score(std::int32_t* products, std::size_t count, const Score& score) {
  return bodies::score_all<bodies::OneByOne>(products, count, score);
}

std::int32_t soften(const std::int32_t* scores, std::size_t count, std::int32_t highest, const Tables& tables,
                    std::int16_t* weights) {
  return bodies::soften<bodies::OneByOne>(scores, count, highest, tables, weights);
}

void window(const Window& w, const Tables& tables, std::int32_t* out) {
  bodies::window<bodies::OneByOne>(w, tables, out);
}

}  // namespace

const Kernels kScalar = {apply, score, soften, window};

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

}  // namespace fastlic::mlic

#include "fastlic/nn/kernels.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "fastlic/nn/tiles.hpp"

#define FASTLIC_BODY "fastlic/nn/kernels_body.hpp"
#include "fastlic/simd/for_each_target.hpp"

namespace fastlic::nn {

const Kernels& kernels(Isa isa) noexcept {
#ifdef FASTLIC_TILES
  if (isa == Isa::amx) return tile_kernels();
#endif
  FASTLIC_CHOOSE(isa, kKernels);
}

}  // namespace fastlic::nn

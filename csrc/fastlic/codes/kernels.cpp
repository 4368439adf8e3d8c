#include "fastlic/codes/kernels.hpp"

#include <algorithm>

#include "fastlic/nn/memory.hpp"

#define FASTLIC_BODY "fastlic/codes/kernels_body.hpp"
#include "fastlic/simd/for_each_target.hpp"

namespace fastlic::codes {

const Kernels& kernels(Isa isa) noexcept { FASTLIC_CHOOSE(isa, kKernels); }

}  // namespace fastlic::codes

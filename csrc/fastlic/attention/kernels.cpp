#include "fastlic/attention/kernels.hpp"

#include <algorithm>

#define FASTLIC_BODY "fastlic/attention/kernels_body.hpp"
#include "fastlic/simd/for_each_target.hpp"

namespace fastlic::attention {

const Kernels& kernels(Isa isa) noexcept { FASTLIC_CHOOSE(isa, kKernels); }

}  // namespace fastlic::attention

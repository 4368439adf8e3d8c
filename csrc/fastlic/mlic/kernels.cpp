#include "fastlic/mlic/kernels.hpp"

#include <algorithm>

#define FASTLIC_BODY "fastlic/mlic/kernels_body.hpp"
#include "fastlic/simd/for_each_target.hpp"

namespace fastlic::mlic {

const Kernels& kernels(Isa isa) noexcept { FASTLIC_CHOOSE(isa, kKernels); }

}  // namespace fastlic::mlic

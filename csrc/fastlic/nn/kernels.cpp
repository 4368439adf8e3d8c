#include "fastlic/nn/kernels.hpp"

#include <algorithm>
#include <array>
#include <utility>

#define FASTLIC_BODY "fastlic/nn/kernels_body.hpp"
#include "fastlic/simd/for_each_target.hpp"

namespace fastlic::nn {

const Kernels& kernels(Isa isa) noexcept { FASTLIC_CHOOSE(isa, kKernels); }

}  // namespace fastlic::nn

#include "fastlic/codebook/kernels.hpp"

#include <type_traits>

#define FASTLIC_BODY "fastlic/codebook/kernels_body.hpp"
#include "fastlic/simd/for_each_target.hpp"

namespace fastlic::codebook {

const Kernel& kernel(Isa isa) noexcept { FASTLIC_CHOOSE(isa, kKernel); }

}  // namespace fastlic::codebook

// The decoder's starting points (make_quantiles in phi_table.hpp), held once.
#pragma once

#include <cstdint>

namespace fastlic::simd {

const std::int16_t* gaussian_quantiles();

}  // namespace fastlic::simd

// Plain loops that each instruction set compiles for itself: inlined into a function with a target attribute, the
// compiler's own vectoriser does the rest.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "fastlic/cdf_tables.hpp"

namespace fastlic::simd {

template <typename Symbol>
[[gnu::always_inline]] inline void narrow_body(const Symbol* symbols, std::size_t count, std::int8_t* values) {
  for (std::size_t i = 0; i < count; ++i) {
    const Symbol low = std::max<Symbol>(symbols[i], kEscapeValue);
    values[i] = static_cast<std::int8_t>(low > 127 ? Symbol{kEscapeValue} : low);
  }
}

[[gnu::always_inline]] inline unsigned copy_indexes_body(const std::uint8_t* __restrict from, std::size_t count,
                                                         std::uint8_t* __restrict to) {
  std::uint8_t top = 0;
#pragma GCC unroll 4  // which pays for the copy
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint8_t index = from[i];
    to[i] = index;
    top = std::max(top, index);
  }
  return top;
}

[[gnu::always_inline]] inline void mark_rows_body(const std::uint8_t* indexes, std::size_t count, unsigned row,
                                                  std::uint64_t* marks) {
  for (std::size_t i = 0; i < count; ++i) marks[i / 64] |= std::uint64_t{indexes[i] >= row} << i % 64;
}

template <typename Symbol>
[[gnu::always_inline]] inline void mark_escapes_body(const Symbol* values, std::size_t count, std::uint64_t* marks) {
  for (std::size_t i = 0; i < count; ++i) marks[i / 64] |= std::uint64_t{values[i] == kEscapeValue} << i % 64;
}

}  // namespace fastlic::simd

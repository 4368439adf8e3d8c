// What every integer model reads alike from its arrays; each fault is std::invalid_argument that names the array.
#pragma once

#include <span>

#include "fastlic/memory.hpp"
#include "fastlic/nn/arrays.hpp"
#include "fastlic/nn/fixed.hpp"

namespace fastlic::nn {

[[noreturn]] void refuse(const String& name, const String& fault);
inline void require(bool good, const String& name, const char* fault) {
  if (!good) refuse(name, fault);
}
inline void require(bool good, const String& name, const String& fault) {
  if (!good) refuse(name, fault);
}

String shape_text(const Vector<std::size_t>& shape);

constexpr std::int32_t magnitude_limit(unsigned bits) { return (std::int32_t{1} << (bits - 1)) - 1; }

Requantiser read_requantiser(const ArrayReader& reader, const String& prefix, std::size_t channels, unsigned max_bits);

constexpr std::int32_t kFactorLimit = 1 << 24;

// Numbers of float32, name.multiplier and name.shift; `more` zeros behind them.
Buffer<float> read_factors(const ArrayReader& arrays, const String& name, std::size_t count, std::size_t more,
                           bool negative = false);

// The one whose outputs are so many times as large, without activation: the nearest of 30 bits, by operations of IEEE
// 754 alone (fastlic/integers/fixed.py, from_factors). std::invalid_argument for factors that none can have.
Requantiser multiplied(const Requantiser& by, std::span<const double> factors);

// These channels.
Requantiser selected(const Requantiser& all, const Vector<std::size_t>& channels);
// Channels first, first + step, ...: `count` of them.
Requantiser selected(const Requantiser& all, std::size_t first, std::size_t count, std::size_t step = 1);

// How many layers name.0, name.1, ... there are.
std::size_t count_layers(const ArrayReader& reader, const String& name);

}  // namespace fastlic::nn

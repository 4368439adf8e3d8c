#include "fastlic/nn/reading.hpp"

#include <algorithm>
#include <cmath>

#include "fastlic/errors.hpp"
#include "fastlic/memory.hpp"

namespace fastlic::nn {

void refuse(const String& name, const String& fault) {
  throw InvalidArgument("integer model: '" + name + "' " + fault);
}

String shape_text(const Vector<std::size_t>& shape) {
  String text = "[";
  for (const std::size_t extent : shape) text += (text.size() > 1 ? ", " : "") + to_string(extent);
  return text + "]";
}

namespace {

constexpr int kHalfProduct = 32;  // bits

Requantiser blank(std::size_t channels, std::int32_t limit) {
  Requantiser out;
  out.channels = channels;
  out.limit = limit;
  const std::size_t size = padded(channels);
  out.multiplier.assign(size, 0);
  out.negative.assign(size, 0);
  out.shift.assign(size, kMinShift);
  out.rounding.assign(size, 0);
  return out;
}

void set_shift(Requantiser& out, std::size_t channel, int shift) {
  out.shift[channel] = shift;
  out.rounding[channel] = std::int64_t{1} << (shift - 1);
}

// With the arrays for high halves of products, if it has such.
Requantiser completed(Requantiser out) {
  const auto zero = [&](std::size_t c) { return out.multiplier[c] == 0 && out.negative[c] == 0; };
  for (std::size_t c = 0; c < out.shift.size(); ++c) {
    if (!zero(c) && out.shift[c] <= kHalfProduct) return out;
  }
  out.high_shift.assign(out.shift.size(), 0);
  out.high_rounding.assign(out.shift.size(), 0);
  for (std::size_t c = 0; c < out.shift.size(); ++c) {
    if (zero(c)) continue;  // stays zero, whatever its shift
    out.high_shift[c] = static_cast<std::int32_t>(out.shift[c] - kHalfProduct);
    out.high_rounding[c] = static_cast<std::int32_t>(out.rounding[c] >> kHalfProduct);
  }
  return out;
}

}  // namespace

Requantiser read_requantiser(const ArrayReader& reader, const String& prefix, std::size_t channels, unsigned max_bits) {
  const auto multiplier = reader.int32s(prefix + ".multiplier");
  const auto negative = reader.int32s(prefix + ".negative");
  const auto shift = reader.uint8s(prefix + ".shift");
  const auto bits = reader.uint8s(prefix + ".bits");
  for (const std::size_t size : {multiplier.size(), negative.size(), shift.size()}) {
    require(size == channels, prefix, "serves " + to_string(size) + " channels, expected " + to_string(channels));
  }
  require(bits.size() == 1 && bits[0] >= 2 && bits[0] <= max_bits, prefix + ".bits",
          "must be one number from 2 to " + to_string(max_bits));
  Requantiser out = blank(channels, magnitude_limit(bits[0]));
  for (std::size_t c = 0; c < channels; ++c) {
    require(shift[c] >= kMinShift && shift[c] <= kMaxShift, prefix + ".shift",
            "must be from 1 to 62, got " + to_string(shift[c]) + " for channel " + to_string(c));
    out.multiplier[c] = multiplier[c];
    out.negative[c] = negative[c];
    set_shift(out, c, shift[c]);
  }
  return completed(std::move(out));
}

Requantiser multiplied(const Requantiser& by, std::span<const double> factors) {
  constexpr int kMultiplierBits = 30;
  Requantiser out = blank(by.channels, by.limit);
  for (std::size_t c = 0; c < by.channels; ++c) {
    const double factor = std::ldexp(by.multiplier[c], -static_cast<int>(by.shift[c])) * factors[c];
    if (!(std::isfinite(factor) && factor > 0)) throw InvalidArgument("requantisation factors must be positive");
    int exponent = 0;
    std::frexp(factor, &exponent);  // factor = m * 2^exponent with m in [1/2, 1)
    const int shift = std::min(kMultiplierBits - exponent, static_cast<int>(kMaxShift));
    if (shift < static_cast<int>(kMinShift)) throw InvalidArgument("a requantisation factor is too large");
    const double scaled = std::nearbyint(std::ldexp(factor, shift));
    out.multiplier[c] = static_cast<std::int32_t>(std::min(scaled, std::ldexp(1.0, kMultiplierBits) - 1));
    out.negative[c] = static_cast<std::int32_t>(scaled);
    set_shift(out, c, shift);
  }
  return completed(std::move(out));
}

Requantiser selected(const Requantiser& all, std::size_t first, std::size_t count, std::size_t step) {
  Vector<std::size_t> channels;
  for (std::size_t k = 0; k < count; ++k) channels.push_back(first + k * step);
  return selected(all, channels);
}

Requantiser selected(const Requantiser& all, const Vector<std::size_t>& channels) {
  Requantiser out = blank(channels.size(), all.limit);
  for (std::size_t k = 0; k < channels.size(); ++k) {
    const std::size_t c = channels[k];
    out.multiplier[k] = all.multiplier[c];
    out.negative[k] = all.negative[c];
    out.shift[k] = all.shift[c];
    out.rounding[k] = all.rounding[c];
  }
  return completed(std::move(out));
}

Buffer<float> read_factors(const ArrayReader& arrays, const String& name, std::size_t count, std::size_t more,
                           bool negative) {
  const auto multiplier = arrays.int32s(name + ".multiplier");
  const auto shift = arrays.uint8s(name + ".shift");
  require(multiplier.size() == count && shift.size() == count, name + ".multiplier",
          "and shift must be " + to_string(count) + " numbers");
  Buffer<float> out(count + more);
  for (std::size_t i = 0; i < count; ++i) {
    require(multiplier[i] < kFactorLimit && multiplier[i] > (negative ? -kFactorLimit : -1), name + ".multiplier",
            negative ? "must be below 2^24 in magnitude" : "must be from 0 to 2^24 - 1");
    require(shift[i] <= kMaxFactorShift, name + ".shift", "must be at most 62");
    out[i] = std::ldexp(static_cast<float>(multiplier[i]), -int{shift[i]});
  }
  return out;
}

std::size_t count_layers(const ArrayReader& reader, const String& name) {
  std::size_t count = 0;
  while (reader.has(name + "." + to_string(count) + ".geometry")) ++count;
  return count;
}

const ArrayRef& ArrayReader::get(const String& name, Type type, std::size_t rank) const {
  const auto found = arrays_.find(name);
  if (found == arrays_.end()) refuse(name, "is missing");
  require(found->second.type == type, name, "has the wrong type");
  require(found->second.shape.size() == rank, name, "has shape " + shape_text(found->second.shape));
  return found->second;
}

}  // namespace fastlic::nn

// A lossless plane of 8-bit samples, for alpha: an adaptive binary coder whose contexts are the samples around
// (docs/stream.md, section 6). A plane of one value takes up to some 20 bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "fastlic/memory.hpp"

namespace fastlic::plane {

// Sample (row, column) lies at data[row * stride + column * step].
template <typename Byte>
struct View {
  Byte* data;
  std::size_t height, width, stride, step = 1;

  Byte& at(std::size_t row, std::size_t column) const noexcept { return data[row * stride + column * step]; }
};

Vector<std::uint8_t> encode(const View<const std::uint8_t>& samples);

// Throws CorruptStream for bytes that end in a zero or behind the last sample; others give samples, if not those that
// somebody encoded. Memory beside the samples: three rows.
void decode(std::span<const std::uint8_t> data, const View<std::uint8_t>& samples);

// About the bytes that either takes at most beside the samples; of an encoder with the coded ones, twice while they
// grow and once more in the stream.
std::uint64_t memory(std::size_t height, std::size_t width, bool encode);

}  // namespace fastlic::plane

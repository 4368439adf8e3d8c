// Hyper synthesis: convolutions over whole maps as integer GEMMs, the part of the entropy model before any symbol of y.
#pragma once

#include <cstdint>

#include "fastlic/nn/kernels.hpp"
#include "fastlic/engine/model.hpp"

namespace fastlic::engine {

using namespace fastlic::nn;

// Rows of padded channels, position by position: [height * width][padded(channels)].
template <typename T>
struct Map {
  std::size_t height = 0, width = 0, row_size = 0;
  Buffer<T> data;

  Map() = default;
  Map(std::size_t h, std::size_t w, std::size_t channels)
      : height(h), width(w), row_size(padded(channels)), data(h * w * row_size) {}
  T* at(std::size_t row, std::size_t column) noexcept { return data.data() + (row * width + column) * row_size; }
  const T* at(std::size_t row, std::size_t column) const noexcept {
    return data.data() + (row * width + column) * row_size;
  }
};

// z symbols [hz * wz][N] -> activations of h_s's input. Any int32 symbols.
Map<std::int16_t> hyper_input(const Model& model, const std::int32_t* z, std::size_t rows, std::size_t columns,
                              const Kernels& kernels);

// All layers up to the last activations (context models), cropped to height x width.
Map<std::int16_t> hyper_features(const Model& model, Map<std::int16_t> x, std::size_t height, std::size_t width,
                                 const Kernels& kernels, unsigned threads);

// All layers of a model without context: fixed-point (scales, means), cropped to height x width.
Map<std::int32_t> hyper_head(const Model& model, Map<std::int16_t> x, std::size_t height, std::size_t width,
                             const Kernels& kernels, unsigned threads);

}  // namespace fastlic::engine

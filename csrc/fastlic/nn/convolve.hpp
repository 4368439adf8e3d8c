// The layers over maps of activations.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "fastlic/nn/kernels.hpp"
#include "fastlic/nn/layer.hpp"
#include "fastlic/parallel.hpp"

namespace fastlic::nn {

// What a run of a model computes with.
struct Tools {
  const Kernels& kernels;
  const TailLines& tail;
  Team& team;
  const TailLines* logistic = nullptr;  // where a network has SiLU

  const TailLines& tail_of(const Curve& curve) const noexcept { return curve.logistic ? *logistic : tail; }
};

struct Rows {
  std::size_t first = 0, last = static_cast<std::size_t>(-1);  // of [first, last), as far as the map has them
};

// A map of activations, position by position, `stride` apart: a block of longer rows, or a map of its own. In memory
// may be only its rows from `first` on, `count` of them; `data` is where those begin.
template <typename T>
struct View {
  T* data;
  std::size_t stride, height, width;
  std::size_t first = 0, count = static_cast<std::size_t>(-1);

  T* at(std::size_t row, std::size_t column) const noexcept { return data + ((row - first) * width + column) * stride; }
  T* at(std::size_t position) const noexcept { return data + (position - first * width) * stride; }
  std::size_t positions() const noexcept { return height * width; }
  // Whether it is in memory; numbers below zero wrap to large ones.
  bool has(std::size_t row, std::size_t column) const noexcept {
    return row < height && row - first < count && column < width;
  }
};

using Source = View<const std::int16_t>;
using Target = View<std::int16_t>;
using Head = View<std::int32_t>;  // fixed-point numbers, no activations

// A map that owns its memory; the buffer keeps its capacity from use to use.
struct Plane {
  Buffer<std::int16_t> data;
  std::size_t stride = 0, height = 0, width = 0;

  Target shape(std::size_t h, std::size_t w, std::size_t channels) {
    require_addresses(h, w, padded(channels), sizeof(std::int16_t));
    stride = padded(channels);
    height = h;
    width = w;
    if (data.size() < h * w * stride) data.resize(h * w * stride);
    return target();
  }
  Target target() { return {data.data(), stride, height, width}; }
  Source source() const { return {data.data(), stride, height, width}; }
};

inline Source as_source(const Target& target) { return {target.data, target.stride, target.height, target.width}; }

// The layer over every position of x, or those that give some rows of out, a Target or a Head; out has `up` times its
// size, or less: the rest is cut off.
template <typename T>
void convolve(const Layer& layer, const Source& x, const View<T>& out, const Tools& tools, Rows rows = {});

// Bytes that a thread keeps while it works on a layer, at most.
std::uint64_t scratch_of(const Layer& layer);

// About the multiply-adds of a layer that gives so many positions, those of 16 bits counted twice: for Progress.
double work_of(const Layer& layer, std::size_t outputs);

// A layer that keeps sizes, tap by tap, at some positions only.
void convolve_at(const Layer& layer, const Source& x, std::span<const std::size_t> where, const Target& out,
                 const Tools& tools);

// A kernel for each channel.
void convolve(const Depthwise& layer, const Source& x, const Target& out, const Tools& tools, Rows rows);

// A 1x1 layer on `rows` rows `a_stride` apart: activations, or fixed-point numbers of the head.
template <typename T>
void apply(const Layer& layer, const std::int16_t* a, std::size_t a_stride, std::size_t rows, T* out,
           std::size_t out_stride, const Tools& tools);

// Fixed-point numbers of one position as the activations of a row, in whole panels.
void activate(const std::int32_t* numbers, const Requantiser& requantiser, std::int16_t* out, const Kernels& kernels);

// z symbols [positions of out][medians], any int32 -> the activations that hyper synthesis reads, of some rows.
void hyper_input(const std::int32_t* z, std::span<const std::int32_t> medians, const Requantiser& requantiser,
                 const Target& out, Rows rows, const Tools& tools);

}  // namespace fastlic::nn

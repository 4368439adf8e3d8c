// What the bindings of the fused engines share: how one is made, how large its maps are, and who gets the threads.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "array_refs.hpp"
#include "arrays.hpp"
#include "fastlic/engine/engine.hpp"
#include "fastlic/parallel.hpp"

namespace fastlic::bindings {

using engine::Size;
using Int32s = Array<std::int32_t>;

template <class Engine>
std::shared_ptr<Engine> make_engine(const py::dict& arrays, std::shared_ptr<const CdfTables> z_tables,
                                    std::shared_ptr<const CdfTables> y_tables) {
  return std::make_shared<Engine>(array_refs(arrays), std::move(z_tables), std::move(y_tables));
}

// One image per thread; a single image may use them all.
inline unsigned inner_threads(std::size_t images, unsigned threads) { return images == 1 ? threads : 1; }

// The size of y, [height, width, M]; z must be [ceil(height / 4), ceil(width / 4), N], and y `least_width` wide.
template <class Engine>
Size checked_size(const Engine& engine, const Int32s& z, const Int32s& y, std::size_t least_width) {
  if (z.ndim() != 3 || y.ndim() != 3) throw py::value_error("z and y must be [height, width, channels]");
  const Size size{static_cast<std::size_t>(y.shape(0)), static_cast<std::size_t>(y.shape(1))};
  if (size.height < 1 || size.width < least_width) {
    throw py::value_error("y must be at least 1 high and " + std::to_string(least_width) + " wide");
  }
  const std::size_t shape[3] = {size.hyper_height(), size.hyper_width(), engine.model().hyper_channels()};
  for (int axis = 0; axis < 3; ++axis) {
    require_equal(static_cast<std::size_t>(z.shape(axis)), shape[axis], "z and its size by y");
  }
  require_equal(static_cast<std::size_t>(y.shape(2)), engine.model().latent_channels(), "channels of y and M");
  return size;
}

}  // namespace fastlic::bindings

// What the bindings of the fused engines share: how one is made, how large its maps are, and who gets the threads.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

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
  return std::make_shared<Engine>(ArrayRefs(arrays).refs(), std::move(z_tables), std::move(y_tables));
}

// f(image, threads) for each image without Python's lock: one image per thread; a single image may use them all.
template <class Image, class Function>
void for_images(Call& call, std::vector<Image>& images, Threads threads, Function f) {
  const auto unlocked = call.unlock();
  const unsigned inner = images.size() == 1 ? threads.count : 1;
  parallel_for(images.size(), threads.count, [&](std::size_t i) { f(images[i], inner); });
}

// The zones of each image by scale index (engine::Target), or null for each where there are none.
class ZoneLists {
 public:
  template <class Engine>
  ZoneLists(const Engine& engine, const std::vector<Int32s>& zones, std::size_t images) {
    if (!zones.empty()) require_equal(zones.size(), images, "lists zones and y");
    for (const Int32s& own : zones) {
      require_equal(static_cast<std::size_t>(own.size()), engine.model().y_tables->rows(), "zones and rows of tables");
      values_.push_back(copied(own));
    }
  }
  const std::int32_t* operator[](std::size_t image) const { return values_.empty() ? nullptr : values_[image].data(); }

 private:
  std::vector<std::vector<std::int32_t>> values_;
};

// The streams of an image's two sections, and the size of its y.
struct Streams {
  Size size;
  std::span<const std::uint8_t> z, y;
};

// Streams that Python lends for as long as `buffers` lives; no more than an image of that size could need.
template <class Engine>
std::vector<Streams> checked_streams(const Engine& engine, const std::vector<py::buffer>& z,
                                     const std::vector<py::buffer>& y,
                                     const std::vector<std::pair<std::size_t, std::size_t>>& sizes,
                                     std::vector<py::buffer_info>& buffers, Call& call) {
  require_equal(z.size(), y.size(), "lists z and y");
  require_equal(z.size(), sizes.size(), "lists z and sizes");
  buffers.reserve(2 * z.size());
  std::vector<Streams> streams;
  for (std::size_t i = 0; i < z.size(); ++i) {
    const auto z_bytes = call.bytes(buffers.emplace_back(z[i].request()), "z", i);
    const auto y_bytes = call.bytes(buffers.emplace_back(y[i].request()), "y", i);
    const Size size{sizes[i].first, sizes[i].second};
    engine.check_sizes(z_bytes.size(), y_bytes.size(), size);
    streams.push_back({size, z_bytes, y_bytes});
  }
  return streams;
}

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

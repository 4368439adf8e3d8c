#include "fastlic/codec/coder.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <utility>

#include "fastlic/bit_cast.hpp"
#include "fastlic/isa.hpp"
#include "fastlic/memory.hpp"
#include "fastlic/nn/reading.hpp"
#include "fastlic/parallel.hpp"

namespace fastlic::codec {
namespace {

using Feed = Function<void(std::size_t, std::int16_t*, std::size_t)>;

Map run_fed(const nn::Transform& transform, MapSize size, const Feed& feed, Team& team) {
  Map out{{}, nn::output_size(transform.network, size), transform.network.output().channels};
  nn::require_addresses(out.size.height, out.size.width, out.channels, sizeof(std::int32_t));
  out.values.resize(out.size.height * out.size.width * out.channels);
  const auto take = [&](std::size_t row, const auto* from, std::size_t stride) {
    std::int32_t* to = &out.values[row * out.size.width * out.channels];
    for (std::size_t x = 0; x < out.size.width; ++x)
      std::copy_n(from + x * stride, out.channels, to + x * out.channels);
  };
  nn::run(transform.network, size, 0, {feed, take, take}, active_isa(), team);
  return out;
}

}  // namespace

void require_scale(const String& name, const nn::Network& network, std::size_t side, std::size_t out_side) {
  bool up = false, down = false;
  for (const nn::Step& step : network.steps) {
    if (const auto* layer = std::get_if<nn::Layer>(&step.op)) {
      up = up || layer->up > 1;
      down = down || layer->down > 1;
    }
  }
  nn::require(!up || !down, name, "must not both multiply and divide sides");
  for (const std::size_t times : {1, 16}) {
    const MapSize size = nn::output_size(network, {times * side, times * side});
    nn::require(size.height == times * out_side && size.width == times * out_side, name, "must have another stride");
  }
}

Gains::Gains(const nn::ArrayReader& arrays, const String& name, std::size_t channels) : channels_(channels) {
  const nn::ArrayRef& own = arrays.get(name, nn::Type::int32, 2);
  nn::require(own.shape[0] >= 1 && own.shape[0] <= 15 && own.shape[1] == channels, name,
              "must be 1 to 15 rows of " + to_string(channels) + " factors");
  const auto* bits = static_cast<const std::int32_t*>(own.data);
  for (std::size_t i = 0; i < own.size(); ++i) {
    const float factor = bit_cast<float>(bits[i]);
    nn::require(std::isfinite(factor) && factor > 0, name, "must be positive and finite");
    factors_.push_back(factor);
  }
}

Vector<double> Gains::at(unsigned quality) const {
  const std::size_t low = quality / kQualitySteps - 1, steps = quality % kQualitySteps;
  Vector<double> out(channels_);
  for (std::size_t c = 0; c < channels_; ++c) {
    out[c] = factors_[low * channels_ + c];
    if (steps == 0) continue;
    double ratio = static_cast<double>(factors_[(low + 1) * channels_ + c]) / out[c];
    for (int i = 0; i < 4; ++i) ratio = std::sqrt(ratio);
    for (std::size_t i = 0; i < steps; ++i) out[c] *= ratio;
  }
  return out;
}

Map run_map(const nn::Transform& transform, const Map& input, Team& team) {
  const Feed feed = nn::latents_feed(transform, input.values.data(), input.size.width, input.size.width, active_isa());
  return run_fed(transform, input.size, feed, team);
}

Map run_map(const nn::Transform& transform, const Map& input, MapSize size, bool magnitudes, Team& team) {
  const std::size_t channels = input.channels;
  const auto feed = [&](std::size_t row, std::int16_t* to, std::size_t stride) {
    const std::int32_t* from = &input.values[std::min(row, input.size.height - 1) * input.size.width * channels];
    Vector<std::int32_t> own(size.width * channels);
    for (std::size_t column = 0; column < size.width; ++column) {
      std::copy_n(from + std::min(column, input.size.width - 1) * channels, channels, &own[column * channels]);
    }
    if (magnitudes) std::for_each(own.begin(), own.end(), [](std::int32_t& value) { value = std::abs(value); });
    nn::latents_feed(transform, own.data(), size.width, size.width, active_isa())(0, to, stride);
  };
  return run_fed(transform, size, feed, team);
}

Map run_map(const nn::Transform& transform, const Pixels& pixels, std::span<const std::size_t> rows,
            std::span<const std::size_t> columns, Team& team) {
  const auto feed = [&](std::size_t row, std::int16_t* to, std::size_t stride) {
    for (std::size_t x = 0; x < columns.size(); ++x) {
      for (std::size_t c = 0; c < 3; ++c) to[x * stride + c] = pixels.at(rows[row], columns[x], c);
    }
  };
  return run_fed(transform, {rows.size(), columns.size()}, feed, team);
}

Region needed_of(const nn::Network& network, MapSize input, const Region& region) {
  const std::optional<std::size_t> margin = nn::margin_of(network);
  if (!margin) return {0, 0, input};
  const MapSize whole = nn::output_size(network, input);
  const auto along = [&](std::size_t first, std::size_t count, std::size_t size, std::size_t outputs) {
    const std::size_t times = outputs / size, from = first / times, to = (first + count + times - 1) / times;
    return std::pair{from > *margin ? from - *margin : 0, std::min(size, to + *margin)};
  };
  const auto [top, bottom] = along(region.top, region.size.height, input.height, whole.height);
  const auto [left, right] = along(region.left, region.size.width, input.width, whole.width);
  return {top, left, {bottom - top, right - left}};
}

void run_pixels(const nn::Transform& transform, const Map& input, const Region& region, const TakeRow& take,
                Team& team) {
  const Region needed = needed_of(transform.network, input.size, region);
  const std::size_t times = nn::output_size(transform.network, input.size).height / input.size.height;
  const std::size_t top = region.top - times * needed.top, left = region.left - times * needed.left;
  const auto rows = [&](std::size_t row, const std::int16_t* from, std::size_t stride) {
    if (row >= top && row - top < region.size.height) take(row - top, from + left * stride, stride);
  };
  const std::int32_t* first = &input.values[(needed.top * input.size.width + needed.left) * input.channels];
  const Feed feed = nn::latents_feed(transform, first, needed.size.width, input.size.width, active_isa());
  nn::run(transform.network, needed.size, 0, {feed, rows, {}}, active_isa(), team);
}

}  // namespace fastlic::codec

// The fused entropy engine: from latents to the sections of a stream and back, the same integers as the plain reference
// (fastlic/entropy/schedule.py with fastlic/codec/drivers.py), bit for bit.
//
// All maps are position by position, channels innermost: z [hz * wz][N], y [h * w][M], with hz = ceil(h / 4).
// docs/engine.md tells how the work is laid out and what was measured.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "fastlic/engine/model.hpp"
#include "fastlic/engine/sections.hpp"

namespace fastlic::engine {

using namespace fastlic::nn;

struct Size {
  std::size_t height, width;  // of y
  std::size_t hyper_height() const noexcept { return (height + kHyperStride - 1) / kHyperStride; }
  std::size_t hyper_width() const noexcept { return (width + kHyperStride - 1) / kHyperStride; }
};

// What is to be coded: latents z and y in units of 2^-6, within +-kLatentLimit, and how y is rounded.
// zones: [rows of y's table], 0 to kOffsetLimit, by how much differences from the mean are taken to be smaller than they
// are before they are rounded; null rounds to the nearest. Decoders need not know.
struct Target {
  const std::int32_t *z, *y;
  const std::int32_t* zones = nullptr;
};

class Engine {
 public:
  Engine(const Arrays& arrays, std::shared_ptr<const CdfTables> z_tables, std::shared_ptr<const CdfTables> y_tables)
      : model_(arrays, std::move(z_tables), std::move(y_tables)) {}

  // An engine of the same weights, which are shared: see Model.
  Engine(const Engine& base, const Arrays& changes, std::shared_ptr<const CdfTables> z_tables,
         std::shared_ptr<const CdfTables> y_tables)
      : model_(base.model_, changes, std::move(z_tables), std::move(y_tables)) {}

  const Model& model() const noexcept { return model_; }

  // std::invalid_argument for latents or zones out of range.
  // z_symbols, y_latents: what the decoder will see, same shapes.
  struct Encoded {
    Bytes z, y;
  };
  Encoded encode(const Target& target, Size size, std::int32_t* z_symbols, std::int32_t* y_latents,
                 unsigned threads) const;

  // The scale indexes and symbols of y as `encode` codes them, [h * w * M] each, pass by pass.
  struct Symbols {
    Buffer<std::uint8_t> indexes;
    Buffer<std::int32_t> symbols;
  };
  Symbols symbols(const Target& target, Size size, unsigned threads) const;

  // Throws CorruptStream unless the sections hold exactly these latents. Call check_sizes before reserving the outputs.
  void decode(std::span<const std::uint8_t> z, std::span<const std::uint8_t> y, Size size, std::int32_t* z_symbols,
              std::int32_t* y_latents, unsigned threads) const;

  // No symbol is cheaper than the likeliest slot of any row, so a short section cannot claim a huge image: what is
  // reserved stays in proportion to the bytes that came. Throws CorruptStream, or std::invalid_argument for no image.
  void check_sizes(std::size_t z_bytes, std::size_t y_bytes, Size size) const;

 private:
  void check_and_round(const Target& target, Size size, std::int32_t* z_symbols) const;

  Model model_;
};

}  // namespace fastlic::engine

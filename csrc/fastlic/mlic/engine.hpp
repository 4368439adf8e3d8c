// The fused engine of the MLIC family: from latents to the sections of a stream and back, the same integers as the plain
// reference (fastlic/entropy/mlic/schedule.py with fastlic/codec/mlic_drivers.py), bit for bit.
//
// All maps are position by position, channels innermost: z [hz * wz][N], y [h * w][M], with hz = ceil(h / 4).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "fastlic/engine/engine.hpp"
#include "fastlic/mlic/model.hpp"

namespace fastlic::mlic {

using engine::Bytes;
using engine::Size;

// What a run leaves: z's symbols, the latent y in units of 2^-6, and the symbols of y.
struct Outputs {
  std::int32_t *z, *y, *symbols;
};

class Engine {
 public:
  Engine(const nn::Arrays& arrays, std::shared_ptr<const CdfTables> z, std::shared_ptr<const CdfTables> y)
      : model_(arrays, std::move(z), std::move(y)) {}

  const Model& model() const noexcept { return model_; }

  struct Encoded {
    Bytes z, y;
  };
  // std::invalid_argument for latents or zones out of range.
  Encoded encode(const engine::Target& target, Size size, const Outputs& out, unsigned threads) const;

  // Reads `slices` slices; symbols of the others are taken for 0. Throws CorruptStream unless the sections hold exactly
  // these latents (with fewer slices, what follows in y goes unread). Call check_sizes before reserving the outputs.
  void decode(std::span<const std::uint8_t> z, std::span<const std::uint8_t> y, Size size, std::size_t slices,
              const Outputs& out, unsigned threads) const;

  // A short section cannot claim a huge image (engine/engine.hpp). Throws CorruptStream, or std::invalid_argument for
  // no image.
  void check_sizes(std::size_t z_bytes, std::size_t y_bytes, Size size) const;

 private:
  Model model_;
};

}  // namespace fastlic::mlic

// The fused engine of channel groups and checkerboards: from latents to the sections of a stream and back, the same
// integers as the plain reference (fastlic/entropy/groups/schedule.py with fastlic/codec/groups_drivers.py), bit for bit.
//
// All maps are position by position, channels innermost: z [hz * wz][N], y [h * w][M], with hz = ceil(h / 4). Every pass
// over y is a section of its own.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "fastlic/engine/engine.hpp"
#include "fastlic/groups/model.hpp"

namespace fastlic::groups {

using engine::Bytes;
using engine::Size;

// What a run leaves: z's symbols, and the latent y in units of 2^-6.
struct Outputs {
  std::int32_t *z, *y;
};

class Engine {
 public:
  Engine(const nn::Arrays& arrays, std::shared_ptr<const CdfTables> z, std::shared_ptr<const CdfTables> y)
      : model_(arrays, std::move(z), std::move(y)) {}

  const Model& model() const noexcept { return model_; }

  // z [hz * wz][N] of y, both in units of 2^-6; a y beyond the limit: std::invalid_argument. Needs model().analysis.
  void analyse(const std::int32_t* y, Size size, std::int32_t* z, unsigned threads) const;

  // z, y: latents in units of 2^-6, within +-kLatentLimit (others: std::invalid_argument). Sections: z, then the passes.
  std::vector<Bytes> encode(const std::int32_t* z, const std::int32_t* y, Size size, const Outputs& out,
                            unsigned threads) const;

  // Throws CorruptStream unless the sections hold exactly these latents. Call check_sizes before reserving the outputs.
  void decode(std::span<const std::span<const std::uint8_t>> sections, Size size, const Outputs& out,
              unsigned threads) const;

  // A short section cannot claim a huge image (engine/sections.hpp). Throws CorruptStream, or std::invalid_argument for
  // no image or a wrong number of sections.
  void check_sizes(std::span<const std::span<const std::uint8_t>> sections, Size size) const;

 private:
  Model model_;
};

}  // namespace fastlic::groups

// The fused entropy engine: from latents to the sections of a stream and back, the same integers as the plain reference
// (the schedules of fastlic/entropy with the driver of fastlic/codec), bit for bit.
//
// All maps are position by position, channels innermost: z [hz * wz][N], y [h * w][M], with hz = ceil(h / 4).
// docs/engine.md tells how the work is laid out and what was measured.
#pragma once

#include <cstdint>
#include <span>

#include "fastlic/latents/model.hpp"
#include "fastlic/latents/sections.hpp"
#include "fastlic/memory.hpp"

namespace fastlic::latents {

struct Size {
  std::size_t height, width;  // of y
  std::size_t hyper_height() const noexcept { return (height + nn::kHyperStride - 1) / nn::kHyperStride; }
  std::size_t hyper_width() const noexcept { return (width + nn::kHyperStride - 1) / nn::kHyperStride; }
  nn::MapSize map() const noexcept { return {height, width}; }
  nn::MapSize hyper() const noexcept { return {hyper_height(), hyper_width()}; }
  std::size_t positions() const noexcept { return height * width; }
  std::size_t hyper_positions() const noexcept { return hyper_height() * hyper_width(); }
};

// What is to be coded: latents z and y in units of 2^-6, within +-kLatentLimit, and how y is rounded.
// zones: [rows of y's table], 0 to kOffsetLimit, by how much differences from the mean are taken to be smaller than
// they are before they are rounded; null rounds to the nearest. Decoders need not know.
struct Target {
  const std::int32_t *z, *y;
  const std::int32_t* zones = nullptr;
};

// What a run leaves: z's symbols, the latent y in units of 2^-6, and the symbols of y; of the last two null where
// nobody asks.
struct Outputs {
  std::int32_t *z, *y;
  std::int32_t* symbols = nullptr;
};

using Sections = std::span<const std::span<const std::uint8_t>>;

class Engine {
 public:
  explicit Engine(Model model) : model_(std::move(model)) {}

  const Model& model() const noexcept { return model_; }

  // z [hz * wz][N] of y, both in units of 2^-6; a y beyond the limit: std::invalid_argument. Needs model().analysis.
  void analyse(const std::int32_t* y, Size size, std::int32_t* z, unsigned threads) const;

  // The sections of a stream, z first. Outputs may take the place of what is to be coded: out.y == target.y.
  // std::invalid_argument for latents or zones out of range.
  Vector<Bytes> encode(const Target& target, Size size, const Outputs& out, unsigned threads) const;

  // The scale indexes and symbols of y as `encode` codes them, [h * w * M] each, pass by pass.
  struct Symbols {
    Buffer<std::uint8_t> indexes;
    Buffer<std::int32_t> symbols;
  };
  Symbols symbols(const Target& target, Size size, unsigned threads) const;

  // Reads `groups` groups of channels; symbols of the others are taken for 0, and what follows goes unread. Throws
  // CorruptStream unless the sections hold exactly these latents. Call check_sizes before reserving the outputs.
  void decode(Sections sections, Size size, std::size_t groups, const Outputs& out, unsigned threads) const;

  // What a run by so many threads tells Progress.
  double work(Size size, std::size_t threads) const;

  // About the bytes that a run takes at most, without sections and outputs, which are asked; as long as symbols have 16
  // bits.
  std::uint64_t memory(Size size, unsigned threads, bool encode) const;

  // No symbol is cheaper than the likeliest slot of any row, so a short section cannot claim a huge image: what is
  // reserved stays in proportion to the bytes that came. Throws CorruptStream, or std::invalid_argument for no image or
  // a wrong number of sections.
  void check_sizes(Sections sections, Size size) const;

 private:
  void check_and_round(const Target& target, Size size, std::int32_t* z_symbols) const;

  Model model_;
};

}  // namespace fastlic::latents

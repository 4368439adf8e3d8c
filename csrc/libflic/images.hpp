// Image files of the command flic: PPM and PGM (binary, 8 bits), and PNG where libpng is there.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "files.hpp"

namespace flic::command {

struct Image {
  std::uint32_t width = 0, height = 0;
  unsigned channels = 3;         // 1: grey, 3: red, green, blue; 2, 4: with alpha
  Bytes pixels;                  // [height][width][channels]
  Bytes icc_profile, exif, xmp;  // as flic_metadata has them; empty: none
};

bool has_png() noexcept;

// What read_image did to an image on the way, a short phrase each.
using Notes = std::vector<std::string>;

// Throws Failure for what is no such image, is damaged, has more than 8 bits per sample, or has more than max_pixels:
// those are not read. Alpha that is opaque throughout is left out. A PNG whose EXIF says so is turned upright, which
// its EXIF says from then on, and a profile of other colours than its pixels' goes: both are noted.
Image read_image(std::span<const std::uint8_t> data, std::uint64_t max_pixels, Notes& notes);

// PPM and PGM have one or three channels, and no metadata.
enum class Format { ppm, pgm, png };
Bytes image_file(const Image& image, Format format);

}  // namespace flic::command

// Image files of the command flic: PPM and PGM (binary, 8 bits), and PNG where libpng is there.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "files.hpp"

namespace flic::command {

struct Image {
  std::uint32_t width = 0, height = 0;
  unsigned channels = 3;  // 3: red, green, blue; 1: grey
  Bytes pixels;           // [height][width][channels]
};

bool has_png() noexcept;

// Throws Failure for what is no such image, is damaged, has more than 8 bits per sample, is transparent somewhere, or
// has more than max_pixels: those are not read.
Image read_image(std::span<const std::uint8_t> data, std::uint64_t max_pixels);

enum class Format { ppm, pgm, png };
Bytes image_file(const Image& image, Format format);

}  // namespace flic::command

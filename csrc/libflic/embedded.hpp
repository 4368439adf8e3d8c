// Codec files within the library; CMake writes the source behind it (cmake/embedded.cpp.in).
#pragma once

#include <span>

namespace fastlic::embedded {

struct File {
  const char* name;
  const unsigned char *begin, *end;
};

std::span<const File> files();

}  // namespace fastlic::embedded

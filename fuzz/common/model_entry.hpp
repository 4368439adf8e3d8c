// One array of a model in the header that build.py makes of models.zip.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "fastlic/memory.hpp"
#include "fastlic/nn/arrays.hpp"

namespace fastlic::fuzz::models {

struct Entry {
  const char* name;
  nn::Type type;
  std::size_t rank;
  std::size_t shape[4];
  const void* data;
};

inline nn::Arrays arrays_of(std::span<const Entry> entries) {
  nn::Arrays arrays;
  for (const Entry& e : entries) arrays[e.name] = {e.type, Vector<std::size_t>(e.shape, e.shape + e.rank), e.data};
  return arrays;
}

}  // namespace fastlic::fuzz::models

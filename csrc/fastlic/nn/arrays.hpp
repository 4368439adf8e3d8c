// The model's arrays as they come from a file: named, typed, shaped, not yet trusted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "fastlic/memory.hpp"

namespace fastlic::nn {

enum class Type { int8, uint8, int16, int32 };

constexpr std::size_t bytes_of(Type type) noexcept { return type == Type::int32 ? 4 : type == Type::int16 ? 2 : 1; }

struct ArrayRef {
  Type type;
  Vector<std::size_t> shape;
  const void* data;  // C-contiguous, native byte order; read only while the model is parsed

  std::size_t size() const noexcept {
    std::size_t n = 1;
    for (const std::size_t extent : shape) n *= extent;
    return n;
  }
};

using Arrays = Dictionary<String, ArrayRef>;

// Looks arrays up and checks type and rank; every fault is std::invalid_argument that names the array.
class ArrayReader {
 public:
  explicit ArrayReader(const Arrays& arrays) : arrays_(arrays) {}

  bool has(const String& name) const { return arrays_.count(name) != 0; }
  bool has(const String& name, Type type) const {
    const auto found = arrays_.find(name);
    return found != arrays_.end() && found->second.type == type;
  }
  const ArrayRef& get(const String& name, Type type, std::size_t rank) const;
  std::span<const std::int32_t> int32s(const String& name) const { return row<std::int32_t>(name, Type::int32); }
  std::span<const std::int16_t> int16s(const String& name) const { return row<std::int16_t>(name, Type::int16); }
  std::span<const std::uint8_t> uint8s(const String& name) const { return row<std::uint8_t>(name, Type::uint8); }

 private:
  template <typename T>
  std::span<const T> row(const String& name, Type type) const {
    const ArrayRef& array = get(name, type, 1);
    return {static_cast<const T*>(array.data), array.size()};
  }

  const Arrays& arrays_;
};

}  // namespace fastlic::nn

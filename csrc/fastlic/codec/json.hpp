// JSON as codec files have it: one value, of bounded depth, whose objects name nothing twice.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "fastlic/memory.hpp"

namespace fastlic::codec {

struct Json {
  enum class Kind { literal, number, text, array, object };

  Kind kind = Kind::literal;
  String text;  // of literals and numbers as they stand in the file; of texts decoded, UTF-8
  Vector<Json> items;
  Vector<String> names;  // of the items, if this is an object

  // The item of that name; null if there is none, or if this is no object.
  const Json* find(std::string_view name) const noexcept;
  // A whole number from 0 to 2^53; none for anything else.
  std::optional<std::uint64_t> count() const noexcept;
};

// Throws std::invalid_argument that says at which byte.
Json parse_json(std::string_view text);

// In one line without spaces, items sorted by name if `sorted`, texts in ASCII: as Python's json.dumps does with
// sort_keys and separators=(",", ":"). Numbers stand as in the file.
String written(const Json& value, bool sorted);

}  // namespace fastlic::codec

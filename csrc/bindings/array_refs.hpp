// numpy arrays of a model by name, as the engines read them: named, typed, shaped, not yet trusted.
#pragma once

#include <cstdint>
#include <string>

#include "arrays.hpp"
#include "fastlic/engine/arrays.hpp"

namespace fastlic::bindings {

inline engine::ArrayRef array_ref(const std::string& name, const py::array& array) {
  engine::ArrayRef ref{};
  if (py::isinstance<py::array_t<std::int8_t>>(array)) {
    ref.type = engine::Type::int8;
  } else if (py::isinstance<py::array_t<std::uint8_t>>(array)) {
    ref.type = engine::Type::uint8;
  } else if (py::isinstance<py::array_t<std::int32_t>>(array)) {
    ref.type = engine::Type::int32;
  } else {
    throw py::type_error("array '" + name + "' must be int8, uint8 or int32");
  }
  if ((array.flags() & py::array::c_style) == 0) throw py::value_error("array '" + name + "' must be C-contiguous");
  ref.shape.assign(array.shape(), array.shape() + array.ndim());
  ref.data = array.data();
  return ref;
}

// The arrays must outlive the result.
inline engine::Arrays array_refs(const py::dict& arrays) {
  engine::Arrays refs;
  for (const auto& [key, value] : arrays) {
    const auto name = key.cast<std::string>();
    refs.emplace(name, array_ref(name, value.cast<py::array>()));
  }
  return refs;
}

}  // namespace fastlic::bindings

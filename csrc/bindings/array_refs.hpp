// numpy arrays of a model by name, as the engines read them: named, typed, shaped, not yet trusted.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "fastlic/nn/arrays.hpp"

namespace fastlic::bindings {

// Refers to int8 arrays, which are weights of entropy models and may have any values; keeps copies of the others, whose
// values are checked once and trusted then. The int8 arrays must outlive it.
class ArrayRefs {
 public:
  explicit ArrayRefs(const py::dict& arrays) {
    for (const auto& [key, value] : arrays) {
      const char* text = PyUnicode_Check(key.ptr()) ? PyUnicode_AsUTF8(key.ptr()) : nullptr;
      if (text == nullptr) {
        PyErr_Clear();
        throw py::type_error("names of arrays must be strings of valid characters");
      }
      const std::string name = text;
      if (!py::isinstance<py::array>(value)) throw py::type_error("array '" + name + "' must be a numpy array");
      refs_.emplace(String(name), ref(name, py::reinterpret_borrow<py::array>(value)));
    }
  }

  const nn::Arrays& refs() const noexcept { return refs_; }

 private:
  nn::ArrayRef ref(const std::string& name, const py::array& array) {
    nn::ArrayRef out{};
    if (py::isinstance<py::array_t<std::int8_t>>(array)) {
      out.type = nn::Type::int8;
    } else if (py::isinstance<py::array_t<std::uint8_t>>(array)) {
      out.type = nn::Type::uint8;
    } else if (py::isinstance<py::array_t<std::int16_t>>(array)) {
      out.type = nn::Type::int16;
    } else if (py::isinstance<py::array_t<std::int32_t>>(array)) {
      out.type = nn::Type::int32;
    } else {
      throw py::type_error("array '" + name + "' must be int8, uint8, int16 or int32");
    }
    if ((array.flags() & py::array::c_style) == 0) throw py::value_error("array '" + name + "' must be C-contiguous");
    out.shape.assign(array.shape(), array.shape() + array.ndim());
    if (out.type == nn::Type::int8) {
      out.data = array.data();
    } else {
      const auto* bytes = static_cast<const char*>(array.data());
      // operator new aligns the copy for any of the types.
      out.data = copies_.emplace_back(bytes, bytes + array.nbytes()).data();
    }
    return out;
  }

  nn::Arrays refs_;
  std::vector<std::vector<char>> copies_;
};

}  // namespace fastlic::bindings

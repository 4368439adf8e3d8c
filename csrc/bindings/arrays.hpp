// Checked, zero-copy views of numpy arrays and bytes.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <span>
#include <string>

namespace fastlic::bindings {

namespace py = pybind11;

// A 1-D C-contiguous array of exactly this type; anything else is a TypeError at the call, never a silent copy.
template <typename T>
using Array = py::array_t<T, py::array::c_style>;

template <typename T>
std::span<const T> view(const Array<T>& array) {
  return {array.data(), static_cast<std::size_t>(array.size())};
}

template <typename T>
std::span<T> mutable_view(Array<T>& array) {
  return {array.mutable_data(), static_cast<std::size_t>(array.size())};
}

// Bytes, bytearray, memoryview, uint8 array. Keep the buffer_info alive while the span is used.
inline std::span<const std::uint8_t> byte_view(const py::buffer_info& info) {
  if (info.ndim != 1 || info.itemsize != 1 || (info.size > 0 && info.strides[0] != 1)) {
    throw py::value_error("expected contiguous bytes");
  }
  return {static_cast<const std::uint8_t*>(info.ptr), static_cast<std::size_t>(info.size)};
}

inline void require_equal(std::size_t a, std::size_t b, const char* what) {
  if (a != b)
    throw py::value_error(std::string(what) + " differ in size: " + std::to_string(a) + " and " + std::to_string(b));
}

template <typename Bytes>
py::bytes to_bytes(const Bytes& data) {
  return py::bytes(reinterpret_cast<const char*>(data.data()), data.size());
}

}  // namespace fastlic::bindings

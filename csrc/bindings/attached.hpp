// Attachments of a container (fastlic/container.hpp) as Python gives them: (kind, bytes) each.
#pragma once

#include <deque>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "fastlic/container.hpp"

namespace fastlic::bindings {

// Keeps the buffers that its views lie in.
class Attached {
 public:
  Attached(Call& call, const py::sequence& given, const char* name) {
    for (std::size_t i = 0; i < given.size(); ++i) {
      const py::object own = given[i];
      const std::string text = std::string(name) + "[" + std::to_string(i) + "]";
      if (!py::isinstance<py::tuple>(own) || py::len(own) != 2) throw py::type_error(text + " must be (kind, bytes)");
      const auto [kind, bytes] = own.cast<std::pair<py::object, py::object>>();
      if (!py::isinstance<py::int_>(kind) || !py::isinstance<py::buffer>(bytes)) {
        throw py::type_error(text + " must be (kind, bytes), a number and bytes");
      }
      buffers_.push_back(py::reinterpret_borrow<py::buffer>(bytes).request());
      views_.push_back({kind_of(kind, text), call.bytes(buffers_.back(), name, i)});
    }
  }

  std::span<const container::Attachment> views() const noexcept { return views_; }

 private:
  static std::uint8_t kind_of(const py::object& kind, const std::string& text) {
    int overflow = 0;
    const long value = PyLong_AsLongAndOverflow(kind.ptr(), &overflow);
    if (overflow != 0 || value < 1 || value > 255) throw py::value_error(text + " has a kind that is not 1 to 255");
    return static_cast<std::uint8_t>(value);
  }

  std::deque<py::buffer_info> buffers_;
  std::vector<container::Attachment> views_;
};

}  // namespace fastlic::bindings

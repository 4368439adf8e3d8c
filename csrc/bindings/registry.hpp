// How a bindings file joins the module: each one registers a function, module.cpp calls them all.
// A new file needs no edit anywhere else, and the build picks it up by its place in csrc/bindings/.
#pragma once

#include <pybind11/pybind11.h>

#include <vector>

namespace fastlic::bindings {

using Binder = void (*)(pybind11::module_&);

// A function-local static, so that it exists whichever file's registration runs first.
inline std::vector<Binder>& binders() {
  static std::vector<Binder> list;
  return list;
}

struct Register {
  explicit Register(Binder binder) { binders().push_back(binder); }
};

}  // namespace fastlic::bindings

// FASTLIC_BINDINGS(rans) { module.def(...); }
#define FASTLIC_BINDINGS(name)                                              \
  static void bind_##name(pybind11::module_& module);                       \
  static const ::fastlic::bindings::Register register_##name{&bind_##name}; \
  static void bind_##name(pybind11::module_& module)

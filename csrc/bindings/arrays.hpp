// Checked, zero-copy views of what Python hands over. Every array and buffer that a call reads or writes without
// Python's lock goes through one Call, which knows them all.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "fastlic/memory.hpp"

namespace fastlic::bindings {

namespace py = pybind11;

// A C-contiguous array of exactly this type; anything else is a TypeError at the call, never a silent conversion.
template <typename T>
using Array = py::array_t<T, py::array::c_style>;

// Bytes, bytearray, memoryview, uint8 array. Keep the buffer_info alive while the span is used.
inline std::span<const std::uint8_t> byte_view(const py::buffer_info& info, const char* name) {
  if (info.ndim != 1 || info.itemsize != 1 || (info.size > 1 && info.strides[0] != 1)) {
    throw py::value_error(std::string(name) + " must be contiguous bytes in one dimension");
  }
  return {static_cast<const std::uint8_t*>(info.ptr), static_cast<std::size_t>(info.size)};
}

inline bool aligned(const void* data, std::size_t alignment) {
  return reinterpret_cast<std::uintptr_t>(data) % alignment == 0;
}

// The memory that one call reads and writes, under the names of its arguments:
//
//     Call call;
//     const auto i = call.in(indexes, "indexes");
//     const auto o = call.out(out, "out");
//     const auto unlocked = call.unlock();
//
// Inputs that are not aligned are copied. unlock() gives Python's lock away, once no output shares memory with anything
// else. It must go out of scope before the call does, whose copies are Python objects.
class Call {
 public:
  static constexpr std::size_t kSingle = std::numeric_limits<std::size_t>::max();

  // `item`: the place in a list.
  template <typename T>
  std::span<const T> in(const Array<T>& array, const char* name, std::size_t item = kSingle) {
    Array<T> own = array;
    if (!aligned(array.data(), alignof(T))) {
      own = Array<T>(array.size(), array.data());
      copies_.push_back(own);
    } else {
      add(array.data(), static_cast<std::size_t>(array.nbytes()), false, name, item);
    }
    return {own.data(), static_cast<std::size_t>(own.size())};
  }

  template <typename T>
  std::span<T> out(Array<T>& array, const char* name, std::size_t item = kSingle) {
    const Memory memory = add(array.data(), static_cast<std::size_t>(array.nbytes()), true, name, item);
    if (!array.writeable()) throw py::value_error(memory.text() + " is read-only; it must be writeable");
    if (!aligned(array.data(), alignof(T))) {
      throw py::value_error(memory.text() + " must be aligned to " + std::to_string(alignof(T)) + " bytes");
    }
    return {array.mutable_data(), static_cast<std::size_t>(array.size())};
  }

  // The bytes of any number of strides.
  void in(const py::array& array, const char* name) {
    const auto* low = static_cast<const char*>(array.data());
    const char* high = low + array.itemsize();
    for (py::ssize_t axis = 0; axis < array.ndim(); ++axis) {
      if (array.shape(axis) == 0) return;
      const py::ssize_t way = (array.shape(axis) - 1) * array.strides(axis);
      (way < 0 ? low : high) += way;
    }
    add(low, static_cast<std::size_t>(high - low), false, name, kSingle);
  }

  std::span<const std::uint8_t> bytes(const py::buffer_info& info, const char* name, std::size_t item = kSingle) {
    const auto view = byte_view(info, name);
    add(view.data(), view.size(), false, name, item);
    return view;
  }

  [[nodiscard]] py::gil_scoped_release unlock() {
    std::sort(memory_.begin(), memory_.end(), [](const Memory& a, const Memory& b) { return a.begin < b.begin; });
    const Memory *furthest = nullptr, *furthest_out = nullptr;  // by their ends
    for (const Memory& memory : memory_) {
      const Memory* before = memory.is_out ? furthest : furthest_out;
      if (before != nullptr && memory.begin < before->end) {
        const Memory& out = memory.is_out ? memory : *before;
        const Memory& other = memory.is_out ? *before : memory;
        throw py::value_error(out.text() + " shares memory with " + other.text() + "; it must have memory of its own");
      }
      if (furthest == nullptr || memory.end > furthest->end) furthest = &memory;
      if (memory.is_out && (furthest_out == nullptr || memory.end > furthest_out->end)) furthest_out = &memory;
    }
    return py::gil_scoped_release();
  }

 private:
  struct Memory {
    std::uintptr_t begin, end;
    bool is_out;
    const char* name;
    std::size_t item;
    std::string text() const { return item == kSingle ? name : std::string(name) + "[" + std::to_string(item) + "]"; }
  };

  Memory add(const void* data, std::size_t size, bool is_out, const char* name, std::size_t item) {
    const auto begin = reinterpret_cast<std::uintptr_t>(data);
    const Memory memory{begin, begin + size, is_out, name, item};
    if (size > 0) memory_.push_back(memory);
    return memory;
  }

  std::vector<Memory> memory_;
  std::vector<py::array> copies_;
};

// What a constructor keeps or reads several times, out of reach of whoever else holds the array.
template <typename T>
std::vector<T> copied(const Array<T>& array) {
  std::vector<T> values(static_cast<std::size_t>(array.size()));
  if (!values.empty()) std::memcpy(values.data(), array.data(), values.size() * sizeof(T));
  return values;
}

inline void require_equal(std::size_t a, std::size_t b, const char* what) {
  if (a != b)
    throw py::value_error(std::string(what) + " differ in size: " + std::to_string(a) + " and " + std::to_string(b));
}

template <typename Bytes>
py::bytes to_bytes(const Bytes& data) {
  return py::bytes(reinterpret_cast<const char*>(data.data()), data.size());
}

// What encode() returns without Python's lock, as bytes.
template <typename Encode>
py::bytes encoded(Call& call, const Encode& encode) {
  Vector<std::uint8_t> out;
  {
    const auto unlocked = call.unlock();
    out = encode();
  }
  return to_bytes(out);
}

// Held while a decoder works: two threads may not move one position in a stream.
class Exclusive {
 public:
  explicit Exclusive(std::atomic_flag& busy) : busy_(busy) {
    if (busy_.test_and_set(std::memory_order_acquire)) {
      throw py::value_error("this decoder is at work in another thread; it serves one at a time");
    }
  }
  ~Exclusive() { busy_.clear(std::memory_order_release); }
  Exclusive(const Exclusive&) = delete;
  Exclusive& operator=(const Exclusive&) = delete;

 private:
  std::atomic_flag& busy_;
};

// decode(indexes, out, count) of a stream in `data`, which one thread at a time may move along.
template <typename Index, typename Symbol, typename Decode>
void decode_next(std::atomic_flag& busy, const py::buffer_info& data, const Array<Index>& indexes, Array<Symbol>& out,
                 const Decode& decode) {
  const Exclusive exclusive(busy);
  Call call;
  call.bytes(data, "data");
  const auto i = call.in(indexes, "indexes");
  const auto o = call.out(out, "out");
  require_equal(i.size(), o.size(), "indexes and out");
  const auto unlocked = call.unlock();
  decode(i.data(), o.data(), i.size());
}

// How many threads a call may use: 0 is one per core; parallel.hpp has the bound on all others.
struct Threads {
  unsigned count = 0;
};

}  // namespace fastlic::bindings

namespace pybind11::detail {

template <>
struct type_caster<fastlic::bindings::Threads> {
  PYBIND11_TYPE_CASTER(fastlic::bindings::Threads, const_name("int"));

  bool load(handle source, bool) {
    if (!source || PyIndex_Check(source.ptr()) == 0) return false;
    const auto index = reinterpret_steal<object>(PyNumber_Index(source.ptr()));
    if (!index) {
      PyErr_Clear();  // the caller says which types it takes
      return false;
    }
    int overflow = 0;
    const long long count = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
    if (overflow < 0 || (overflow == 0 && count < 0)) {
      throw value_error("threads must be 0 (one per core) or more, got " + str(index).cast<std::string>());
    }
    constexpr long long kMost = std::numeric_limits<unsigned>::max();
    value.count = overflow > 0 ? static_cast<unsigned>(kMost) : static_cast<unsigned>(std::min(count, kMost));
    return true;
  }

  static handle cast(fastlic::bindings::Threads threads, return_value_policy, handle) {
    return PyLong_FromUnsignedLong(threads.count);
  }
};

}  // namespace pybind11::detail

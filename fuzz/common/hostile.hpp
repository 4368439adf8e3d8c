// Arrays of a model with a few of them changed, as the bytes of an input say.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <map>
#include <utility>

#include "fastlic/memory.hpp"
#include "fastlic/nn/arrays.hpp"
#include "harness.hpp"

namespace fastlic::fuzz {

// A model's arrays with memory of their own, so that the address sanitizer knows each one's end.
class Hostile {
 public:
  explicit Hostile(const nn::Arrays& base) {
    for (const auto& [name, array] : base) set(name, array, array.shape, array.type);
  }

  nn::Arrays arrays;

  // What differs from the base, as other integers around its weights.
  nn::Arrays changes() const {
    nn::Arrays out;
    for (const String& name : changed_) {
      if (const auto found = arrays.find(name); found != arrays.end()) out.insert(*found);
    }
    return out;
  }

  // Whether the coder's tables of that name are what they were.
  bool keeps(const String& tables) const {
    return std::none_of(changed_.begin(), changed_.end(), [&](const auto& name) { return name.rfind(tables, 0) == 0; });
  }

  void change(Input& input) {
    const auto at = [&](std::size_t number) {
      return std::next(arrays.begin(), static_cast<std::ptrdiff_t>(number % arrays.size()));
    };
    const auto kind = input.take<std::uint8_t>();
    auto found = at(input.take<std::uint16_t>());
    const std::uint32_t where = input.take<std::uint16_t>();
    const auto value = input.take<std::int32_t>();
    const String name = found->first;
    changed_.push_back(name);
    nn::ArrayRef array = found->second;
    switch (kind % 8) {
      case 0:
        arrays.erase(found);
        return;
      case 1:
        set(name, array, array.shape, static_cast<nn::Type>(where % 4));
        return;
      case 2: {  // another extent
        if (array.shape.empty()) return;
        auto shape = array.shape;
        shape[where % shape.size()] = extent(value);
        set(name, array, shape, array.type);
        return;
      }
      case 3: {  // another rank
        auto shape = array.shape;
        if (where % 2 == 0 && !shape.empty())
          shape.pop_back();
        else
          shape.push_back(extent(value));
        set(name, array, shape, array.type);
        return;
      }
      case 4: {  // what another array is
        const nn::ArrayRef other = at(where)->second;
        set(name, other, other.shape, other.type);
        return;
      }
      case 5: {  // all numbers the same
        for (std::size_t i = 0; i < array.size(); ++i) put(name, i, value);
        return;
      }
      case 6: {  // several small ones
        for (std::size_t i = where % 7; i < array.size(); i += 1 + where % 5) put(name, i, (value >> (i % 25)) % 64);
        return;
      }
      default:  // one number
        if (array.size() > 0) put(name, where % array.size(), value);
    }
  }

 private:
  static std::size_t extent(std::int32_t value) {
    const auto number = static_cast<std::uint32_t>(value);
    return number % 16 < 14 ? number / 16 % 40 : number / 16 % 3000;
  }

  void set(const String& name, const nn::ArrayRef& from, Vector<std::size_t> shape, nn::Type type) {
    nn::ArrayRef to{type, std::move(shape), nullptr};
    if (to.size() > 1 << 16) return;
    Vector<std::uint8_t> bytes(to.size() * nn::bytes_of(type));
    const std::size_t known = from.size() * nn::bytes_of(from.type);
    for (std::size_t i = 0; known > 0 && i < bytes.size(); ++i) {
      bytes[i] = static_cast<const std::uint8_t*>(from.data)[i % known];
    }
    auto& kept = memory_[name] = std::move(bytes);
    to.data = kept.data();
    arrays[name] = std::move(to);
  }

  void put(const String& name, std::size_t index, std::int32_t value) {
    const std::size_t size = nn::bytes_of(arrays[name].type);
    std::memcpy(&memory_[name][index * size], &value, size);
  }

  std::map<String, Vector<std::uint8_t>> memory_;
  Vector<String> changed_;
};

}  // namespace fastlic::fuzz

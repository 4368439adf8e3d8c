// A small fixed context model of codes/context.hpp.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <utility>

#include "fastlic/codes/context.hpp"
#include "fastlic/memory.hpp"

namespace fastlic::fuzz {

constexpr std::size_t kCodesGroups = 3, kCodesWords = 37, kCodesDepth = 3, kCodesWidth = 5;

// The arrays of a model with weights from a generator.
class CodesArrays {
 public:
  CodesArrays() {
    static constexpr std::array<std::int8_t, 10> kOffsets = {0, -1, -1, 0, -8, 8, -2, -3, 0, -8};
    numbers<std::int8_t>("offsets", nn::Type::int8, {5, 2}, [](std::size_t i) { return kOffsets[i]; });
    numbers<std::int8_t>("words", nn::Type::int8, {kCodesGroups, kCodesWords + 1, kCodesDepth},
                         [this](std::size_t) { return byte(); });
    numbers<std::int32_t>("table", nn::Type::int32, {256},
                          [](std::size_t i) { return (512 - static_cast<int>(i)) * 2048; });
    numbers<std::uint8_t>("precision", nn::Type::uint8, {1}, [](std::size_t) { return 14; });
    for (std::size_t g = 0; g < kCodesGroups; ++g) {
      const String number = to_string(g);
      layer("first." + number, kCodesWidth, kCodesDepth * (5 * kCodesGroups + g), 12, 8);
      layer("second." + number, kCodesWidth, kCodesWidth, 12, 8);
      layer("last." + number, kCodesWords, kCodesWidth, 18, 7);
    }
  }
  const nn::Arrays& all() const { return arrays_; }

 private:
  std::int8_t byte() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<std::int8_t>(state_ >> 56);
  }

  template <typename T, typename Value>
  void numbers(const String& name, nn::Type type, Vector<std::size_t> shape, const Value& value) {
    nn::ArrayRef ref{type, std::move(shape), nullptr};
    auto& bytes = memory_.emplace_back(ref.size() * sizeof(T));
    for (std::size_t i = 0; i < ref.size(); ++i) {
      const auto number = static_cast<T>(value(i));
      std::memcpy(&bytes[i * sizeof(T)], &number, sizeof(T));
    }
    ref.data = bytes.data();
    arrays_[name] = std::move(ref);
  }

  void layer(const String& name, std::size_t outputs, std::size_t inputs, int bits, int shift) {
    const auto all = [](int value) { return [value](std::size_t) { return value; }; };
    numbers<std::int8_t>(name + ".weight", nn::Type::int8, {outputs, inputs}, [this](std::size_t) { return byte(); });
    numbers<std::int32_t>(name + ".bias", nn::Type::int32, {outputs}, [this](std::size_t) { return 50 * byte(); });
    numbers<std::int32_t>(name + ".requantise.multiplier", nn::Type::int32, {outputs}, all(3));
    numbers<std::int32_t>(name + ".requantise.negative", nn::Type::int32, {outputs}, all(bits > 12 ? 3 : 0));
    numbers<std::uint8_t>(name + ".requantise.shift", nn::Type::uint8, {outputs}, all(shift));
    numbers<std::uint8_t>(name + ".requantise.bits", nn::Type::uint8, {1}, all(bits));
  }

  std::uint64_t state_ = 1;
  std::deque<Vector<std::uint8_t>> memory_;
  nn::Arrays arrays_;
};

}  // namespace fastlic::fuzz

// A small fixed model of engine/engine.hpp, with and without its masked context.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fastlic/engine/engine.hpp"

namespace fastlic::fuzz {

// Owns what ArrayRef points to, and fills it from one fixed pseudo-random sequence.
class EngineArrays {
 public:
  void layer(const std::string& name, std::vector<std::size_t> shape, std::size_t outputs, unsigned stride,
             bool transposed, unsigned bits) {
    std::size_t size = 1;
    for (const std::size_t extent : shape) size *= extent;
    auto& weight = bytes_[name + ".weight"];
    for (std::size_t i = 0; i < size; ++i) weight.push_back(static_cast<std::uint8_t>(next() % 255 - 127));
    arrays[name + ".weight"] = {nn::Type::int8, std::move(shape), weight.data()};
    auto& bias = ints_[name + ".bias"];
    for (std::size_t i = 0; i < outputs; ++i) bias.push_back(static_cast<std::int32_t>(next() % 20001) - 10000);
    arrays[name + ".bias"] = {nn::Type::int32, {outputs}, bias.data()};
    u8(name + ".geometry", {static_cast<std::uint8_t>(stride), transposed, 12});
    requantiser(name + ".requantise", outputs, bits, bits > 12 ? 32 : 38);
  }

  void requantiser(const std::string& name, std::size_t channels, unsigned bits, unsigned shift) {
    auto& multiplier = ints_[name + ".multiplier"];
    auto& negative = ints_[name + ".negative"];
    for (std::size_t i = 0; i < channels; ++i) {
      multiplier.push_back((1 << 29) + static_cast<std::int32_t>(next() % (1 << 29)));
      negative.push_back(multiplier.back() / (i % 2 == 0 ? 1 : 100));
    }
    arrays[name + ".multiplier"] = {nn::Type::int32, {channels}, multiplier.data()};
    arrays[name + ".negative"] = {nn::Type::int32, {channels}, negative.data()};
    u8(name + ".shift", std::vector<std::uint8_t>(channels, static_cast<std::uint8_t>(shift)));
    u8(name + ".bits", {static_cast<std::uint8_t>(bits)});
  }

  void i32(const std::string& name, std::vector<std::int32_t> values) {
    auto& kept = ints_[name] = std::move(values);
    arrays[name] = {nn::Type::int32, {kept.size()}, kept.data()};
  }

  void u8(const std::string& name, std::vector<std::uint8_t> values) {
    auto& kept = bytes_[name] = std::move(values);
    arrays[name] = {nn::Type::uint8, {kept.size()}, kept.data()};
  }

  nn::Arrays arrays;

 private:
  std::uint32_t next() { return (seed_ = seed_ * 1664525u + 1013904223u) >> 8; }
  std::uint32_t seed_ = 1;
  std::map<std::string, std::vector<std::int32_t>> ints_;
  std::map<std::string, std::vector<std::uint8_t>> bytes_;
};

constexpr std::size_t kHyper = 3, kLatent = 5;

inline EngineArrays engine_arrays(bool contextual) {
  EngineArrays model;
  constexpr unsigned kWide = 21;
  model.i32("z.median", {5, -40, 0});
  model.requantiser("z.input", kHyper, 12, 30);
  model.layer("hyper.0", {kHyper, 4, 5, 5}, 4, 2, true, 12);
  model.layer("hyper.1", {4, 6, 5, 5}, 6, 2, true, 12);
  model.layer("hyper.2", {2 * kLatent, 6, 3, 3}, 2 * kLatent, 1, false, contextual ? 12 : kWide);
  if (contextual) {
    model.requantiser("y.input", kLatent, 12, 31);
    model.layer("context", {2 * kLatent, kLatent, 12, 1}, 2 * kLatent, 1, false, 12);
    model.layer("parameters.0", {13, 4 * kLatent, 1, 1}, 13, 1, false, 12);
    model.layer("parameters.1", {9, 13, 1, 1}, 9, 1, false, 12);
    model.layer("parameters.2", {2 * kLatent, 9, 1, 1}, 2 * kLatent, 1, false, kWide);
  }
  model.i32("y.thresholds", {150, 400, 3000});
  // Rows: two slots; narrow; wide; wide with raw bits.
  const std::vector<std::int32_t> cdf = {0, 4095, 4096, 0,    300,  3700, 4000, 4096, 0,   700,
                                         1400, 2700, 3300, 4000, 4096, 0,    1300, 2700, 4090, 4096};
  const std::vector<std::int32_t> lengths = {3, 5, 7, 5}, offsets = {0, -1, -2, -1};
  const std::vector<std::uint8_t> shifts = {0, 0, 0, 5};
  for (const std::string name : {"z.tables", "y.tables"}) {
    model.i32(name + ".cdf", cdf);
    model.i32(name + ".lengths", lengths);
    model.i32(name + ".offsets", offsets);
    model.u8(name + ".shifts", shifts);
    model.i32(name + ".precision", {12});
  }
  return model;
}

// The coder's tables `name` in a model's arrays.
inline std::shared_ptr<const CdfTables> tables_of(const nn::Arrays& arrays, const std::string& name) {
  const engine::ArrayReader read(arrays);
  const auto precision = read.int32s(name + ".precision");
  return std::make_shared<const CdfTables>(read.int32s(name + ".cdf"), read.int32s(name + ".lengths"),
                                           read.int32s(name + ".offsets"), read.uint8s(name + ".shifts"),
                                           precision.empty() ? 0 : static_cast<unsigned>(precision[0]));
}

template <class Engine>
Engine engine_of(const nn::Arrays& arrays) {
  return {arrays, tables_of(arrays, "z.tables"), tables_of(arrays, "y.tables")};
}

}  // namespace fastlic::fuzz

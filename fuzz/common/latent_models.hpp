// Small fixed models of latents/engine.hpp, and what targets do with them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <utility>

#include "fastlic/errors.hpp"
#include "fastlic/latents/engine.hpp"
#include "fastlic/memory.hpp"
#include "harness.hpp"

namespace fastlic::fuzz {

// Owns what ArrayRef points to, and fills it from one fixed pseudo-random sequence.
class EngineArrays {
 public:
  void layer(const String& name, Vector<std::size_t> shape, std::size_t outputs, unsigned stride, bool transposed,
             unsigned bits) {
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

  void requantiser(const String& name, std::size_t channels, unsigned bits, unsigned shift) {
    auto& multiplier = ints_[name + ".multiplier"];
    auto& negative = ints_[name + ".negative"];
    for (std::size_t i = 0; i < channels; ++i) {
      multiplier.push_back((1 << 29) + static_cast<std::int32_t>(next() % (1 << 29)));
      negative.push_back(multiplier.back() / (i % 2 == 0 ? 1 : 100));
    }
    arrays[name + ".multiplier"] = {nn::Type::int32, {channels}, multiplier.data()};
    arrays[name + ".negative"] = {nn::Type::int32, {channels}, negative.data()};
    u8(name + ".shift", Vector<std::uint8_t>(channels, static_cast<std::uint8_t>(shift)));
    u8(name + ".bits", {static_cast<std::uint8_t>(bits)});
  }

  void i32(const String& name, Vector<std::int32_t> values) {
    auto& kept = ints_[name] = std::move(values);
    arrays[name] = {nn::Type::int32, {kept.size()}, kept.data()};
  }

  void u8(const String& name, Vector<std::uint8_t> values) {
    auto& kept = bytes_[name] = std::move(values);
    arrays[name] = {nn::Type::uint8, {kept.size()}, kept.data()};
  }

  nn::Arrays arrays;

 private:
  std::uint32_t next() { return (seed_ = seed_ * 1664525u + 1013904223u) >> 8; }
  std::uint32_t seed_ = 1;
  std::map<String, Vector<std::int32_t>> ints_;
  std::map<String, Vector<std::uint8_t>> bytes_;
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
  const Vector<std::int32_t> cdf = {0,    4095, 4096, 0,    300,  3700, 4000, 4096, 0,    700,
                                    1400, 2700, 3300, 4000, 4096, 0,    1300, 2700, 4090, 4096};
  const Vector<std::int32_t> lengths = {3, 5, 7, 5}, offsets = {0, -1, -2, -1};
  const Vector<std::uint8_t> shifts = {0, 0, 0, 5};
  for (const String name : {"z.tables", "y.tables"}) {
    model.i32(name + ".cdf", cdf);
    model.i32(name + ".lengths", lengths);
    model.i32(name + ".offsets", offsets);
    model.u8(name + ".shifts", shifts);
    model.i32(name + ".precision", {12});
  }
  return model;
}

// The coder's tables `name` in a model's arrays.
inline std::shared_ptr<const CdfTables> tables_of(const nn::Arrays& arrays, const String& name) {
  const nn::ArrayReader read(arrays);
  const auto precision = read.int32s(name + ".precision");
  return std::make_shared<const CdfTables>(read.int32s(name + ".cdf"), read.int32s(name + ".lengths"),
                                           read.int32s(name + ".offsets"), read.uint8s(name + ".shifts"),
                                           precision.empty() ? 0 : static_cast<unsigned>(precision[0]));
}

using Reader = decltype(&latents::read_groups);

inline latents::Engine engine_of(Reader reader, const nn::Arrays& arrays) {
  return latents::Engine(reader(arrays, tables_of(arrays, "z.tables"), tables_of(arrays, "y.tables")));
}

struct Latents {
  Vector<std::int32_t> z, y, symbols;
  bool operator==(const Latents&) const = default;

  Latents() = default;
  Latents(const latents::Engine& engine, latents::Size size)
      : z(size.hyper_positions() * engine.model().hyper_channels()),
        y(size.positions() * engine.model().latent_channels),
        symbols(y.size()) {}
  latents::Outputs outputs() { return {z.data(), y.data(), symbols.data()}; }

  // Mostly small; some at the limit.
  void fill(Input& input) {
    for (auto* map : {&z, &y}) {
      for (std::int32_t& value : *map) {
        const int byte = input.take<std::int8_t>();
        value = byte * (std::abs(byte) > 120 ? nn::kLatentLimit / 128 : std::abs(byte) > 100 ? 1000 : 4);
      }
    }
  }
};

using Sections = Vector<Vector<std::uint8_t>>;

inline void decode(const latents::Engine& engine, const Sections& sections, latents::Size size, std::size_t groups,
                   Latents& out, unsigned threads) {
  const Vector<std::span<const std::uint8_t>> spans(sections.begin(), sections.end());
  engine.check_sizes(spans, size);
  out = Latents(engine, size);
  engine.decode(spans, size, groups, out.outputs(), threads);
}

// One-lane headers with a side stream or without reach further than random ones.
inline void tame(Sections& sections) {
  for (auto& section : sections) {
    if (!section.empty()) section[0] &= 0x0B;
  }
}

}  // namespace fastlic::fuzz

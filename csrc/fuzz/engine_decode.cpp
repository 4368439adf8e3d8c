// Sections of a whole image, decoded by the engine with a small fixed model: errors or bounded latents, the same on every
// instruction set. Half of the inputs are the sections' bytes; the other half are latents, which are encoded, must come
// back, and are then decoded once more with a few bytes damaged (random bytes alone hardly ever get far).
#include <cstdlib>
#include <memory>
#include <string>
#include <tuple>
#include <utility>

#include "fastlic/engine/engine.hpp"
#include "fastlic/errors.hpp"
#include "harness.hpp"

namespace {

using namespace fastlic;

// Owns what ArrayRef points to, and fills it from one fixed pseudo-random sequence.
class ModelArrays {
 public:
  void layer(const std::string& name, std::vector<std::size_t> shape, std::size_t outputs, unsigned stride,
             bool transposed, unsigned bits) {
    std::size_t size = 1;
    for (const std::size_t extent : shape) size *= extent;
    auto& weight = bytes_[name + ".weight"];
    for (std::size_t i = 0; i < size; ++i) weight.push_back(static_cast<std::uint8_t>(next() % 255 - 127));
    arrays[name + ".weight"] = {engine::Type::int8, std::move(shape), weight.data()};
    auto& bias = ints_[name + ".bias"];
    for (std::size_t i = 0; i < outputs; ++i) bias.push_back(static_cast<std::int32_t>(next() % 20001) - 10000);
    arrays[name + ".bias"] = {engine::Type::int32, {outputs}, bias.data()};
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
    arrays[name + ".multiplier"] = {engine::Type::int32, {channels}, multiplier.data()};
    arrays[name + ".negative"] = {engine::Type::int32, {channels}, negative.data()};
    u8(name + ".shift", std::vector<std::uint8_t>(channels, static_cast<std::uint8_t>(shift)));
    u8(name + ".bits", {static_cast<std::uint8_t>(bits)});
  }

  void i32(const std::string& name, std::vector<std::int32_t> values) {
    auto& kept = ints_[name] = std::move(values);
    arrays[name] = {engine::Type::int32, {kept.size()}, kept.data()};
  }

  void u8(const std::string& name, std::vector<std::uint8_t> values) {
    auto& kept = bytes_[name] = std::move(values);
    arrays[name] = {engine::Type::uint8, {kept.size()}, kept.data()};
  }

  engine::Arrays arrays;

 private:
  std::uint32_t next() { return (seed_ = seed_ * 1664525u + 1013904223u) >> 8; }
  std::uint32_t seed_ = 1;
  std::map<std::string, std::vector<std::int32_t>> ints_;
  std::map<std::string, std::vector<std::uint8_t>> bytes_;
};

constexpr std::size_t kHyper = 3, kLatent = 5;

engine::Engine make(bool contextual) {
  ModelArrays model;
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
  const auto tables = std::make_shared<const CdfTables>(cdf, lengths, offsets, shifts, 12);
  return {model.arrays, tables, tables};
}

using Result = std::pair<std::vector<std::int32_t>, std::vector<std::int32_t>>;

Result decode(const engine::Engine& engine, const std::vector<std::uint8_t>& z, const std::vector<std::uint8_t>& y,
              engine::Size size, unsigned threads) {
  Result out;
  try {
    engine.check_sizes(z.size(), y.size(), size);
    out.first.resize(size.hyper_height() * size.hyper_width() * kHyper);
    out.second.resize(size.height * size.width * kLatent);
    engine.decode(z, y, size, out.first.data(), out.second.data(), threads);
  } catch (const CorruptStream&) {
    return {};
  }
  for (const std::int32_t value : out.second) {
    fuzz::require(value >= -engine::kLatentLimit && value <= engine::kLatentLimit);
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
  static const engine::Engine engines[] = {make(false), make(true)};
  fuzz::Input input(data, bytes);
  const auto kind = input.take<std::uint8_t>();
  const engine::Engine& engine = engines[kind % 2];
  const engine::Size size{1 + input.take<std::uint8_t>() % 9u, 1 + input.take<std::uint8_t>() % 11u};
  const unsigned threads = input.take<std::uint8_t>() == 0 ? 2 : 1;
  std::vector<std::uint8_t> z, y;
  if (kind % 4 < 2) {
    z = input.take_bytes(input.take<std::uint8_t>());
    y = input.rest();
    for (auto* section : {&z, &y}) {  // one-lane headers with a side stream or without reach further than random ones
      if (!section->empty()) (*section)[0] &= 0x0B;
    }
  } else {
    const std::uint32_t damage[] = {input.take<std::uint32_t>(), input.take<std::uint32_t>()};
    Result latents{std::vector<std::int32_t>(size.hyper_height() * size.hyper_width() * kHyper),
                   std::vector<std::int32_t>(size.height * size.width * kLatent)};
    for (auto* map : {&latents.first, &latents.second}) {
      for (std::int32_t& value : *map) {
        const int byte = input.take<std::int8_t>();
        value = byte * (std::abs(byte) > 120 ? engine::kLatentLimit / 128 : std::abs(byte) > 100 ? 1000 : 4);
      }
    }
    Result seen = latents;
    // Every other height is coded with dead zones, wider for small scales.
    std::vector<std::int32_t> zones(size.height % 2 == 0 ? 0 : engine.model().y_tables->rows());
    for (std::size_t row = 0; row < zones.size(); ++row) zones[row] = static_cast<std::int32_t>(4096 / (1 + row));
    const auto coded = fuzz::on_every_isa([&] {
      const engine::Target target{latents.first.data(), latents.second.data(), zones.empty() ? nullptr : zones.data()};
      auto sections = engine.encode(target, size, seen.first.data(), seen.second.data(), threads);
      return std::pair(std::move(sections.z), std::move(sections.y));
    });
    fuzz::require(decode(engine, coded.first, coded.second, size, threads) == seen);
    std::tie(z, y) = coded;
    for (const std::uint32_t word : damage) {
      auto& section = word % 2 == 0 ? y : z;
      if (!section.empty()) section[(word >> 1) % section.size()] ^= static_cast<std::uint8_t>(word >> 24);
    }
  }

  const Result decoded = fuzz::on_every_isa([&] { return decode(engine, z, y, size, threads); });
  if (decoded.second.empty()) return 0;

  // The decoded latents as an encoder's own: they code to sections that hold them.
  std::vector<std::int32_t> z_latent(decoded.first.size());
  for (std::size_t i = 0; i < z_latent.size(); ++i) {
    const std::int64_t value = std::int64_t{decoded.first[i]} * 64 + engine.model().z_median[i % kHyper];
    if (value < -engine::kLatentLimit || value > engine::kLatentLimit) return 0;  // no encoder has such a latent
    z_latent[i] = static_cast<std::int32_t>(value);
  }
  Result seen = decoded;
  const auto coded = engine.encode({z_latent.data(), decoded.second.data()}, size, seen.first.data(), seen.second.data(), 1);
  fuzz::require(decode(engine, coded.z, coded.y, size, 1) == seen);
  return 0;
}

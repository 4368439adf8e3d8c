// Sections of a whole image, decoded by the engine with small fixed models, without and with a context, reconstruction
// offsets, and other integers around shared weights: errors or bounded latents, the same on every instruction set. Half
// of the inputs are the sections' bytes; the other half are latents, which are encoded, must come back, and are then
// decoded once more with a few bytes damaged (random bytes alone hardly ever get far).
#include <cstdlib>
#include <memory>
#include <string>
#include <tuple>
#include <utility>

#include "engine_model.hpp"
#include "fastlic/errors.hpp"
#include "harness.hpp"

namespace {

using namespace fastlic;
using fuzz::kHyper, fuzz::kLatent;

engine::Engine make(bool contextual, bool offsets) {
  fuzz::EngineArrays model = fuzz::engine_arrays(contextual);
  if (offsets) model.i32("y.offsets", {7, -nn::kOffsetLimit, nn::kOffsetLimit, 0});
  return fuzz::engine_of<engine::Engine>(model.arrays);
}

// The weights of `base` with another rate's integers around them.
engine::Engine varied(const engine::Engine& base) {
  fuzz::EngineArrays model;
  model.i32("z.median", {-nn::kLatentLimit, 3, 70});
  model.requantiser("z.input", kHyper, 12, 29);
  model.i32("y.offsets", {0, 1, -1, 20});
  if (base.model().contextual) {
    model.requantiser("y.input", kLatent, 12, 30);
    model.i32("context.bias", {1, -1, 0, 9, 9, 100000, -100000, 3, 0, 0});
  }
  return {base, model.arrays, base.model().z_tables, base.model().y_tables};
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
    fuzz::require(value >= -nn::kLatentLimit && value <= nn::kLatentLimit);
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
  static const engine::Engine plain[] = {make(false, false), make(true, false)};
  static const engine::Engine engines[] = {plain[0],          plain[1],          make(false, true),
                                           make(true, true), varied(plain[0]), varied(plain[1])};
  fuzz::Input input(data, bytes);
  const auto kind = input.take<std::uint8_t>();
  const engine::Engine& engine = engines[kind % 2 + 2 * (kind / 4 % 3)];
  const engine::Size size{1 + input.take<std::uint8_t>() % 9u, 1 + input.take<std::uint8_t>() % 11u};
  const auto choice = input.take<std::uint8_t>();
  const unsigned threads = choice == 0 ? 2 : 1;
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
        value = byte * (std::abs(byte) > 120 ? nn::kLatentLimit / 128 : std::abs(byte) > 100 ? 1000 : 4);
      }
    }
    Result seen = latents;
    // Every other height is coded with dead zones, wider for small scales.
    std::vector<std::int32_t> zones(size.height % 2 == 0 ? 0 : engine.model().y_tables->rows());
    for (std::size_t row = 0; row < zones.size(); ++row) zones[row] = static_cast<std::int32_t>(4096 / (1 + row));
    const auto coded = fuzz::on_chosen_isa(fuzz::other(choice), [&] {
      const engine::Target target{latents.first.data(), latents.second.data(), zones.empty() ? nullptr : zones.data()};
      auto sections = engine.encode(target, size, seen.first.data(), seen.second.data(), threads);
      return std::pair(std::move(sections.z), std::move(sections.y));
    });
    fuzz::on_chosen_isa(choice, [&] {
      fuzz::require(decode(engine, coded.first, coded.second, size, threads) == seen);
      return 0;
    });
    std::tie(z, y) = coded;
    for (const std::uint32_t word : damage) {
      auto& section = word % 2 == 0 ? y : z;
      if (!section.empty()) section[(word >> 1) % section.size()] ^= static_cast<std::uint8_t>(word >> 24);
    }
  }

  const Result decoded = fuzz::on_chosen_isa(choice, [&] { return decode(engine, z, y, size, threads); });
  if (decoded.second.empty()) return 0;

  // The decoded latents as an encoder's own: they code to sections that hold them.
  std::vector<std::int32_t> z_latent(decoded.first.size());
  for (std::size_t i = 0; i < z_latent.size(); ++i) {
    const std::int64_t value = std::int64_t{decoded.first[i]} * 64 + engine.model().z_median[i % kHyper];
    if (value < -nn::kLatentLimit || value > nn::kLatentLimit) return 0;  // no encoder has such a latent
    z_latent[i] = static_cast<std::int32_t>(value);
  }
  Result seen = decoded;
  const engine::Target target{z_latent.data(), decoded.second.data()};
  const auto coded = engine.encode(target, size, seen.first.data(), seen.second.data(), 1);
  fuzz::require(decode(engine, coded.z, coded.y, size, 1) == seen);
  return 0;
}

// Sections of a whole image, decoded by one of several engines: errors or bounded latents, the same on every
// instruction set. Half of the inputs are the sections' bytes; the other half are latents, which are encoded, must come
// back, and are then decoded once more with a few bytes damaged (random bytes alone hardly ever get far).
#pragma once

#include <span>
#include <utility>

#include "fastlic/memory.hpp"
#include "latent_models.hpp"

namespace fastlic::fuzz {

// No latents where the sections are refused.
inline Latents decoded(const latents::Engine& engine, const Sections& sections, latents::Size size, std::size_t groups,
                       unsigned threads) {
  Latents out;
  try {
    decode(engine, sections, size, groups, out, threads);
  } catch (const CorruptStream&) {
    return {};
  }
  for (const std::int32_t value : out.y) require(std::abs(value) <= nn::kLatentLimit + attention::kResidueLimit);
  return out;
}

inline Sections encoded(const latents::Engine& engine, const latents::Target& target, latents::Size size, Latents& seen,
                        unsigned threads) {
  Sections out;
  for (const auto& section : engine.encode(target, size, seen.outputs(), threads)) {
    out.emplace_back(section.begin(), section.end());
  }
  return out;
}

// The decoded latents as an encoder's own: they code to sections that hold them.
inline void again(const latents::Engine& engine, const Latents& from, latents::Size size) {
  const auto& medians = engine.model().z_median;
  Vector<std::int32_t> z(from.z.size());
  for (std::size_t i = 0; i < z.size(); ++i) {
    const std::int64_t value = std::int64_t{from.z[i]} * 64 + medians[i % medians.size()];
    if (value < -nn::kLatentLimit || value > nn::kLatentLimit) return;  // no encoder has such a latent
    z[i] = static_cast<std::int32_t>(value);
  }
  for (const std::int32_t value : from.y) {
    if (std::abs(value) > nn::kLatentLimit) return;
  }
  Latents seen = from;
  const Sections sections = encoded(engine, {z.data(), from.y.data()}, size, seen, 1);
  require(decoded(engine, sections, size, nn::kMaxChannels, 1) == seen);
}

inline int decode_latents(std::span<const latents::Engine> engines, const std::uint8_t* data, std::size_t bytes) {
  Input input(data, bytes);
  const auto kind = input.take<std::uint8_t>();
  const latents::Engine& engine = engines[kind / 4 % engines.size()];
  const latents::Size size{1 + input.take<std::uint8_t>() % 9u,
                           engine.model().least_width + input.take<std::uint8_t>() % 10u};
  const auto choice = input.take<std::uint8_t>();
  const unsigned threads = choice == 0 ? 2 : 1;
  Sections sections;
  if (kind % 4 < 2) {
    for (std::size_t i = 0; i + 1 < engine.model().sections(); ++i) {
      sections.push_back(input.take_bytes(input.take<std::uint8_t>()));
    }
    sections.push_back(input.rest());
    tame(sections);
  } else {
    const std::uint32_t damage[] = {input.take<std::uint32_t>(), input.take<std::uint32_t>()};
    Latents latents(engine, size);
    latents.fill(input);
    Latents seen = latents;
    // Every other height is coded with dead zones, wider for small scales.
    Vector<std::int32_t> zones(size.height % 2 == 0 ? 0 : engine.model().y_tables->rows());
    for (std::size_t row = 0; row < zones.size(); ++row) zones[row] = static_cast<std::int32_t>(4096 / (1 + row));
    const latents::Target target{latents.z.data(), latents.y.data(), zones.empty() ? nullptr : zones.data()};
    sections = on_chosen_isa(other(choice), [&] { return encoded(engine, target, size, seen, threads); });
    on_chosen_isa(choice, [&] {
      require(decoded(engine, sections, size, nn::kMaxChannels, threads) == seen);
      return 0;
    });
    for (const std::uint32_t word : damage) {
      auto& section = sections[word % 251 % sections.size()];
      if (!section.empty()) section[(word >> 1) % section.size()] ^= static_cast<std::uint8_t>(word >> 24);
    }
  }
  const std::size_t groups = kind % 4 == 1 ? 1 : nn::kMaxChannels;
  const Latents found = on_chosen_isa(choice, [&] { return decoded(engine, sections, size, groups, threads); });
  if (!found.y.empty() && groups != 1) again(engine, found, size);
  return 0;
}

}  // namespace fastlic::fuzz

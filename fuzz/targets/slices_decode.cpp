// Sections of a whole image, decoded by the engines of MLIC, MLIC+, MLIC++ and of channel groups with small fixed models
// (models.py): errors or bounded latents, the same on every instruction set. As in engine_decode.cpp, half of the inputs
// are the sections' bytes, and half are latents, which are encoded, must come back, and are decoded once more damaged.
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>

#include "engine_model.hpp"
#include "fastlic/errors.hpp"
#include "fastlic/groups/engine.hpp"
#include "fastlic/mlic/engine.hpp"
#include "harness.hpp"
#include "models.hpp"

namespace {

using namespace fastlic;
using engine::Size;
using Section = std::vector<std::uint8_t>;
using Sections = std::vector<Section>;
using Spans = std::vector<std::span<const std::uint8_t>>;

struct Latents {
  std::vector<std::int32_t> z, y, symbols;
  bool operator==(const Latents&) const = default;

  Latents() = default;
  template <class Model>
  Latents(const Model& model, Size size)
      : z(size.hyper_height() * size.hyper_width() * model.hyper_channels()),
        y(size.height * size.width * model.latent_channels()),
        symbols(y.size()) {}
};

template <class Engine>
Engine make(std::span<const fuzz::models::Entry> entries) {
  return fuzz::engine_of<Engine>(fuzz::models::arrays_of(entries));
}

Sections encode(const mlic::Engine& engine, const Latents& in, Size size, Latents& seen, unsigned threads) {
  auto coded =
      engine.encode({in.z.data(), in.y.data()}, size, {seen.z.data(), seen.y.data(), seen.symbols.data()}, threads);
  return {Section(coded.z.begin(), coded.z.end()), Section(coded.y.begin(), coded.y.end())};
}

Sections encode(const groups::Engine& engine, const Latents& in, Size size, Latents& seen, unsigned threads) {
  Sections out;
  for (const auto& section : engine.encode(in.z.data(), in.y.data(), size, {seen.z.data(), seen.y.data()}, threads)) {
    out.emplace_back(section.begin(), section.end());
  }
  return out;
}

std::int32_t latent_limit(const mlic::Engine&) { return nn::kLatentLimit + mlic::kResidueLimit; }
std::int32_t latent_limit(const groups::Engine&) { return nn::kLatentLimit; }

std::size_t sections_of(const mlic::Model&) { return 2; }
std::size_t sections_of(const groups::Model& model) { return 1 + model.passes(); }

void decode(const mlic::Engine& engine, const Spans& in, Size size, std::size_t slices, Latents& out,
            unsigned threads) {
  engine.check_sizes(in[0].size(), in[1].size(), size);
  out = Latents(engine.model(), size);
  engine.decode(in[0], in[1], size, slices, {out.z.data(), out.y.data(), out.symbols.data()}, threads);
}

void decode(const groups::Engine& engine, const Spans& in, Size size, std::size_t, Latents& out, unsigned threads) {
  engine.check_sizes(in, size);
  out = Latents(engine.model(), size);
  engine.decode(in, size, {out.z.data(), out.y.data()}, threads);
}

// No latents where the sections are refused.
template <class Engine>
Latents decoded(const Engine& engine, const Sections& sections, Size size, std::size_t slices, unsigned threads) {
  Latents out;
  try {
    decode(engine, Spans(sections.begin(), sections.end()), size, slices, out, threads);
  } catch (const CorruptStream&) {
    return {};
  }
  const std::int32_t limit = latent_limit(engine);
  for (const std::int32_t value : out.y) fuzz::require(value >= -limit && value <= limit);
  return out;
}

template <class Engine>
void run(const Engine& engine, std::uint8_t kind, std::size_t all, fuzz::Input& input) {
  const Size size{1 + input.take<std::uint8_t>() % 9u, 2 + input.take<std::uint8_t>() % 10u};
  const auto choice = input.take<std::uint8_t>();
  const unsigned threads = choice == 0 ? 2 : 1;
  const std::size_t slices = kind % 16 < 12 ? all : 1;
  Sections sections;
  if (kind % 8 < 4) {
    const std::size_t count = sections_of(engine.model());
    for (std::size_t i = 0; i + 1 < count; ++i) sections.push_back(input.take_bytes(input.take<std::uint8_t>()));
    sections.push_back(input.rest());
    for (Section& section : sections) {  // one-lane headers with a side stream or without reach further
      if (!section.empty()) section[0] &= 0x0B;
    }
  } else {
    const std::uint32_t damage[] = {input.take<std::uint32_t>(), input.take<std::uint32_t>()};
    Latents latents(engine.model(), size);
    for (auto* map : {&latents.z, &latents.y}) {
      for (std::int32_t& value : *map) {
        const int byte = input.take<std::int8_t>();
        value = byte * (std::abs(byte) > 120 ? nn::kLatentLimit / 128 : std::abs(byte) > 100 ? 1000 : 4);
      }
    }
    Latents seen = latents;
    sections = fuzz::on_chosen_isa(fuzz::other(choice), [&] { return encode(engine, latents, size, seen, threads); });
    fuzz::on_chosen_isa(choice, [&] {
      fuzz::require(decoded(engine, sections, size, all, threads) == seen);
      return 0;
    });
    for (const std::uint32_t word : damage) {
      Section& section = sections[word % 251 % sections.size()];
      if (!section.empty()) section[(word >> 1) % section.size()] ^= static_cast<std::uint8_t>(word >> 24);
    }
  }
  fuzz::on_chosen_isa(choice, [&] { return decoded(engine, sections, size, slices, threads); });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
  static const mlic::Engine slices[] = {make<mlic::Engine>(fuzz::models::mlic),
                                        make<mlic::Engine>(fuzz::models::mlic_plus),
                                        make<mlic::Engine>(fuzz::models::mlic_plus_plus),
                                        make<mlic::Engine>(fuzz::models::mlic_early)};
  static const groups::Engine grouped = make<groups::Engine>(fuzz::models::groups);
  fuzz::Input input(data, bytes);
  const auto kind = input.take<std::uint8_t>();
  if (kind % 4 < 3) {
    const mlic::Engine& engine = slices[kind >= 128 && kind % 4 == 2 ? 3 : kind % 4];
    run(engine, kind, engine.model().slices.size(), input);
  } else {
    run(grouped, kind, 0, input);
  }
  return 0;
}

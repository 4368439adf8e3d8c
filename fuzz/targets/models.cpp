// Model constructors with hostile arrays: those of a small model, of which a few are missing, of another type or shape,
// swapped, or hold other numbers. Refused; or safe to decode arbitrary bytes with, to encode latents, and the latents
// come back.
#include <algorithm>
#include <cstdlib>
#include <deque>
#include <stdexcept>

#include "codes_model.hpp"
#include "fastlic/memory.hpp"
#include "hostile.hpp"
#include "latent_models.hpp"
#include "models.hpp"

namespace {

using namespace fastlic;
using fuzz::Hostile;
using latents::Size;
using nn::Arrays;

// Large tables are made anew only if they changed: they would take most of the time.
struct Base {
  explicit Base(Arrays all) : arrays(std::move(all)) {
    if (arrays.count("z.tables.cdf") == 0) return;
    z = fuzz::tables_of(arrays, "z.tables");
    y = fuzz::tables_of(arrays, "y.tables");
  }
  Arrays arrays;
  std::shared_ptr<const CdfTables> z, y;
};

// `other`: with the base's tables, whatever the arrays say of them.
latents::Engine made(fuzz::Reader reader, const Base& base, const Hostile& hostile, bool other) {
  const auto tables = [&](const String& name, const std::shared_ptr<const CdfTables>& known) {
    return other || hostile.keeps(name) ? known : fuzz::tables_of(hostile.arrays, name);
  };
  return latents::Engine(reader(hostile.arrays, tables("z.tables", base.z), tables("y.tables", base.y)));
}

void run(const latents::Engine& engine, fuzz::Input& input) {
  const Size size{1 + input.take<std::uint8_t>() % 3u, 2 + input.take<std::uint8_t>() % 3u};
  fuzz::Latents target(engine, size), seen = target, back;
  if (target.y.size() > 4096) return;
  target.fill(input);
  try {
    fuzz::Sections sections;
    for (const auto& section : engine.encode({target.z.data(), target.y.data()}, size, seen.outputs(), 1)) {
      sections.emplace_back(section.begin(), section.end());
    }
    fuzz::decode(engine, sections, size, nn::kMaxChannels, back, 1);
    fuzz::require(back == seen);
  } catch (const std::invalid_argument&) {  // latents that the model cannot take
  }
  fuzz::Sections noise(engine.model().sections(), input.rest());
  fuzz::tame(noise);
  try {
    fuzz::decode(engine, noise, size, nn::kMaxChannels, back, 1);
  } catch (const CorruptStream&) {
  }
}

void run_codes(const Arrays& arrays, fuzz::Input& input) {
  const codes::Context context(arrays);
  const codes::Size size{1 + input.take<std::uint8_t>() % 3u, 1 + input.take<std::uint8_t>() % 5u};
  Vector<std::int32_t> codes(context.model().groups * size.height * size.width), back = codes;
  for (std::int32_t& code : codes) {
    code = input.take<std::uint8_t>() % static_cast<std::int32_t>(std::min<std::size_t>(context.model().words, 256));
  }
  const auto stream = context.encode(codes.data(), size, 1);
  context.decode(stream.data(), stream.size(), size, back.data());
  fuzz::require(back == codes);
  auto noise = input.rest();
  noise.resize(noise.size() / 4 * 4);
  if (noise.size() >= 8) noise[7] &= 0x7F;
  try {
    context.decode(noise.data(), noise.size(), size, back.data());
  } catch (const CorruptStream&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
  using namespace fuzz;
  static const EngineArrays plain = engine_arrays(false), contextual = engine_arrays(true);
  static const CodesArrays codes;
  static const Base bases[] = {Base(plain.arrays),
                               Base(contextual.arrays),
                               Base(codes.all()),
                               Base(models::arrays_of(models::groups)),
                               Base(models::arrays_of(models::mlic)),
                               Base(models::arrays_of(models::mlic_plus)),
                               Base(models::arrays_of(models::mlic_plus_plus)),
                               Base(models::arrays_of(models::mlic_early))};
  Input input(data, bytes);
  const auto kind = input.take<std::uint8_t>();
  const Base& base = bases[kind % 8];
  Hostile hostile(base.arrays);
  for (std::size_t left = input.take<std::uint8_t>() % 4; left > 0; --left) hostile.change(input);
  set_isa(supported_isas()[kind / 8 % supported_isas().size()]);
  const bool other = (kind & 64) != 0;
  try {
    if (kind % 8 < 2 && kind >= 128) {
      const latents::Engine whole = engine_of(latents::read_gaussian, base.arrays);
      run(latents::Engine(latents::vary(whole.model(), hostile.changes(), base.z, base.y)), input);
    } else if (kind % 8 == 2) {
      run_codes(hostile.arrays, input);
    } else {
      const Reader reader = kind % 8 < 2    ? latents::read_gaussian
                            : kind % 8 == 3 ? latents::read_groups
                                            : latents::read_slices;
      run(made(reader, base, hostile, other), input);
    }
  } catch (const std::invalid_argument&) {
  }
  return 0;
}

// Model constructors with hostile arrays: those of a small model, of which a few are missing, of another type or shape,
// swapped, or hold other numbers. Refused; or safe to decode arbitrary bytes with, to encode latents, and the latents
// come back.
#include <algorithm>
#include <cstdlib>
#include <deque>
#include <iterator>
#include <map>
#include <stdexcept>

#include "codes_model.hpp"
#include "latent_models.hpp"
#include "models.hpp"

namespace {

using namespace fastlic;
using latents::Size;
using nn::ArrayRef;
using nn::Arrays;
using nn::Type;

std::size_t bytes_of(Type type) { return type == Type::int32 ? 4 : 1; }

// A model's arrays with memory of their own, so that the address sanitizer knows each one's end.
class Hostile {
 public:
  explicit Hostile(const Arrays& base) {
    for (const auto& [name, array] : base) set(name, array, array.shape, array.type);
  }

  Arrays arrays;

  // What differs from the base, as other integers around its weights.
  Arrays changes() const {
    Arrays out;
    for (const std::string& name : changed_) {
      if (const auto found = arrays.find(name); found != arrays.end()) out.insert(*found);
    }
    return out;
  }

  // Whether the coder's tables of that name are what they were.
  bool keeps(const std::string& tables) const {
    return std::none_of(changed_.begin(), changed_.end(), [&](const auto& name) { return name.rfind(tables, 0) == 0; });
  }

  void change(fuzz::Input& input) {
    const auto at = [&](std::size_t number) {
      return std::next(arrays.begin(), static_cast<std::ptrdiff_t>(number % arrays.size()));
    };
    const auto kind = input.take<std::uint8_t>();
    auto found = at(input.take<std::uint16_t>());
    const std::uint32_t where = input.take<std::uint16_t>();
    const auto value = input.take<std::int32_t>();
    const std::string name = found->first;
    changed_.push_back(name);
    ArrayRef array = found->second;
    switch (kind % 8) {
      case 0:
        arrays.erase(found);
        return;
      case 1:
        set(name, array, array.shape, static_cast<Type>(where % 3));
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
        const ArrayRef other = at(where)->second;
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

  void set(const std::string& name, const ArrayRef& from, std::vector<std::size_t> shape, Type type) {
    ArrayRef to{type, std::move(shape), nullptr};
    if (to.size() > 1 << 16) return;
    std::vector<std::uint8_t> bytes(to.size() * bytes_of(type));
    const std::size_t known = from.size() * bytes_of(from.type);
    for (std::size_t i = 0; known > 0 && i < bytes.size(); ++i) {
      bytes[i] = static_cast<const std::uint8_t*>(from.data)[i % known];
    }
    auto& kept = memory_[name] = std::move(bytes);
    to.data = kept.data();
    arrays[name] = std::move(to);
  }

  void put(const std::string& name, std::size_t index, std::int32_t value) {
    const std::size_t size = bytes_of(arrays[name].type);
    std::memcpy(&memory_[name][index * size], &value, size);
  }

  std::map<std::string, std::vector<std::uint8_t>> memory_;
  std::vector<std::string> changed_;
};

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
  const auto tables = [&](const std::string& name, const std::shared_ptr<const CdfTables>& known) {
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
  std::vector<std::int32_t> codes(context.model().groups * size.height * size.width), back = codes;
  for (std::int32_t& code : codes) {
    code = input.take<std::uint8_t>() % static_cast<std::int32_t>(std::min<std::size_t>(context.model().words, 256));
  }
  const auto stream = context.encode(codes.data(), size);
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

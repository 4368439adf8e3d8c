#include "fastlic/codec/file.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string_view>

#include "fastlic/bit_cast.hpp"
#include "fastlic/codec/coder.hpp"
#include "fastlic/codec/packing.hpp"
#include "fastlic/errors.hpp"
#include "fastlic/memory.hpp"
#include "fastlic/parallel.hpp"

namespace fastlic::codec {
namespace {

constexpr std::uint64_t kMaxHeader = 100'000'000;  // of safetensors
constexpr std::size_t kMaxRank = 16;
// The last layout; the first with a digest, with all names whole, with packed arrays in lanes.
constexpr std::uint64_t kLayouts = 5, kSealed = 3, kWholeNames = 4, kLanes = 5;
constexpr std::string_view kNoDigest = "0000000000000000000000000000000000000000000000000000000000000000";

[[noreturn]] void fail(const String& fault) { throw InvalidArgument(fault); }

struct Tensor {
  String type;  // of safetensors
  Vector<std::size_t> shape;
  Input data;
};

std::size_t bytes_of_type(std::string_view type) {
  for (const auto& [name, bytes] : {std::pair<std::string_view, std::size_t>{"BOOL", 1},
                                    {"U8", 1},
                                    {"I8", 1},
                                    {"F8_E5M2", 1},
                                    {"F8_E4M3", 1},
                                    {"I16", 2},
                                    {"U16", 2},
                                    {"F16", 2},
                                    {"BF16", 2},
                                    {"I32", 4},
                                    {"U32", 4},
                                    {"F32", 4},
                                    {"F64", 8},
                                    {"I64", 8},
                                    {"U64", 8}}) {
    if (type == name) return bytes;
  }
  return 0;
}

struct Safetensors {
  Dictionary<String, Tensor> tensors;
  Dictionary<String, String> metadata;

  explicit Safetensors(Input file) {
    if (file.size() < 8) fail("no readable safetensors file: it has fewer than 8 bytes");
    std::uint64_t length = 0;
    for (int i = 7; i >= 0; --i) length = length << 8 | file[static_cast<std::size_t>(i)];
    if (length > kMaxHeader || length > file.size() - 8)
      fail("no readable safetensors file: its header is longer than the file");
    const auto size = static_cast<std::size_t>(length);
    Json header;
    try {
      header = parse_json({reinterpret_cast<const char*>(file.data()) + 8, size});
    } catch (const std::invalid_argument& error) {
      fail(String("no readable safetensors file: its header is ") + error.what());
    }
    if (header.kind != Json::Kind::object) fail("no readable safetensors file: its header is no JSON object");
    const Input data = file.subspan(8 + size);
    Vector<std::pair<std::size_t, std::size_t>> places;
    for (std::size_t i = 0; i < header.names.size(); ++i) {
      const String& name = header.names[i];
      const Json& value = header.items[i];
      if (name == "__metadata__") {
        for (std::size_t k = 0; k < value.names.size(); ++k) {
          const Json& text = value.items[k];
          if (text.kind != Json::Kind::text) fail("no readable safetensors file: metadata must be texts");
          metadata[value.names[k]] = text.text;
        }
      } else {
        places.push_back(add(name, value, data));
      }
    }
    std::sort(places.begin(), places.end());
    std::size_t end = 0;
    for (const auto& [first, last] : places) {
      if (first != end) fail("no readable safetensors file: its tensors overlap or leave gaps");
      end = last;
    }
    if (end != data.size()) fail("no readable safetensors file: it does not end with its last tensor");
  }

 private:
  std::pair<std::size_t, std::size_t> add(const String& name, const Json& value, Input data) {
    const Json *type = value.find("dtype"), *shape = value.find("shape"), *offsets = value.find("data_offsets");
    const auto bad = [&](const char* what) {
      fail("no readable safetensors file: '" + name + "' has no valid " + what);
    };
    if (type == nullptr || bytes_of_type(type->text) == 0) bad("dtype");
    if (shape == nullptr || shape->kind != Json::Kind::array || shape->items.size() > kMaxRank) bad("shape");
    if (offsets == nullptr || offsets->kind != Json::Kind::array || offsets->items.size() != 2) bad("data_offsets");
    const auto first = offsets->items[0].count(), last = offsets->items[1].count();
    if (!first || !last || *first > *last || *last > data.size()) bad("data_offsets");
    Tensor& tensor = tensors[name];
    tensor.type = type->text;
    tensor.data = data.subspan(static_cast<std::size_t>(*first), static_cast<std::size_t>(*last - *first));
    std::uint64_t size = bytes_of_type(tensor.type);
    bool empty = false;
    for (const Json& item : shape->items) {
      const auto extent = item.count();
      if (!extent || *extent > std::uint64_t{1} << 31) bad("shape");
      empty = empty || *extent == 0;
      tensor.shape.push_back(static_cast<std::size_t>(*extent));
      if (*extent > 0) size = *extent > data.size() / size ? data.size() + 1 : size * *extent;  // no more than that
    }
    if ((empty ? 0 : size) != tensor.data.size()) bad("shape");
    return {static_cast<std::size_t>(*first), static_cast<std::size_t>(*last)};
  }
};

// SHA-256 of a file as it is with zeros in the digest's place.
String digest_of(Input file, const String& stated) {
  const String before = "\\\"sha256\\\": \\\"", entry = before + stated + "\\\"";
  const auto found = std::search(file.begin(), file.end(), entry.begin(), entry.end());
  Sha256 digest;
  if (found == file.end()) {
    digest.update(file);
  } else {
    const auto at = static_cast<std::size_t>(found - file.begin()) + before.size();
    digest.update(file.first(at));
    digest.update(bytes_of(kNoDigest));
    digest.update(file.subspan(at + stated.size()));
  }
  const auto bytes = digest.finish();
  return hexadecimal(bytes);
}

float of_half(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16, fraction = half & 0x3FFu;
  const unsigned exponent = half >> 10 & 31u;
  if (exponent == 0) return bit_cast<float>(sign | bit_cast<std::uint32_t>(std::ldexp(float(fraction), -24)));
  if (exponent == 31) return bit_cast<float>(sign | 0x7F800000u | fraction << 13);
  return bit_cast<float>(sign | (exponent + 112u) << 23 | fraction << 13);
}

std::optional<Floats> floats_of(const Tensor& tensor) {
  Floats out{tensor.shape, {}};
  if (tensor.type == "F32") {
    out.values.resize(tensor.data.size() / 4);
    if (!tensor.data.empty()) std::memcpy(out.values.data(), tensor.data.data(), tensor.data.size());
  } else if (tensor.type == "F16") {
    for (std::size_t i = 0; i < tensor.data.size(); i += 2) {
      out.values.push_back(of_half(static_cast<std::uint16_t>(tensor.data[i] | tensor.data[i + 1] << 8)));
    }
  } else {
    return {};
  }
  return out;
}

std::optional<nn::Type> integer_type(std::string_view type) {
  if (type == "I8") return nn::Type::int8;
  if (type == "U8") return nn::Type::uint8;
  if (type == "I16") return nn::Type::int16;
  if (type == "I32") return nn::Type::int32;
  return {};
}

class Reader {
 public:
  Reader(Input data, Use use) : file_(data), data_(data), use_(use) {
    const auto own = file_.metadata.find("fastlic");
    if (own == file_.metadata.end()) {
      fail("tensors, but no fastlic codec; build one with fastlic.Codec(model).save(path)");
    }
    description_ = described(own->second);
    if (layout_ < 1 || layout_ > kLayouts) {
      throw UnsupportedCodec("codec layout " + number_ + "; this fastlic reads layouts 1, 2, 3, 4, 5");
    }
  }

  File whole() {
    out_.name = description_.find("name")->text;
    out_.family = description_.find("family")->text;
    out_.config = *description_.find("config");
    Vector<Found> narrow, wide;
    parallel_for(layout_ >= kWholeNames ? 3 : 2, kOpeningThreads, [&](std::size_t job) {
      if (job == 0) check_digest();
      if (job == 1) narrow = unpacked("packed", 1);
      if (job == 2) wide = unpacked("packed16", 2);
    });
    for (const auto& [name, tensor] : file_.tensors) take(name, tensor);
    for (Found& own : narrow) add(own.name, nn::Type::int8, std::move(own.shape), std::move(own.values));
    for (Found& own : wide) add(own.name, nn::Type::int16, std::move(own.shape), std::move(own.values));
    read_reads();
    return std::move(out_);
  }

 private:
  // An unpacked array.
  struct Found {
    String name;
    Vector<std::size_t> shape;
    nn::Buffer<std::uint8_t> values;
  };

  void check_digest() const {
    const Json* stated = description_.find("sha256");
    if (stated != nullptr && stated->kind == Json::Kind::literal && stated->text == "null") stated = nullptr;
    if ((stated != nullptr || layout_ >= kSealed) &&
        (stated == nullptr || stated->kind != Json::Kind::text || stated->text.size() != kNoDigest.size() ||
         digest_of(data_, stated->text) != stated->text)) {
      fail("the file is damaged: it does not have the SHA-256 that it states");
    }
  }

  Json described(const String& text) {
    Json description;
    try {
      description = parse_json(text);
    } catch (const std::invalid_argument& error) {
      fail(String("the description is ") + error.what());
    }
    if (description.kind != Json::Kind::object) fail("the description is no JSON object");
    const auto require = [&](const char* name, Json::Kind kind, const char* type) {
      const Json* own = description.find(name);
      if (own == nullptr || own->kind != kind) {
        fail(String("the description has no '") + name + "' of type " + type);
      }
      return own;
    };
    const Json* layout = require("layout", Json::Kind::number, "int");
    require("name", Json::Kind::text, "str");
    require("family", Json::Kind::text, "str");
    require("config", Json::Kind::object, "dict");
    number_ = layout->text;
    layout_ = layout->count().value_or(0);
    return description;
  }

  // Of `entropy/` and `transforms/`.
  bool is_array(std::string_view name) const {
    return name.starts_with("entropy/") || (name.starts_with("transforms/") && layout_ >= kWholeNames);
  }

  void add(const String& name, nn::Type type, Vector<std::size_t> shape, nn::Buffer<std::uint8_t> data) {
    auto& memory = out_.memory.emplace_back(std::move(data));
    nn::Arrays& arrays = name.starts_with("entropy/") ? out_.entropy : out_.transforms;
    const String own = name.substr(name.find('/') + 1);
    if (!arrays.emplace(own, nn::ArrayRef{type, std::move(shape), memory.data()}).second) {
      fail(name + " there twice");
    }
  }

  void take(const String& name, const Tensor& tensor) {
    const auto refused = [&] { fail(name + " of type " + tensor.type + " has no place in a codec file"); };
    if (name.starts_with("float/")) {
      auto floats = floats_of(tensor);
      if (!floats) refused();
      for (const float value : floats->values) {
        if (!std::isfinite(value)) fail(name + " has values that are not finite");
      }
      out_.floats[name.substr(6)] = std::move(*floats);
      return;
    }
    const auto type = integer_type(tensor.type);
    const bool packed = name.starts_with("packed/") || (name.starts_with("packed16/") && layout_ >= kWholeNames);
    if (!type || (!packed && !is_array(name))) refused();
    if (!packed) add(name, *type, tensor.shape, {tensor.data.begin(), tensor.data.end()});
  }

  // A group of packed arrays, if there is one: those up to the last that is of use.
  Vector<Found> unpacked(const String& group, unsigned bytes) const {
    const Json* listed = description_.find(group);
    Dictionary<String, const Tensor*> parts;
    for (const auto& [name, tensor] : file_.tensors) {
      if (name.starts_with(group + "/")) parts[name.substr(group.size() + 1)] = &tensor;
    }
    if (listed == nullptr && parts.empty()) return {};
    try {
      Packed packed;
      packed.bytes = bytes;
      const auto part = [&](const char* name, const char* type, std::size_t rank, bool optional = false) -> Input {
        const auto found = parts.find(name);
        if (found == parts.end()) {
          if (optional) return {};
          fail(group + "/" + name + " not there");
        }
        const Tensor& tensor = *found->second;
        if (tensor.type != type || tensor.shape.size() != rank) {
          const std::string_view kind = type;
          const char* shown = kind == "U8" ? "uint8" : kind == "I8" ? "int8" : "int16";
          fail(String(name) + " must be " + to_string(rank) + "-D " + shown);
        }
        if (rank == 2) packed.rows = tensor.shape[0];
        parts.erase(found);
        return tensor.data;
      };
      packed.categorical = layout_ < kLanes;
      packed.wanted = 0;
      packed.data = part("data", "U8", 1);
      const Input classes = part("classes", "I8", 1);
      packed.classes = {reinterpret_cast<const std::int8_t*>(classes.data()), classes.size()};
      if (packed.categorical) {
        packed.low = part("low", "U8", 1, true);
        packed.tables = part("tables", "I16", 2);
      } else {
        packed.windows = part("windows", "I16", 2);
        packed.tables = part("tables", "I16", 1);
      }
      if (!parts.empty()) fail(group + "/" + parts.begin()->first + " is no part of them");
      if (listed == nullptr || listed->kind != Json::Kind::object) fail("the description has no shapes of them");
      Vector<String> names;
      for (std::size_t i = 0; i < listed->names.size(); ++i) {
        const String& name = listed->names[i];
        names.push_back((layout_ >= kWholeNames ? "" : "entropy/") + name);
        if (!is_array(names.back())) fail("'" + name + "' is neither in entropy/ nor in transforms/");
        packed.shapes.push_back(shape_of(name, listed->items[i]));
        if (use_ == Use::everything || !is_of_encoding(out_.family, names.back())) packed.wanted = i + 1;
      }
      return arrays_of(names, packed);
    } catch (const std::invalid_argument& error) {
      fail(group + " weights are damaged: " + error.what());
    }
  }

  static Vector<std::size_t> shape_of(const String& name, const Json& shape) {
    if (shape.kind != Json::Kind::array) fail("the description has no shapes of them");
    if (shape.items.size() > kMaxRank) fail("'" + name + "' has more than " + to_string(kMaxRank) + " axes");
    Vector<std::size_t> out;
    for (const Json& item : shape.items) {
      const auto extent = item.count();
      if (!extent || *extent == 0) {
        fail("'" + name + "' has no shape of positive integers");
      }
      out.push_back(static_cast<std::size_t>(std::min<std::uint64_t>(*extent, static_cast<std::size_t>(-1))));
    }
    return out;
  }

  static Vector<Found> arrays_of(const Vector<String>& names, const Packed& packed) {
    Vector<nn::Buffer<std::uint8_t>> values = unpack(packed);
    Vector<Found> out;
    for (std::size_t i = 0; i < values.size(); ++i) out.push_back({names[i], packed.shapes[i], std::move(values[i])});
    return out;
  }

  void read_reads() {
    const Json* reads = description_.find("reads");
    if (reads == nullptr) return;
    if (reads->kind != Json::Kind::array) {
      fail("'reads' must be a list of fingerprints, each 16 hexadecimal digits");
    }
    for (const Json& item : reads->items) {
      constexpr std::string_view digits = "0123456789abcdef";
      if (item.kind != Json::Kind::text || item.text.size() != 16 ||
          item.text.find_first_not_of(digits) != String::npos) {
        fail("'reads' must be a list of fingerprints, each 16 hexadecimal digits");
      }
      Fingerprint own{};
      for (std::size_t i = 0; i < own.size(); ++i) {
        own[i] = static_cast<std::uint8_t>(digits.find(item.text[2 * i]) << 4 | digits.find(item.text[2 * i + 1]));
      }
      out_.reads.push_back(own);
    }
    Vector<Fingerprint> sorted = out_.reads;
    std::sort(sorted.begin(), sorted.end());
    if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) fail("'reads' names a fingerprint twice");
  }

  Safetensors file_;
  Input data_;
  Use use_;
  Json description_;
  String number_;
  std::uint64_t layout_ = 0;
  File out_;
};

}  // namespace

File read_file(Input data, Use use) { return Reader(data, use).whole(); }

}  // namespace fastlic::codec

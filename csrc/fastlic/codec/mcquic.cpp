// McQuic: codes of codebooks, level by level; docs/mcquic.md has the arrays and the arithmetic. Twin of
// fastlic/codec/families/mcquic.py and fastlic/integers/vq.py.
#include <algorithm>
#include <cmath>
#include <optional>

#include "fastlic/categorical_rans.hpp"
#include "fastlic/codebook/codebook.hpp"
#include "fastlic/codec/coder.hpp"
#include "fastlic/codes/context.hpp"
#include "fastlic/errors.hpp"
#include "fastlic/isa.hpp"
#include "fastlic/memory.hpp"
#include "fastlic/nn/reading.hpp"
#include "fastlic/parallel.hpp"
#include "fastlic/progress.hpp"

namespace fastlic::codec {
namespace {

constexpr std::size_t kMaxLevels = 8;
constexpr std::uint64_t kSearch = std::uint64_t{1} << 17;  // bytes for a thread's search of codebooks
constexpr int kLeastExponent = -14, kMostExponent = 40;

using Codes = Vector<std::int32_t>;  // [m][h][w]

struct Level {
  // Words [m][k][d]: channel c of a word counts units of 2^-exponents[c].
  std::size_t m = 0, k = 0, d = 0;
  Vector<std::int16_t> words, expected;      // expected: [m * d], stands in at levels without codes
  Vector<float> units;                       // [m * d]
  std::optional<codebook::Codebooks> books;  // none for decoding
  std::optional<CategoricalTables> tables;
  double fewest_bits = 0;  // of the likeliest word

  std::size_t channels() const noexcept { return m * d; }
};

Level read_level(const File& file, Use use, std::size_t level) {
  const nn::ArrayReader entropy(file.entropy), arrays(file.transforms);
  const String own = "level." + to_string(level) + ".", table = "levels." + to_string(level) + ".";
  const nn::ArrayRef& words = arrays.get(own + "words", nn::Type::int16, 3);
  Level out;
  out.m = words.shape[0];
  out.k = words.shape[1];
  out.d = words.shape[2];
  nn::require(out.m >= 1 && out.m <= 256 && out.k >= 2 && out.d >= 1 && out.d <= nn::kMaxChannels / out.m,
              own + "words", "must be 2 words or more of 1 to 256 groups, of at most 2^14 channels together");
  const auto* values = static_cast<const std::int16_t*>(words.data);
  out.words.assign(values, values + words.size());
  const nn::ArrayRef& exponents = arrays.get(own + "exponents", nn::Type::int8, 1);
  const auto expected = arrays.int16s(own + "expected");
  nn::require(exponents.size() == out.channels() && expected.size() == out.channels(), own + "exponents",
              "must be one number per channel, as expected words");
  out.expected.assign(expected.begin(), expected.end());
  for (std::size_t c = 0; c < out.channels(); ++c) {
    const int exponent = static_cast<const std::int8_t*>(exponents.data)[c];
    nn::require(exponent >= kLeastExponent && exponent <= kMostExponent, own + "exponents", "must be from -14 to 40");
    out.units.push_back(std::ldexp(1.0f, -exponent));
  }
  if (use == Use::everything) {
    Vector<float> floats(out.words.size());
    for (std::size_t i = 0; i < floats.size(); ++i) {
      floats[i] = static_cast<float>(out.words[i]) * out.units[i / (out.k * out.d) * out.d + i % out.d];
    }
    out.books.emplace(floats.data(), out.m, out.k, out.d, active_isa());
  }
  const auto cdf = entropy.int32s(table + "cdf"), lengths = entropy.int32s(table + "lengths");
  const auto precision = entropy.int32s(table + "precision");
  nn::require(precision.size() == 1 && precision[0] >= 0, table + "precision", "must be one number");
  const auto entries = static_cast<std::int32_t>(out.k + 1);
  nn::require(
      lengths.size() == out.m && std::all_of(lengths.begin(), lengths.end(), [&](auto n) { return n == entries; }),
      table + "lengths", "must be one row per group, each of all words");
  out.tables.emplace(cdf, lengths, static_cast<unsigned>(precision[0]));
  std::int32_t likeliest = 0;
  for (std::size_t i = 1; i < cdf.size(); ++i) likeliest = std::max(likeliest, cdf[i] - cdf[i - 1]);
  out.fewest_bits = precision[0] - std::log2(likeliest);
  return out;
}

// Positions 0..size-1 mirrored at the first and the last as often as needed.
Vector<std::size_t> reflected(std::size_t size, std::size_t whole) {
  Vector<std::size_t> out(whole, 0);
  const std::size_t before = (whole - size) / 2, period = std::max<std::size_t>(2 * (size - 1), 1);
  for (std::size_t i = 0; i < whole && size > 1; ++i) {
    const std::size_t at = (i + period * (before / period + 1) - before) % period;
    out[i] = std::min(at, period - at);
  }
  return out;
}

class McQuic final : public Coder {
 public:
  McQuic(const File& file, Use use) {
    const nn::ArrayReader arrays(file.transforms);
    const auto count = arrays.uint8s("levels");
    nn::require(count.size() == 1 && count[0] >= 1 && count[0] <= kMaxLevels, "levels", "must be one number, 1 to 8");
    read_parts(file, use, arrays, count[0]);
    const std::size_t channels = levels_[0].channels();
    for (const Level& own : levels_) {
      nn::require(own.channels() == channels && own.m == levels_[0].m, "words",
                  "must have the same channels and groups");
    }
    for (std::size_t level = 0; level < levels_.size(); ++level) {
      const bool finest = level == 0, deepest = level + 1 == levels_.size();
      const std::size_t side = std::size_t{1} << (levels_.size() - level), up = finest ? 16 : 2;  // of the least image
      check("up", level, channels, finest ? 3 : channels, side, side * up);
      check("words", level, channels, channels, side, side);
      if (!deepest) check("side", level, channels, channels, side, side);
      if (use == Use::decoding) continue;
      check("down", level, finest ? 3 : channels, channels, up * side, side);
      check("head", level, channels, channels, side, side);
      if (!deepest) check("rest", level, channels, channels, side, side);
    }
    const nn::Network& last = network("up", 0).network;
    nn::require(nn::ends_with_pixels(last), "up.0", "must end with pixels");
    if (arrays.has("prices")) prices_.emplace(arrays, "prices", 1);
    if (!context_) return;
    const codes::Model& model = context_->model();
    nn::require(model.groups == levels_[0].m && model.words == levels_[0].k, "context", "must be of level 0");
    // Every other word has a frequency of 1.
    context_bits_ =
        -std::log2(1 - static_cast<double>(model.words - 1) / std::ldexp(1.0, static_cast<int>(model.precision)));
  }

  unsigned qualities() const noexcept override { return prices_ ? prices_->qualities() : 0; }
  unsigned previews() const noexcept override { return static_cast<unsigned>(levels_.size()); }
  std::size_t sections(unsigned parts) const noexcept override { return parts == 0 ? levels_.size() : parts; }
  MapSize padded(MapSize image) const noexcept override {
    return {padded_side(image.height), padded_side(image.width)};
  }

  std::uint64_t memory(MapSize image, unsigned threads, bool encode) const override {
    const MapSize whole = padded(image);
    const auto area = [](MapSize size) { return std::uint64_t{size.height} * size.width; };
    std::uint64_t codes = 0, maps = 0, networks = 0;
    for (std::size_t level = 0; level < levels_.size(); ++level) {
      const MapSize size = size_of(level, whole);
      codes += area(size) * levels_[level].m;
      const auto use = [&](const char* part, MapSize input) {
        networks = std::max(networks, nn::memory_of(network(part, level).network, input, threads));
      };
      if (encode) {
        use("down", level > 0 ? size_of(level - 1, whole) : whole);
        use("head", size);
      } else {
        use("words", size);
        use("up", size);
      }
      if (level + 1 < levels_.size()) use(encode ? "rest" : "side", size);
    }
    // Maps of the finest level and of the one before it: of latents, words and what a search makes of them.
    maps = sizeof(std::int32_t) * levels_[0].channels() * area(size_of(0, whole)) * (encode ? 5 : 4);
    // Codes, their groups, and intervals or words of 64 bits.
    return maps + codes * (encode ? 40 : 5) + networks + kEach * (2 + threads) +
           (encode ? threads * kSearch + sizeof(std::size_t) * (whole.height + whole.width) : 0);
  }

  Vector<Section> encode(const Pixels& pixels, unsigned quality, double, unsigned threads) const override {
    const MapSize whole = padded({pixels.height, pixels.width});
    const double by_context = expect(whole, threads, true);
    Vector<Codes> codes;
    Vector<MapSize> sizes;
    {
      Team team(threads);
      Map x;
      for (std::size_t level = 0; level < levels_.size(); ++level) {
        const Map z = level > 0 ? run_map(network("down", level), x, team)
                                : run_map(network("down", 0), pixels, reflected(pixels.height, whole.height),
                                          reflected(pixels.width, whole.width), team);
        const Map heads = run_map(network("head", level), z, team);
        codes.push_back(nearest(levels_[level], heads, quality, threads));
        Progress::done(search_work(level, z.size) / static_cast<double>(team.size()));
        sizes.push_back(z.size);
        if (level + 1 == levels_.size()) break;
        x = run_map(network("rest", level), z, team);
        const Map words = words_of(levels_[level], codes.back(), z.size);
        for (std::size_t i = 0; i < x.values.size(); ++i) {
          const std::int64_t rest = std::int64_t{x.values[i]} - words.values[i];
          x.values[i] = static_cast<std::int32_t>(
              std::clamp<std::int64_t>(rest, -std::int64_t{nn::kLatentLimit}, nn::kLatentLimit));
        }
      }
    }
    Vector<Section> out;
    for (std::size_t level = levels_.size(); level-- > 0;) {
      if (level == 0 && context_) {
        out.push_back(context_->encode(codes[0].data(), {sizes[0].height, sizes[0].width}, threads, by_context));
      } else {
        const auto groups = group_of(levels_[level], sizes[level]);
        out.push_back(levels_[level].tables->encode(codes[level].data(), groups.data(), groups.size()));
      }
    }
    return out;
  }

  void check(Sections sections, MapSize image, unsigned parts) const override {
    for (std::size_t depth = 0; depth < this->sections(parts); ++depth) {
      const std::size_t level = levels_.size() - 1 - depth, bytes = sections[depth].size();
      const MapSize size = size_of(level, padded(image));
      const double count = static_cast<double>(levels_[level].m) * static_cast<double>(size.height * size.width);
      // No code is cheaper than the likeliest one.
      if (count * (level == 0 && context_ ? context_bits_ : levels_[level].fewest_bits) >
          8.0 * static_cast<double>(bytes) + 64) {
        throw CorruptStream("level " + to_string(level) + " has " + to_string(bytes) + " bytes, too few for " +
                            to_string(static_cast<std::uint64_t>(count)) + " codes");
      }
    }
  }

  void decode(Sections sections, MapSize image, const Region& region, unsigned, unsigned parts, unsigned threads,
              const TakeRow& take) const override {
    const std::size_t given = this->sections(parts);
    const MapSize whole = padded(image), finest = size_of(0, whole);
    nn::require_addresses(finest.height, finest.width, levels_[0].channels(), sizeof(std::int32_t));  // the largest map
    const double by_context = expect(whole, threads, false);
    Vector<Codes> codes;  // the deepest first
    for (std::size_t depth = 0; depth < given; ++depth) {
      const std::size_t level = levels_.size() - 1 - depth;
      codes.push_back(decode_level(level, sections[depth], size_of(level, whole), by_context));
    }
    Team team(threads);
    std::optional<Map> x;
    for (std::size_t level = levels_.size(); level-- > 0;) {
      const std::size_t depth = levels_.size() - 1 - level;
      const MapSize size = size_of(level, whole);
      Map total = depth < given ? words_of(levels_[level], codes[depth], size) : expected(levels_[level], size);
      total = run_map(network("words", level), total, team);
      if (x) {
        const Map side = run_map(network("side", level), *x, team);
        // Activations of 16 bits: their sums stay in 32.
        for (std::size_t i = 0; i < total.values.size(); ++i) total.values[i] += side.values[i];
      }
      if (level > 0) {
        x = run_map(network("up", level), total, team);
      } else {
        const std::size_t top = (whole.height - image.height) / 2, left = (whole.width - image.width) / 2;
        run_pixels(network("up", 0), total, {region.top + top, region.left + left, region.size}, take, team);
      }
    }
  }

 private:
  // Levels, networks and the context, by several threads.
  void read_parts(const File& file, Use use, const nn::ArrayReader& arrays, std::size_t levels) {
    Vector<std::optional<Level>> read(levels);
    Vector<std::pair<String, nn::Transform>> networks;
    for (std::size_t level = 0; level < levels; ++level) {
      const auto add = [&](const char* part) {
        networks.emplace_back(String(part) + "." + to_string(level), nn::Transform());
      };
      const bool deepest = level + 1 == levels;
      for (const char* part : {"up", "words"}) add(part);
      if (!deepest) add("side");
      if (use == Use::decoding) continue;
      for (const char* part : {"down", "head"}) add(part);
      if (!deepest) add("rest");
    }
    nn::Arrays context;
    for (const auto& [name, array] : file.entropy) {
      if (name.starts_with("context.")) context.emplace(name.substr(8), array);
    }
    parallel_for(levels + networks.size() + 1, kReadingThreads, [&](std::size_t job) {
      if (job < levels) {
        read[job] = read_level(file, use, job);
      } else if (job < levels + networks.size()) {
        auto& [name, transform] = networks[job - levels];
        transform = nn::read_transform(arrays, name);
      } else if (!context.empty()) {
        context_.emplace(context);
      }
    });
    for (auto& own : read) levels_.push_back(std::move(*own));
    for (auto& own : networks) networks_.insert(std::move(own));
  }

  void check(const char* part, std::size_t level, std::size_t inputs, std::size_t outputs, std::size_t side,
             std::size_t out_side) const {
    const String name = String(part) + "." + to_string(level);
    const nn::Transform& transform = network(part, level);
    const nn::Network& network = transform.network;
    nn::require(transform.entry.has_value() == (part != String("down") || level > 0), name,
                "must have an entry unless it reads pixels");
    nn::require(
        network.input().channels == inputs && network.output().channels == outputs, name,
        "must have " + to_string(inputs) + " channels at its input and " + to_string(outputs) + " at its output");
    require_scale(name, network, side, out_side);
    const bool wide = part == String("head") || part == String("rest");
    nn::require(wide || network.output().limit <= 32767, name, "must end with activations");
  }
  const nn::Transform& network(const char* part, std::size_t level) const {
    return networks_.at(String(part) + "." + to_string(level));
  }

  // Of the codes of a level, in an image that is coded as `whole`.
  static MapSize size_of(std::size_t level, MapSize whole) noexcept {
    return {whole.height / (std::size_t{16} << level), whole.width / (std::size_t{16} << level)};
  }

  std::size_t padded_side(std::size_t side) const noexcept {
    const std::size_t stride = std::size_t{8} << levels_.size();
    return std::max((side + stride - 1) / stride * stride, 2 * stride);
  }

  // What the context's codes take of it, on one thread.
  double expect(MapSize whole, unsigned threads, bool encode) const {
    if (!Progress::watched()) return 0;
    constexpr double kContext = 0.2;  // of all else on one thread, as measured
    double work = 0;
    for (std::size_t level = 0; level < levels_.size(); ++level) {
      const MapSize size = size_of(level, whole), finer = level > 0 ? size_of(level - 1, whole) : whole;
      const auto add = [&](const char* part, MapSize input) {
        work += nn::work_of(network(part, level).network, input);
      };
      if (encode) {
        add("down", finer);
        add("head", size);
        work += search_work(level, size);
      } else {
        add("words", size);
        add("up", size);
      }
      if (level + 1 < levels_.size()) add(encode ? "rest" : "side", size);
    }
    const double team = thread_count(threads, static_cast<std::size_t>(-1));
    const double by_context = context_ ? kContext * work / (encode ? team : 1) : 0;  // a decoder has one code at a time
    Progress::expect(by_context + work / team);
    return by_context;
  }
  // As multiply-adds of integers, which floats take twice the time of.
  double search_work(std::size_t level, MapSize size) const {
    const Level& own = levels_[level];
    return 2.0 * static_cast<double>(own.m * own.k * own.d) * static_cast<double>(size.height * size.width);
  }

  static Vector<std::uint8_t> group_of(const Level& level, MapSize size) {
    const std::size_t plane = size.height * size.width;
    Vector<std::uint8_t> out(level.m * plane);
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::uint8_t>(i / plane);
    return out;
  }

  // `by_context`: what the context's codes take.
  Codes decode_level(std::size_t level, std::span<const std::uint8_t> data, MapSize size, double by_context) const {
    const Level& own = levels_[level];
    const std::size_t count = own.m * size.height * size.width;
    Codes out(count);
    if (level == 0 && context_) {
      context_->decode(data.data(), data.size(), {size.height, size.width}, out.data(), by_context);
    } else {
      own.tables->decode(data.data(), data.size(), group_of(own, size).data(), out.data(), count);
    }
    return out;
  }

  static Map words_of(const Level& level, const Codes& codes, MapSize size) {
    const std::size_t plane = size.height * size.width;
    Map out{Vector<std::int32_t>(plane * level.channels()), size, level.channels()};
    for (std::size_t g = 0; g < level.m; ++g) {
      for (std::size_t i = 0; i < plane; ++i) {
        const auto word = static_cast<std::size_t>(codes[g * plane + i]);
        std::copy_n(&level.words[(g * level.k + word) * level.d], level.d, &out.values[i * out.channels + g * level.d]);
      }
    }
    return out;
  }
  static Map expected(const Level& level, MapSize size) {
    Map out{Vector<std::int32_t>(size.height * size.width * level.channels()), size, level.channels()};
    for (std::size_t i = 0; i < out.values.size(); ++i) out.values[i] = level.expected[i % out.channels];
    return out;
  }

  Codes nearest(const Level& level, const Map& heads, unsigned quality, unsigned threads) const {
    const std::size_t plane = heads.size.height * heads.size.width, channels = level.channels();
    Vector<float> vectors(heads.values.size());
    const std::optional<float> price =
        prices_ ? std::optional(static_cast<float>(prices_->at(quality)[0])) : std::nullopt;
    for (std::size_t i = 0; i < vectors.size(); ++i) {
      vectors[i] = static_cast<float>(heads.values[i]) * level.units[i % channels];
      if (price && i % level.d + 1 == level.d) vectors[i] *= *price;
    }
    Vector<std::int64_t> found(plane * level.m);
    const codebook::Codebooks::Strides strides{static_cast<std::ptrdiff_t>(channels),
                                               static_cast<std::ptrdiff_t>(level.d), 1};
    level.books->nearest(vectors.data(), plane, strides, found.data(), threads);
    Codes out(found.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
      out[i % level.m * plane + i / level.m] = static_cast<std::int32_t>(found[i]);
    }
    return out;
  }

  Vector<Level> levels_;  // the finest first
  Dictionary<String, nn::Transform> networks_;
  std::optional<Gains> prices_;
  std::optional<codes::Context> context_;
  double context_bits_ = 0;
};

}  // namespace

bool decides_mcquic(std::string_view array) {
  for (const char* prefix : {"words.", "side.", "up.", "level.", "levels"}) {
    if (array.starts_with(prefix) && !array.ends_with(".units")) return true;
  }
  return false;
}

bool encodes_mcquic(std::string_view array) {
  return array.starts_with("down.") || array.starts_with("head.") || array.starts_with("rest.");
}

std::unique_ptr<Coder> read_mcquic(const File& file, Use use) { return std::make_unique<McQuic>(file, use); }

}  // namespace fastlic::codec

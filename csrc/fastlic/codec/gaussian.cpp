// Gaussian families: latents with a hyperprior, whatever the contexts (docs/engine.md, docs/mlic.md; transforms:
// docs/transforms.md). Twin of fastlic/codec/families/gaussian.py.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <utility>

#include "fastlic/codec/coder.hpp"
#include "fastlic/latents/engine.hpp"
#include "fastlic/memory.hpp"
#include "fastlic/nn/reading.hpp"
#include "fastlic/parallel.hpp"
#include "fastlic/progress.hpp"

namespace fastlic::codec {
namespace {

constexpr std::size_t kStride = 16;  // pixels per position of y
constexpr std::size_t kLevels = 64;  // of the scale table

std::shared_ptr<const CdfTables> tables_of(const nn::ArrayReader& arrays, const String& name) {
  const String own = name + ".tables.";
  const auto precision = arrays.int32s(own + "precision");
  nn::require(precision.size() == 1 && precision[0] >= 0, own + "precision", "must be one number");
  return shared_of<CdfTables>(arrays.int32s(own + "cdf"), arrays.int32s(own + "lengths"),
                              arrays.int32s(own + "offsets"), arrays.uint8s(own + "shifts"),
                              static_cast<unsigned>(precision[0]));
}

// By scale index: by how much |y - mean| must pass 1/2 before a symbol of 1 pays, in units of 2^-6, where a unit of
// squared error is worth so many bits (fastlic/models/density.py, dead_zone): log2(p(0) / p(1)) / (2 worth), p(k) being
// the Gaussian's mass on [k - 1/2, k + 1/2].
std::array<std::int32_t, kLevels> zones_for(double worth) {
  constexpr double kSmallest = 0.11, kLargest = 256.0;
  const double rarest = std::ldexp(1.0, -16), begin = std::log(kSmallest), end = std::log(kLargest);
  const double step = (end - begin) / (kLevels - 1);
  std::array<std::int32_t, kLevels> out;
  for (std::size_t i = 0; i < kLevels; ++i) {
    const double scale = std::exp(i + 1 < kLevels ? begin + static_cast<double>(i) * step : end);
    const double half_width = std::sqrt(0.5) / std::max(scale, kSmallest);
    const double middle = std::erf(0.5 * half_width);
    const double side = 0.5 * (std::erfc(0.5 * half_width) - std::erfc(1.5 * half_width));
    const double bits = std::log2(middle / std::max(side, rarest));
    const double zone = std::max(bits / (2 * std::max(worth, 1e-6)), 0.0);
    out[i] = static_cast<std::int32_t>(std::nearbyint(zone * (1 << nn::kMeanBits)));
  }
  return out;
}

class Gaussian final : public Coder {
 public:
  Gaussian(const File& file, Use use) : Gaussian(file, use, Parts(file, use)) {}

  unsigned qualities() const noexcept override { return forward_ ? forward_->qualities() : 0; }
  unsigned previews() const noexcept override {
    return slices_ ? static_cast<unsigned>(engine_.model().groups.size()) : 0;
  }
  std::size_t sections(unsigned) const noexcept override { return engine_.model().sections(); }
  MapSize padded(MapSize image) const noexcept override {
    const latents::Size size = latent_size(image);
    return {kStride * size.height, kStride * size.width};
  }

  std::uint64_t memory(MapSize image, unsigned threads, bool encode) const override {
    const latents::Size size = latent_size(image);
    const latents::Model& model = engine_.model();
    const std::uint64_t y = sizeof(std::int32_t) * size.positions() * model.latent_channels;
    const std::uint64_t z = sizeof(std::int32_t) * size.hyper_positions() * model.hyper_channels();
    const MapSize latents{size.height, size.width};
    std::uint64_t bytes = engine_.memory(size, threads, encode) + kEach * (1 + threads);
    if (encode) {
      const MapSize cells{nn::kHyperStride * size.hyper_height(), nn::kHyperStride * size.hyper_width()};
      // One after the other.
      const std::uint64_t transforms =
          std::max(nn::memory_of(g_a_.network, padded(image), threads), nn::memory_of(h_a_.network, cells, threads));
      bytes += y + 2 * z + transforms;
    } else {
      bytes += y + z + nn::memory_of(g_s_.network, latents, threads);
    }
    return bytes;
  }

  Vector<Section> encode(const Pixels& pixels, unsigned quality, double factor, unsigned threads) const override {
    const latents::Size size = latent_size({pixels.height, pixels.width});
    const auto repeated = [](std::size_t count, std::size_t to) {
      Vector<std::size_t> out(to);
      for (std::size_t i = 0; i < to; ++i) out[i] = std::min(i, count - 1);
      return out;
    };
    expect(size, threads, true);
    Map y;
    Vector<std::int32_t> z;
    {
      Team team(threads);
      const auto rows = repeated(pixels.height, kStride * size.height);
      const auto columns = repeated(pixels.width, kStride * size.width);
      nn::Transform g_a = g_a_;
      if (forward_) {
        nn::Requantiser& exit = nn::exit_of(g_a.network, "g_a");
        exit = nn::multiplied(exit, forward_->at(quality));
      }
      y = run_map(g_a, pixels, rows, columns, team);
      const MapSize cells{nn::kHyperStride * size.hyper_height(), nn::kHyperStride * size.hyper_width()};
      z = run_map(h_a_, y, cells, of_magnitude_, team).values;
    }
    std::array<std::int32_t, kLevels> zones;
    const std::optional<double> worth = worth_at(quality);
    if (worth) zones = zones_for(*worth * factor);
    Vector<std::int32_t> symbols(z.size());
    const latents::Target target{z.data(), y.values.data(), worth ? zones.data() : nullptr};
    return engine_.encode(target, size, {symbols.data(), y.values.data()}, threads);
  }

  void check(Sections sections, MapSize image, unsigned) const override {
    engine_.check_sizes(sections, latent_size(image));
  }

  void decode(Sections sections, MapSize image, const Region& region, unsigned quality, unsigned parts,
              unsigned threads, const TakeRow& take) const override {
    const latents::Size size = latent_size(image);
    const latents::Model& model = engine_.model();
    expect(size, threads, false, needed_of(g_s_.network, {size.height, size.width}, region).size);
    Map y{Vector<std::int32_t>(size.positions() * model.latent_channels),
          {size.height, size.width},
          model.latent_channels};
    {
      Vector<std::int32_t> z(size.hyper_positions() * model.hyper_channels());
      const std::size_t groups = std::max<std::size_t>(model.groups.size(), 1);
      engine_.decode(sections, size, parts == 0 ? groups : parts, {z.data(), y.values.data()}, threads);
    }
    nn::Transform g_s = g_s_;
    if (inverse_) g_s.entry = nn::multiplied(*g_s.entry, inverse_->at(quality));
    Team team(threads);
    run_pixels(g_s, y, region, take, team);
  }

 private:
  // What a file holds, read by several threads; g_a and h_a as their arrays say, or empty for decoding.
  struct Parts {
    bool slices;
    std::optional<latents::Model> model;
    nn::Transform g_a, h_a, g_s;

    Parts(const File& file, Use use) : slices(file.family.starts_with("mlic")) {
      const nn::ArrayReader arrays(file.transforms);
      parallel_for(use == Use::everything ? 4 : 2, kReadingThreads, [&](std::size_t job) {
        if (job == 0) model = model_of(file, slices);
        if (job == 1) g_s = nn::read_transform(arrays, "g_s");
        if (job == 2) g_a = nn::read_transform(arrays, "g_a");
        if (job == 3) h_a = nn::read_transform(arrays, "h_a");
      });
    }
  };

  Gaussian(const File& file, Use use, Parts parts)
      : slices_(parts.slices),
        engine_(std::move(*parts.model)),
        g_a_(std::move(parts.g_a)),
        h_a_(std::move(parts.h_a)),
        g_s_(std::move(parts.g_s)) {
    const nn::ArrayReader arrays(file.transforms);
    const std::size_t m = engine_.model().latent_channels;
    if (use == Use::everything) {
      const auto magnitude = arrays.uint8s("h_a.magnitude");
      nn::require(magnitude.size() == 1 && magnitude[0] <= 1, "h_a.magnitude", "must be 0 or 1");
      of_magnitude_ = magnitude[0] == 1;
      require_transform("g_a", g_a_, false, 3, m, {kStride, 1});
      require_transform("h_a", h_a_, true, m, engine_.model().hyper_channels(), {nn::kHyperStride, 1});
    }
    require_transform("g_s", g_s_, true, m, 3, {1, kStride});
    nn::require(nn::ends_with_pixels(g_s_.network), "g_s", "must end with pixels");
    if (arrays.has("gain.forward") || arrays.has("gain.inverse")) {
      forward_.emplace(arrays, "gain.forward", m);
      inverse_.emplace(arrays, "gain.inverse", m);
      nn::require(forward_->qualities() == inverse_->qualities(), "gain.inverse", "must have as many as gain.forward");
    }
    const Json* stated = file.config.find("qualities");
    nn::require((stated == nullptr ? 0 : stated->count().value_or(~std::uint64_t{0})) == qualities(), "qualities",
                "must be those of the gains");
    if (const auto found = file.floats.find("gain.worth"); found != file.floats.end()) worth_ = found->second.values;
    nn::require(worth_.empty() || worth_.size() == qualities(), "gain.worth", "must be one number per quality");
    const bool zones = std::any_of(worth_.begin(), worth_.end(), [](float worth) { return worth != 0; });
    nn::require(!zones || engine_.model().y_tables->rows() == kLevels, "gain.worth",
                "stands beside other than 64 scales");
    for (unsigned q = kQualitySteps; q <= kQualitySteps * qualities(); ++q) {  // whatever there may be, there is
      if (use == Use::everything) nn::multiplied(nn::exit_of(g_a_.network, "g_a"), forward_->at(q));
      nn::multiplied(*g_s_.entry, inverse_->at(q));
    }
  }

  static latents::Model model_of(const File& file, bool slices) {
    const nn::ArrayReader arrays(file.entropy);
    const auto read = slices ? latents::read_slices : latents::read_gaussian;
    return read(file.entropy, tables_of(arrays, "z"), tables_of(arrays, "y"));
  }

  // `sides`: of an input, and of its output.
  static void require_transform(const char* name, const nn::Transform& transform, bool entry, std::size_t inputs,
                                std::size_t outputs, std::pair<std::size_t, std::size_t> sides) {
    const nn::Network& network = transform.network;
    nn::require(transform.entry.has_value() == entry, name, entry ? "must read latents" : "must read pixels");
    nn::require(
        network.input().channels == inputs && network.output().channels == outputs, name,
        "must have " + to_string(inputs) + " channels at its input and " + to_string(outputs) + " at its output");
    require_scale(name, network, sides.first, sides.second);
  }

  latents::Size latent_size(MapSize image) const noexcept {
    const std::size_t columns = slices_ ? 2 : 1;  // boards are whole pairs of columns wide
    const auto up = [](std::size_t a, std::size_t b) { return (a + b - 1) / b; };
    return {up(image.height, kStride), columns * up(image.width, columns * kStride)};
  }

  // `latents`: what g_s gets.
  void expect(latents::Size size, unsigned threads, bool encode, MapSize latents = {}) const {
    if (!Progress::watched()) return;
    const auto count = thread_count(threads, static_cast<std::size_t>(-1));
    double work = 0;
    if (encode) {
      work += nn::work_of(g_a_.network, {kStride * size.height, kStride * size.width});
      work +=
          nn::work_of(h_a_.network, {nn::kHyperStride * size.hyper_height(), nn::kHyperStride * size.hyper_width()});
    } else {
      work += nn::work_of(g_s_.network, latents);
    }
    Progress::expect(work / count + engine_.work(size, count));
  }

  // Bits that a unit of squared error is worth, in single precision as weights are; none: rounded to the nearest.
  std::optional<double> worth_at(unsigned quality) const {
    if (worth_.empty() || quality == 0) return {};
    const std::size_t last = worth_.size() - 1;
    const std::size_t low = std::min<std::size_t>(quality / kQualitySteps - 1, last == 0 ? 0 : last - 1);
    const float place = static_cast<float>(quality) / kQualitySteps - 1 - static_cast<float>(low);
    const float worth = worth_[low] * (1 - place) + worth_[std::min(low + 1, last)] * place;
    if (worth == 0) return {};
    return worth;
  }

  bool slices_;
  latents::Engine engine_;
  nn::Transform g_a_, h_a_, g_s_;
  bool of_magnitude_ = false;
  std::optional<Gains> forward_, inverse_;
  Vector<float> worth_;
};

}  // namespace

bool decides_gaussian(std::string_view array) {
  return (array.starts_with("g_s.") && array != "g_s.units") || array == "gain.inverse";
}

bool encodes_gaussian(std::string_view array) { return array.starts_with("g_a.") || array.starts_with("h_a."); }

std::unique_ptr<Coder> read_gaussian(const File& file, Use use) { return std::make_unique<Gaussian>(file, use); }

}  // namespace fastlic::codec

#include "fastlic/engine/engine.hpp"

#include <string>

#include "fastlic/engine/hyper.hpp"
#include "fastlic/engine/wavefront.hpp"
#include "fastlic/rans.hpp"

namespace fastlic::engine {
namespace {

// Answers each pass with symbols of its own latent, and keeps them for one call of the coder at the end.
class EncoderSource final : public SymbolSource {
 public:
  EncoderSource(Target target, std::size_t positions, std::size_t channels, const Kernels& kernels)
      : target_(target),
        channels_(channels),
        kernels_(kernels),
        symbols_(positions * channels),
        indexes_(positions * channels) {}

  std::uint8_t* indexes(std::size_t) override { return indexes_.data() + done_; }

  const std::int32_t* symbols(std::span<const std::size_t> where, const std::int32_t* means,
                              std::size_t means_stride) override {
    std::int32_t* out = symbols_.data() + done_;
    for (std::size_t i = 0; i < where.size(); ++i) {
      quantise_row(kernels_, target_.y + where[i] * channels_, means + i * means_stride,
                   indexes_.data() + done_ + i * channels_, target_.zones, channels_, out + i * channels_);
    }
    done_ += where.size() * channels_;
    return out;
  }

  Engine::Symbols take() { return {std::move(indexes_), std::move(symbols_)}; }
  Bytes finish(const CdfTables& tables) const { return rans_encode(symbols_.data(), indexes_.data(), done_, tables); }

 private:
  Target target_;
  std::size_t channels_;
  const Kernels& kernels_;
  Buffer<std::int32_t> symbols_;
  Buffer<std::uint8_t> indexes_;
  std::size_t done_ = 0;
};

// Answers each pass from the stream.
class DecoderSource final : public SymbolSource {
 public:
  DecoderSource(std::span<const std::uint8_t> data, const CdfTables& tables, std::size_t channels)
      : channels_(channels), decoder_(data.data(), data.size(), tables) {}

  std::uint8_t* indexes(std::size_t positions) override {
    if (indexes_.size() < positions * channels_) {
      indexes_.resize(positions * channels_);
      symbols_.resize(positions * channels_);
    }
    return indexes_.data();
  }

  const std::int32_t* symbols(std::span<const std::size_t> where, const std::int32_t*, std::size_t) override {
    decoder_.decode(indexes_.data(), symbols_.data(), where.size() * channels_);
    return symbols_.data();
  }

  void finish() const { decoder_.finish(); }

 private:
  std::size_t channels_;
  RansDecoder decoder_;
  Buffer<std::int32_t> symbols_;
  Buffer<std::uint8_t> indexes_;
};

void code(const Model& model, const std::int32_t* z, Size size, SymbolSource& source, std::int32_t* y,
          const Kernels& kernels, unsigned threads) {
  Map<std::int16_t> x = hyper_input(model, z, size.hyper_height(), size.hyper_width(), kernels);
  if (model.contextual) {
    const auto features = hyper_features(model, std::move(x), size.height, size.width, kernels, threads);
    run_wavefront(model, features, source, y, kernels, threads);
  } else {
    run_parallel(model, hyper_head(model, std::move(x), size.height, size.width, kernels, threads), source, y, kernels);
  }
}

}  // namespace

Engine::Encoded Engine::encode(const Target& target, Size size, std::int32_t* z_symbols, std::int32_t* y_latents,
                               unsigned threads) const {
  const Kernels& best = kernels(active_isa());
  const std::size_t z_positions = size.hyper_height() * size.hyper_width();
  check_and_round(target, size, z_symbols);
  EncoderSource source(target, size.height * size.width, model_.latent_channels(), best);
  code(model_, z_symbols, size, source, y_latents, best, threads);
  return {encode_hyper(z_symbols, z_positions, model_.hyper_channels(), *model_.z_tables),
          source.finish(*model_.y_tables)};
}

Engine::Symbols Engine::symbols(const Target& target, Size size, unsigned threads) const {
  const Kernels& best = kernels(active_isa());
  const std::size_t m = model_.latent_channels();
  Buffer<std::int32_t> z_symbols(size.hyper_height() * size.hyper_width() * model_.hyper_channels());
  Buffer<std::int32_t> y_latents(size.height * size.width * m);
  check_and_round(target, size, z_symbols.data());
  EncoderSource source(target, size.height * size.width, m, best);
  code(model_, z_symbols.data(), size, source, y_latents.data(), best, threads);
  return source.take();
}

void Engine::check_and_round(const Target& target, Size size, std::int32_t* z_symbols) const {
  const std::size_t z_positions = size.hyper_height() * size.hyper_width();
  check_latents(target.z, z_positions * model_.hyper_channels());
  check_latents(target.y, size.height * size.width * model_.latent_channels());
  if (target.zones != nullptr) check_zones({target.zones, model_.y_tables->rows()});
  hyper_symbols(target.z, z_positions, model_.z_median, z_symbols);
}

void Engine::decode(std::span<const std::uint8_t> z, std::span<const std::uint8_t> y, Size size,
                    std::int32_t* z_symbols, std::int32_t* y_latents, unsigned threads) const {
  check_sizes(z.size(), y.size(), size);
  const Kernels& best = kernels(active_isa());
  DecoderSource source(y, *model_.y_tables, model_.latent_channels());
  // Before the costly part: a damaged z is found out at once.
  decode_hyper(z, size.hyper_height() * size.hyper_width(), model_.hyper_channels(), *model_.z_tables, z_symbols);
  code(model_, z_symbols, size, source, y_latents, best, threads);
  source.finish();
}

void Engine::check_sizes(std::size_t z_bytes, std::size_t y_bytes, Size size) const {
  constexpr std::size_t kMaxSide = std::size_t{1} << 24;  // far beyond any image; products stay exact
  if (size.height < 1 || size.width < 1 || size.height > kMaxSide || size.width > kMaxSide) {
    throw std::invalid_argument("latents must be 1 to 2^24 positions high and wide");
  }
  const double z_count = static_cast<double>(size.hyper_height() * size.hyper_width() * model_.hyper_channels());
  const double y_count = static_cast<double>(size.height * size.width * model_.latent_channels());
  check_section("z", z_bytes, z_count, model_.z_fewest_bits);
  check_section("y", y_bytes, y_count, model_.y_fewest_bits);
}

}  // namespace fastlic::engine

// What several threads do at once must be what one does alone; built with -fsanitize=thread, races are found as well.
//
//   threads parts | coders | engine MODEL | slices MODEL | groups MODEL | codes MODEL | network MODEL | codec FILE
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "fastlic/categorical_rans.hpp"
#include "fastlic/codebook/codebook.hpp"
#include "fastlic/codec/codec.hpp"
#include "fastlic/codes/context.hpp"
#include "fastlic/compressai_rans.hpp"
#include "fastlic/crc32c.hpp"
#include "fastlic/float_convolution.hpp"
#include "fastlic/gaussian_rans.hpp"
#include "fastlic/gdn.hpp"
#include "fastlic/latents/engine.hpp"
#include "fastlic/nn/network.hpp"
#include "fastlic/parallel.hpp"
#include "fastlic/rans.hpp"
#include "tests/model_file.hpp"

namespace {

using namespace fastlic;
using Bytes = Vector<std::uint8_t>;
using Ints = Vector<std::int32_t>;

void require(bool claim, const char* what) {
  if (!claim) {
    std::fprintf(stderr, "threads: %s\n", what);
    std::_Exit(1);  // other threads are still at work
  }
}

// Several threads at once, each by itself. Each chooses an instruction set as it begins, whatever the others are at.
void at_once(const std::function<void()>& work) {
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < 4; ++i) {
    threads.emplace_back([&work, i] {
      set_isa(supported_isas()[i % supported_isas().size()]);
      work();
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// What work(threads) gives to one, and must give to all.
template <typename Work>
void same(const char* what, const Work& work) {
  const auto alone = work(1u);
  at_once([&] {
    for (const unsigned threads : {0u, 1u, 3u, 1u << 30}) require(work(threads) == alone, what);
  });
}

Ints numbers(std::size_t count, int low, int high) {
  static std::minstd_rand random;
  Ints values(count);
  for (std::int32_t& value : values) value = low + static_cast<int>(random() / 16) % (high - low + 1);
  return values;
}

using Reader = decltype(&latents::read_groups);

void run_engine(Reader reader, const char* path, latents::Size size) {
  const tests::ModelFile from(path);
  const latents::Engine engine(reader(from.arrays, from.tables("z.tables"), from.tables("y.tables")));
  const latents::Model& model = engine.model();
  const std::size_t hyper = size.hyper_positions() * model.hyper_channels();
  const Ints z = numbers(hyper, -400, 400), y = numbers(size.positions() * model.latent_channels, -400, 400);
  same("sections depend on threads", [&](unsigned threads) {
    // Weights are shared where models can.
    const bool varies = model.wavefront.has_value();
    const latents::Engine own(varies ? latents::vary(model, {}, model.z_tables, model.y_tables) : model);
    Ints analysed = z, z_coded(z.size()), y_coded(y.size()), z_seen(z.size()), y_seen(y.size()), symbols(y.size());
    if (!model.analysis.steps.empty()) own.analyse(y.data(), size, analysed.data(), threads);
    const auto coded =
        own.encode({analysed.data(), y.data()}, size, {z_coded.data(), y_coded.data(), symbols.data()}, threads);
    const std::vector<std::span<const std::uint8_t>> sections(coded.begin(), coded.end());
    own.decode(sections, size, nn::kMaxChannels, {z_seen.data(), y_seen.data()}, threads);
    require(z_seen == z_coded && y_seen == y_coded, "other latents than before");
    return coded;
  });
}

// One network of latents, which all threads share.
void run_network(const char* path) {
  const tests::ModelFile from(path);
  const nn::ArrayReader reader(from.arrays);
  const std::size_t channels = reader.int32s("n.entry.multiplier").size();
  const nn::Network network = nn::read_network(reader, "n", {channels, 8191});
  const nn::MapSize size{42, 18}, out = nn::output_size(network, size);
  const Ints x = numbers(size.height * size.width * channels, -8191, 8191);
  same("outputs depend on threads", [&](unsigned threads) {
    Ints y(out.height * out.width * network.output().channels);
    const auto feed = [&](std::size_t row, std::int16_t* to, std::size_t stride) {
      for (std::size_t i = 0; i < size.width; ++i) {
        for (std::size_t c = 0; c < channels; ++c) {
          to[i * stride + c] = static_cast<std::int16_t>(x[(row * size.width + i) * channels + c]);
        }
      }
    };
    const auto take = [&](std::size_t row, const auto* from, std::size_t stride) {
      const std::size_t own = network.output().channels;
      for (std::size_t i = 0; i < out.width; ++i) std::copy_n(from + i * stride, own, &y[(row * out.width + i) * own]);
    };
    Team team(threads);
    nn::run(network, size, 0, {feed, take, take}, active_isa(), team);
    return y;
  });
}

void run_codes(const char* path) {
  const codes::Context context(tests::ModelFile(path).arrays);
  const codes::Size size{9, 14};
  const std::size_t count = context.model().groups * size.height * size.width;
  const Ints words = numbers(count, 0, static_cast<std::int32_t>(context.model().words) - 1);
  same("codes and their frequencies depend on threads", [&](unsigned threads) {
    Ints decoded(count);
    std::vector<std::uint32_t> found(count);
    const Bytes data = context.encode(words.data(), size, threads);
    context.decode(data.data(), data.size(), size, decoded.data());
    context.frequencies(words.data(), size, found.data(), threads);
    require(decoded == words, "other words than before");
    return std::pair(data, found);
  });
}

// A whole codec, which all threads share.
void run_codec(const char* path) {
  std::ifstream file(path, std::ios::binary);
  const Bytes data{std::istreambuf_iterator<char>(file), {}};
  const codec::Codec codec(data);
  constexpr std::size_t kHeight = 70, kWidth = 94;
  const Ints drawn = numbers(3 * kHeight * kWidth, 0, 255);
  const Bytes image(drawn.begin(), drawn.end());
  const codec::Limits limits;
  const unsigned quality = codec.coder().qualities() > 0 ? codec::kQualitySteps + 3 : 0;
  same("streams or pixels depend on threads", [&](unsigned threads) {
    const Bytes stream = codec.encode({image.data(), kHeight, kWidth, 3 * kWidth}, quality, threads, limits);
    Bytes out(image.size());
    codec.decode(codec.check(stream, 0, threads, limits), threads, 3, out.data(), 3 * kWidth);
    return std::pair(stream, out);
  });
}

// Batches of streams as the bindings code them, under tables that all share: encode() and decode(bytes, size, out).
template <typename Encode, typename Decode>
void run_coder(const Ints& symbols, const Encode& encode, const Decode& decode) {
  same("streams depend on threads", [&](unsigned threads) {
    std::vector<std::pair<Bytes, std::uint32_t>> streams(6);
    parallel_for(streams.size(), threads, [&](std::size_t i) {
      const Bytes data = encode();
      Ints decoded(symbols.size());
      decode(data.data(), data.size(), decoded.data());
      require(decoded == symbols, "other symbols than before");
      streams[i] = {data, crc32c(data.data(), data.size())};
    });
    return streams;
  });
}

void run_coders() {
  constexpr std::size_t n = 5000;
  const Ints cdf{0, 1024, 2048, 3072, 4096}, wide{0, 9, 99, 999, 65536}, length{5}, zero{0}, s = numbers(n, 0, 3);
  const Bytes indexes(n), shift{0};
  const std::uint8_t* const i = indexes.data();
  const std::vector<float> means(n, 1.3f), scales(n, 1.7f);
  const CdfTables tables(cdf, length, zero, shift, 12);
  const CategoricalTables categories(cdf, length, 12);
  const CompressAiTables compressai(wide, 5, length, zero);
  run_coder(
      s, [&] { return rans_encode(s.data(), i, n, tables); },
      [&](auto* data, auto size, auto* out) { RansDecoder(data, size, tables).decode(i, out, n); });
  run_coder(
      s, [&] { return categories.encode(s.data(), i, n); },
      [&](auto* data, auto size, auto* out) { categories.decode(data, size, i, out, n); });
  run_coder(
      s, [&] { return compressai_encode(s.data(), i, n, compressai); },
      [&](auto* data, auto size, auto* out) { CompressAiDecoder(data, size).decode(i, out, n, compressai); });
  run_coder(
      s, [&] { return gaussian_encode(s.data(), means.data(), scales.data(), n); },
      [&](auto* data, auto size, auto* out) { gaussian_decode(data, size, means.data(), scales.data(), out, n); });
}

void run_parts() {
  at_once([] {  // each job once; the lowest failure is the one that is seen; a team outlives it
    Team team(3);
    for (int round = 0; round < 50; ++round) {
      std::vector<int> done(40);
      const auto job = [&](std::size_t i) {
        ++done[i];
        if (i == 17 || i == 30) throw std::runtime_error(std::to_string(i));
      };
      for (int way = 0; way < 2; ++way) {
        done.assign(40, 0);
        try {
          way == 0 ? parallel_for(40, 3u, job) : parallel_for(40, team, job);
          require(false, "a failure was lost");
        } catch (const std::runtime_error& error) {
          require(error.what() == std::string("17"), "another failure than the lowest");
        }
        for (std::size_t i = 0; i < 17; ++i) require(done[i] == 1, "a job ran twice or never");
      }
    }
  });

  constexpr std::size_t kGroups = 2, kWords = 96, kChannels = 8, kRows = 700;
  const Ints drawn = numbers((kWords + kRows) * kGroups * kChannels, -100, 100);
  const std::vector<float> words(drawn.begin(), drawn.end() - kRows * kGroups * kChannels);
  const std::vector<float> rows(drawn.begin() + words.size(), drawn.end());
  for (const Isa isa : supported_isas()) {
    const codebook::Codebooks books(words.data(), kGroups, kWords, kChannels, isa);
    same("codes depend on threads", [&](unsigned threads) {
      std::vector<std::int64_t> found(kRows * kGroups);
      books.nearest(rows.data(), kRows, {kGroups * kChannels, kChannels, 1}, found.data(), threads);
      return found;
    });
  }

  // Sums that no instruction set rounds.
  const std::vector<float> beta(kChannels, 1.0f), gamma(kChannels * kChannels, 0.125f);
  same("GDN depends on threads", [&](unsigned threads) {
    std::vector<float> out(rows.size());
    gdn(rows, out, beta, gamma, false, threads);
    return out;
  });
  const MapConvolution map = {1, 10, 70, 2 * kChannels, 3, Stride::down};
  const std::vector<float> kernels(rows.begin(), rows.begin() + map.inputs * map.outputs * 25);
  const auto convolved = [&](unsigned threads) {
    std::vector<float> out(5 * 35 * map.outputs);
    float_convolution(rows, out, kernels, {}, map, threads);
    return out;
  };
  require(convolved(3) == convolved(1), "convolutions depend on threads");
  at_once([&] { convolved(3); });  // and other instruction sets round in other ways
}

}  // namespace

int main(int count, char** arguments) {
  const std::string what = count > 1 ? arguments[1] : "";
  if (count == 2 && what == "parts") {
    run_parts();
  } else if (count == 2 && what == "coders") {
    run_coders();
  } else if (count == 3 && what == "engine") {
    run_engine(latents::read_gaussian, arguments[2], {12, 20});
  } else if (count == 3 && what == "slices") {
    run_engine(latents::read_slices, arguments[2], {8, 12});
  } else if (count == 3 && what == "groups") {
    run_engine(latents::read_groups, arguments[2], {20, 28});
  } else if (count == 3 && what == "codes") {
    run_codes(arguments[2]);
  } else if (count == 3 && what == "network") {
    run_network(arguments[2]);
  } else if (count == 3 && what == "codec") {
    run_codec(arguments[2]);
  } else {
    require(false,
            "usage: threads parts | coders | engine MODEL | slices MODEL | groups MODEL | codes MODEL | "
            "network MODEL | codec FILE");
  }
  std::puts("no finding");
}

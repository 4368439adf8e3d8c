// What several threads do at once must be what one does alone; built with -fsanitize=thread, races are found as well.
//
//   threads engine MODEL    threads slices MODEL    threads parts
//
// MODEL is a file of arrays as tests/concurrency/test_thread_sanitizer.py writes it.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <list>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "fastlic/codebook/codebook.hpp"
#include "fastlic/engine/engine.hpp"
#include "fastlic/gdn.hpp"
#include "fastlic/attention/engine.hpp"
#include "fastlic/parallel.hpp"

namespace {

using namespace fastlic;

void require(bool claim, const char* what) {
  if (!claim) {
    std::fprintf(stderr, "threads: %s\n", what);
    std::exit(1);
  }
}

// Several threads at once, each by itself.
void at_once(const std::function<void()>& work) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
}

std::int32_t next() {
  static std::uint32_t seed = 1;
  return static_cast<std::int32_t>((seed = seed * 1664525u + 1013904223u) >> 8);
}

struct Arrays {
  explicit Arrays(const char* path) {
    std::ifstream file(path, std::ios::binary);
    const auto number = [&] {
      std::uint32_t value = 0;
      file.read(reinterpret_cast<char*>(&value), sizeof value);
      return value;
    };
    for (std::uint32_t left = number(); left > 0; --left) {
      std::string name(number(), ' ');
      file.read(name.data(), static_cast<std::streamsize>(name.size()));
      const auto type = static_cast<nn::Type>(number());
      std::vector<std::size_t> shape(number());
      for (std::size_t& extent : shape) extent = number();
      nn::ArrayRef& array = arrays[name] = {type, shape, nullptr};
      auto& kept = bytes.emplace_back(array.size() * (type == nn::Type::int32 ? 4 : 1));
      file.read(kept.data(), static_cast<std::streamsize>(kept.size()));
      array.data = kept.data();
    }
    require(bool(file), "cannot read the model");
  }

  std::shared_ptr<const CdfTables> tables(const std::string& name) const {
    const engine::ArrayReader reader(arrays);
    return std::make_shared<const CdfTables>(
        reader.int32s(name + ".cdf"), reader.int32s(name + ".lengths"), reader.int32s(name + ".offsets"),
        reader.uint8s(name + ".shifts"), static_cast<unsigned>(reader.int32s(name + ".precision")[0]));
  }

  nn::Arrays arrays;
  std::list<std::vector<char>> bytes;
};

std::vector<std::int32_t> latents(std::size_t count) {
  std::vector<std::int32_t> values(count);
  for (std::int32_t& value : values) value = next() % 801 - 400;
  return values;
}

template <typename Sections>
bool equal(const Sections& a, const Sections& b) {
  return std::equal(a.z.begin(), a.z.end(), b.z.begin(), b.z.end()) &&
         std::equal(a.y.begin(), a.y.end(), b.y.begin(), b.y.end());
}

// encode(z, y, threads) and decode(sections, threads), which gives y, against one thread's results.
template <typename Encode, typename Decode>
void compare(const Encode& encode, const Decode& decode) {
  const auto alone = encode(1u);
  const auto latent = decode(alone, 1u);
  at_once([&] {
    for (const unsigned threads : {1u, 3u}) {
      require(equal(encode(threads), alone), "sections depend on threads");
      require(decode(alone, threads) == latent, "latents depend on threads");
    }
  });
}

void run_engine(const Arrays& from) {
  const engine::Engine engine(from.arrays, from.tables("z.tables"), from.tables("y.tables"));
  const engine::Size size{12, 20};
  const auto& model = engine.model();
  const std::size_t hyper = size.hyper_height() * size.hyper_width() * model.hyper_channels();
  const std::size_t latent = size.height * size.width * model.latent_channels();
  const auto z = latents(hyper), y = latents(latent);
  compare(
      [&](unsigned threads) {
        std::vector<std::int32_t> z_seen(hyper), y_seen(latent);
        return engine.encode({z.data(), y.data()}, size, z_seen.data(), y_seen.data(), threads);
      },
      [&](const engine::Engine::Encoded& sections, unsigned threads) {
        std::vector<std::int32_t> z_seen(hyper), y_seen(latent);
        engine.decode(sections.z, sections.y, size, z_seen.data(), y_seen.data(), threads);
        return y_seen;
      });
}

void run_slices(const Arrays& from) {
  const attention::Engine engine(from.arrays, from.tables("z.tables"), from.tables("y.tables"));
  const attention::Size size{8, 12};
  const auto& model = engine.model();
  const std::size_t hyper = size.hyper_height() * size.hyper_width() * model.hyper_channels();
  const std::size_t latent = size.height * size.width * model.latent_channels();
  const auto z = latents(hyper), y = latents(latent);
  compare(
      [&](unsigned threads) {
        std::vector<std::int32_t> z_seen(hyper), y_seen(latent), symbols(latent);
        return engine.encode({z.data(), y.data()}, size, {z_seen.data(), y_seen.data(), symbols.data()}, threads);
      },
      [&](const attention::Engine::Encoded& sections, unsigned threads) {
        std::vector<std::int32_t> z_seen(hyper), y_seen(latent), symbols(latent);
        engine.decode(sections.z, sections.y, size, model.slices.size(),
                      {z_seen.data(), y_seen.data(), symbols.data()}, threads);
        return y_seen;
      });
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
  std::vector<float> words(kGroups * kWords * kChannels), rows(kRows * kGroups * kChannels);
  for (auto* values : {&words, &rows}) {
    for (float& value : *values) value = static_cast<float>(next() % 2001 - 1000) / 500;
  }
  for (const Isa isa : supported_isas()) {
    const codebook::Codebooks books(words.data(), kGroups, kWords, kChannels, isa);
    const auto search = [&](unsigned threads) {
      std::vector<std::int64_t> found(kRows * kGroups);
      books.nearest(rows.data(), kRows, {kGroups * kChannels, kChannels, 1}, found.data(), threads);
      return found;
    };
    const auto alone = search(1);
    at_once([&] { require(search(3) == alone, "codes depend on threads"); });
  }

  const std::vector<float> beta(kChannels, 1.0f), gamma(kChannels * kChannels, 0.1f);
  const auto divided = [&](unsigned threads) {
    std::vector<float> out(rows.size());
    gdn(rows, out, beta, gamma, false, threads);
    return out;
  };
  const auto alone = divided(1);
  at_once([&] { require(divided(3) == alone, "GDN depends on threads"); });
}

}  // namespace

int main(int count, char** arguments) {
  const std::string what = count > 1 ? arguments[1] : "";
  if (what == "parts") {
    run_parts();
  } else if (what == "engine" && count == 3) {
    run_engine(Arrays(arguments[2]));
  } else if (what == "slices" && count == 3) {
    run_slices(Arrays(arguments[2]));
  } else {
    require(false, "usage: threads parts | engine MODEL | slices MODEL");
  }
  std::puts("no finding");
}

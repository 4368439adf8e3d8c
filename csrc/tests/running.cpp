// How work goes on: Progress is told as it is made, and each row of a network's output comes once from whatever
// threads.
//
//   running network MODEL | codec FILE
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "fastlic/codec/codec.hpp"
#include "fastlic/isa.hpp"
#include "fastlic/nn/network.hpp"
#include "fastlic/parallel.hpp"
#include "fastlic/progress.hpp"
#include "tests/model_file.hpp"

namespace {

using namespace fastlic;

void require(bool claim, const std::string& what) {
  if (!claim) {
    std::fprintf(stderr, "running: %s\n", what.c_str());
    std::exit(1);
  }
}

// All shares that this thread's work tells, however soon, from 0 on.
struct Shares {
  std::vector<double> told{0};
  Progress watched{[this](double share) { told.push_back(share); }, std::chrono::milliseconds(0)};

  double steepest() const {
    double most = 0;
    for (std::size_t i = 1; i < told.size(); ++i) most = std::max(most, told[i] - told[i - 1]);
    return most;
  }
};

void run_network(const char* path) {
  const tests::ModelFile from(path);
  const nn::ArrayReader reader(from.arrays);
  const std::size_t channels = reader.int32s("n.entry.multiplier").size();
  const nn::Network network = nn::read_network(reader, "n", {channels, 255});
  const auto feed = [&](std::size_t row, std::int16_t* to, std::size_t stride) {
    for (std::size_t c = 0; c < channels; ++c) to[row % 24 * stride + c] = static_cast<std::int16_t>(c);
  };
  nn::Network head = network;
  head.steps.pop_back();
  head.values.pop_back();
  for (const std::size_t height : {36, 44, 101, 200, 501}) {
    const nn::MapSize size{height, 24}, out = nn::output_size(network, size);
    const double before = nn::work_of(head, size) / nn::work_of(network, size);  // share of all steps but the last
    for (const unsigned threads : {1u, 2u, 3u, 5u}) {
      Shares shares;
      Team team(threads);
      Progress::expect(nn::work_of(network, size) / static_cast<double>(team.size()));
      std::vector<std::atomic<int>> taken(out.height);
      const auto take = [&](std::size_t row, const auto*, std::size_t) {
        ++taken[row];
        if (threads > 1) return;
        // All that the rows so far are made of has been told, and of the last step no more than them.
        const double height = static_cast<double>(out.height), made = static_cast<double>(row) / height;
        const double told = shares.told.back(), slack = 4 / height;
        require(
            told >= before * made - slack && told <= before + (1 - before) * made + slack,
            "at row " + std::to_string(row) + " of " + std::to_string(height) + " was told " + std::to_string(told));
      };
      nn::run(network, size, 0, {feed, take, take}, active_isa(), team);
      for (const auto& times : taken) require(times == 1, "a row came twice or never");
      require(threads > 1 || std::abs(shares.told.back() - 1) < 1e-9, "told another sum than was expected");
    }
  }
}

// Encoding and decoding by one thread, of a small image.
void run_codec(const char* path) {
  std::ifstream file(path, std::ios::binary);
  const Vector<std::uint8_t> data{std::istreambuf_iterator<char>(file), {}};
  const codec::Codec codec(data);
  constexpr std::size_t kHeight = 600, kWidth = 200;
  Vector<std::uint8_t> image(3 * kHeight * kWidth), out(image.size());
  for (std::size_t i = 0; i < image.size(); ++i) image[i] = static_cast<std::uint8_t>((i / 7 + i / 600 * 3) % 251);
  const unsigned quality = codec.coder().qualities() > 0 ? codec::kQualitySteps : 0;
  Vector<std::uint8_t> stream;
  const auto steady = [&](const char* what, const auto& call) {
    Shares shares;
    call();
    require(shares.steepest() < 0.1, std::string(what) + " is silent for " + std::to_string(shares.steepest()));
    require(shares.told.back() > 0.95, std::string(what) + " ends at " + std::to_string(shares.told.back()));
  };
  steady("encoding", [&] { stream = codec.encode({image.data(), kHeight, kWidth, 3 * kWidth}, quality, 1, {}); });
  steady("decoding", [&] { codec.decode(codec.check(stream, 0, 1, {}), 1, 3, out.data(), 3 * kWidth); });
}

}  // namespace

int main(int count, char** arguments) {
  const std::string what = count == 3 ? arguments[1] : "";
  if (what == "network") {
    run_network(arguments[2]);
  } else if (what == "codec") {
    run_codec(arguments[2]);
  } else {
    require(false, "usage: running network MODEL | codec FILE");
  }
  std::puts("no finding");
}

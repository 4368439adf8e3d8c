// A driver for compilers without libFuzzer: replays the files and folders named, then mutates them deterministically.
//
//     target [-runs=N] [-max_total_time=SECONDS] [-seed=N] FILE_OR_FOLDER ...
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Bytes = std::vector<std::uint8_t>;

struct Random {  // xorshift64*, so that a seed means the same everywhere
  std::uint64_t state;
  std::uint64_t operator()() {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 0x2545F4914F6CDD1Du;
  }
  std::size_t below(std::size_t n) { return n == 0 ? 0 : static_cast<std::size_t>((*this)() % n); }
};

Bytes mutate(Bytes bytes, const std::vector<Bytes>& corpus, Random& random) {
  for (std::size_t left = 1 + random.below(8); left > 0; --left) {
    const std::size_t at = random.below(bytes.size());
    switch (random.below(7)) {
      case 0:
        if (!bytes.empty()) bytes[at] ^= static_cast<std::uint8_t>(1u << random.below(8));
        break;
      case 1:
        if (!bytes.empty()) bytes[at] = static_cast<std::uint8_t>(random());
        break;
      case 2:
        bytes.resize(at);
        break;
      case 3:
        bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(at), static_cast<std::uint8_t>(random()));
        break;
      case 4: {
        const Bytes& other = corpus[random.below(corpus.size())];
        const std::size_t from = random.below(other.size());
        bytes.resize(at);
        bytes.insert(bytes.end(), other.begin() + static_cast<std::ptrdiff_t>(from), other.end());
        break;
      }
      case 5:
        for (std::size_t n = random.below(64); n > 0; --n) bytes.push_back(static_cast<std::uint8_t>(random()));
        break;
      default: {
        static const std::uint8_t kEdges[] = {0x00, 0x01, 0x7F, 0x80, 0xFF};
        if (!bytes.empty()) bytes[at] = kEdges[random.below(5)];
      }
    }
  }
  if (bytes.size() > 4096) bytes.resize(4096);
  return bytes;
}

}  // namespace

int main(int count, char** arguments) {
  std::uint64_t runs = 0, done = 0;
  std::chrono::seconds time = std::chrono::hours(24 * 365);
  Random random{1};
  std::vector<std::filesystem::path> files;
  for (int i = 1; i < count; ++i) {
    const std::string argument = arguments[i];
    if (argument.rfind("-runs=", 0) == 0) {
      runs = std::strtoull(argument.c_str() + 6, nullptr, 10);
    } else if (argument.rfind("-max_total_time=", 0) == 0) {
      time = std::chrono::seconds(std::strtoull(argument.c_str() + 16, nullptr, 10));
      runs = ~std::uint64_t{0};
    } else if (argument.rfind("-seed=", 0) == 0) {
      random.state = std::strtoull(argument.c_str() + 6, nullptr, 10) | 1u;
    } else if (std::filesystem::is_directory(argument)) {
      for (const auto& entry : std::filesystem::directory_iterator(argument)) files.push_back(entry.path());
    } else {
      files.emplace_back(argument);
    }
  }
  std::sort(files.begin(), files.end());
  std::vector<Bytes> corpus = {{}};
  for (const auto& file : files) {
    std::ifstream stream(file, std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
  }
  for (const Bytes& bytes : corpus) LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  const auto end = std::chrono::steady_clock::now() + time;
  for (; done < runs && std::chrono::steady_clock::now() < end; ++done) {
    // An exact-size copy, so that the address sanitizer sees a read past the end.
    const Bytes bytes = mutate(corpus[random.below(corpus.size())], corpus, random);
    const Bytes exact(bytes.begin(), bytes.end());
    LLVMFuzzerTestOneInput(exact.data(), exact.size());
  }
  std::printf("%zu files and %llu mutations, no finding\n", files.size(), static_cast<unsigned long long>(done));
  return 0;
}

// Codes under a small fixed context model: arbitrary bytes as a stream, which must encode back to the same bytes where
// they decode cleanly, and codes that are encoded, must come back, and are decoded once more damaged. The same on every
// instruction set.
#include <array>
#include <deque>
#include <string>

#include "fastlic/codes/context.hpp"
#include "fastlic/errors.hpp"
#include "harness.hpp"

namespace {

using namespace fastlic;
using codes::Context;
using codes::Size;
using engine::Type;

constexpr std::size_t kGroups = 3, kWords = 37, kDepth = 3, kWidth = 5;

// The arrays of a model with weights from a generator.
class Arrays {
 public:
  Arrays() {
    static constexpr std::array<std::int8_t, 10> kOffsets = {0, -1, -1, 0, -8, 8, -2, -3, 0, -8};
    numbers<std::int8_t>("offsets", Type::int8, {5, 2}, [](std::size_t i) { return kOffsets[i]; });
    numbers<std::int8_t>("words", Type::int8, {kGroups, kWords + 1, kDepth}, [this](std::size_t) { return byte(); });
    numbers<std::int32_t>("table", Type::int32, {256}, [](std::size_t i) { return (512 - static_cast<int>(i)) * 2048; });
    numbers<std::uint8_t>("precision", Type::uint8, {1}, [](std::size_t) { return 14; });
    for (std::size_t g = 0; g < kGroups; ++g) {
      const std::string number = std::to_string(g);
      layer("first." + number, kWidth, kDepth * (5 * kGroups + g), 12, 8);
      layer("second." + number, kWidth, kWidth, 12, 8);
      layer("last." + number, kWords, kWidth, 18, 7);
    }
  }
  const engine::Arrays& all() const { return arrays_; }

 private:
  std::int8_t byte() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<std::int8_t>(state_ >> 56);
  }

  template <typename T, typename Value>
  void numbers(const std::string& name, Type type, std::vector<std::size_t> shape, const Value& value) {
    engine::ArrayRef ref{type, std::move(shape), nullptr};
    auto& bytes = memory_.emplace_back(ref.size() * sizeof(T));
    for (std::size_t i = 0; i < ref.size(); ++i) {
      const auto number = static_cast<T>(value(i));
      std::memcpy(&bytes[i * sizeof(T)], &number, sizeof(T));
    }
    ref.data = bytes.data();
    arrays_[name] = std::move(ref);
  }

  void layer(const std::string& name, std::size_t outputs, std::size_t inputs, int bits, int shift) {
    const auto all = [](int value) { return [value](std::size_t) { return value; }; };
    numbers<std::int8_t>(name + ".weight", Type::int8, {outputs, inputs}, [this](std::size_t) { return byte(); });
    numbers<std::int32_t>(name + ".bias", Type::int32, {outputs}, [this](std::size_t) { return 50 * byte(); });
    numbers<std::int32_t>(name + ".requantise.multiplier", Type::int32, {outputs}, all(3));
    numbers<std::int32_t>(name + ".requantise.negative", Type::int32, {outputs}, all(bits > 12 ? 3 : 0));
    numbers<std::uint8_t>(name + ".requantise.shift", Type::uint8, {outputs}, all(shift));
    numbers<std::uint8_t>(name + ".requantise.bits", Type::uint8, {1}, all(bits));
  }

  std::uint64_t state_ = 1;
  std::deque<std::vector<std::uint8_t>> memory_;
  engine::Arrays arrays_;
};

// No codes where the stream is refused.
std::vector<std::int32_t> decoded(const Context& context, const std::vector<std::uint8_t>& stream, Size size) {
  std::vector<std::int32_t> out(kGroups * size.height * size.width);
  try {
    context.decode(stream.data(), stream.size(), size, out.data());
  } catch (const CorruptStream&) {
    return {};
  }
  for (const std::int32_t code : out) fuzz::require(code >= 0 && code < static_cast<std::int32_t>(kWords));
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
  static const Context context(Arrays().all());
  fuzz::Input input(data, bytes);
  const auto kind = input.take<std::uint8_t>();
  const Size size{1 + input.take<std::uint8_t>() % 4u, 1 + input.take<std::uint8_t>() % 18u};
  const auto damage = input.take<std::uint32_t>();
  std::vector<std::uint8_t> stream;
  if (kind % 2 == 0) {
    stream = input.rest();
    stream.resize(stream.size() / 4 * 4);
    if (stream.size() >= 8) stream[7] &= 0x7F;
    const auto codes = fuzz::on_every_isa([&] { return decoded(context, stream, size); });
    if (!codes.empty()) fuzz::require(context.encode(codes.data(), size) == stream);
    return 0;
  }
  std::vector<std::int32_t> codes(kGroups * size.height * size.width);
  for (std::int32_t& code : codes) code = input.take<std::uint8_t>() % kWords;
  stream = fuzz::on_every_isa([&] { return context.encode(codes.data(), size); });
  fuzz::on_every_isa([&] {
    fuzz::require(decoded(context, stream, size) == codes);
    return 0;
  });
  stream[(damage >> 8) % stream.size()] ^= static_cast<std::uint8_t>(damage);
  fuzz::on_every_isa([&] { return decoded(context, stream, size); });
  return 0;
}

// Codes under a small fixed context model: arbitrary bytes as a stream, which must encode back to the same bytes where
// they decode cleanly, and codes that are encoded, must come back, and are decoded once more damaged. The same on every
// instruction set.
#include <bit>

#include "codes_model.hpp"
#include "fastlic/errors.hpp"
#include "fastlic/memory.hpp"
#include "harness.hpp"

namespace {

using namespace fastlic;
using codes::Context;
using codes::Size;
using fuzz::kCodesGroups, fuzz::kCodesWords;

// No codes where the stream is refused.
Vector<std::int32_t> decoded(const Context& context, const Vector<std::uint8_t>& stream, Size size) {
  Vector<std::int32_t> out(kCodesGroups * size.height * size.width);
  try {
    context.decode(stream.data(), stream.size(), size, out.data());
  } catch (const CorruptStream&) {
    return {};
  }
  for (const std::int32_t code : out) fuzz::require(code >= 0 && code < static_cast<std::int32_t>(kCodesWords));
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
  static const Context context(fuzz::CodesArrays().all());
  fuzz::Input input(data, bytes);
  const auto kind = input.take<std::uint8_t>();
  const std::uint8_t choice = std::rotr(kind, 1);
  const Size size{1 + input.take<std::uint8_t>() % 4u, 1 + input.take<std::uint8_t>() % 18u};
  const auto damage = input.take<std::uint32_t>();
  Vector<std::uint8_t> stream;
  if (kind % 2 == 0) {
    stream = input.rest();
    stream.resize(stream.size() / 4 * 4);
    if (stream.size() >= 8) stream[7] &= 0x7F;
    const auto codes = fuzz::on_chosen_isa(choice, [&] { return decoded(context, stream, size); });
    if (!codes.empty()) fuzz::require(context.encode(codes.data(), size, 1) == stream);
    return 0;
  }
  Vector<std::int32_t> codes(kCodesGroups * size.height * size.width);
  for (std::int32_t& code : codes) code = input.take<std::uint8_t>() % kCodesWords;
  stream = fuzz::on_chosen_isa(fuzz::other(choice), [&] { return context.encode(codes.data(), size, 2); });
  fuzz::on_chosen_isa(choice, [&] {
    fuzz::require(decoded(context, stream, size) == codes);
    return 0;
  });
  stream[(damage >> 8) % stream.size()] ^= static_cast<std::uint8_t>(damage);
  fuzz::on_chosen_isa(choice, [&] { return decoded(context, stream, size); });
  return 0;
}

// CRC-32C of arbitrary bytes, whole and in two pieces at any alignment, against its definition bit by bit.
#include "fastlic/crc32c.hpp"
#include "fastlic/memory.hpp"
#include "harness.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace fastlic;
  fuzz::Input input(data, size);
  const std::size_t cut = input.take<std::uint8_t>();
  const fastlic::Vector<std::uint8_t> bytes = input.rest();
  const std::size_t first = cut < bytes.size() ? cut : bytes.size();
  std::uint32_t expected = 0xFFFFFFFFu;
  for (const std::uint8_t byte : bytes) {
    expected ^= byte;
    for (int bit = 0; bit < 8; ++bit) expected = (expected >> 1) ^ ((expected & 1u) != 0 ? 0x82F63B78u : 0u);
  }
  const std::uint32_t whole = crc32c(bytes.data(), bytes.size());
  fuzz::require(whole == ~expected);
  fuzz::require(crc32c(bytes.data() + first, bytes.size() - first, crc32c(bytes.data(), first)) == whole);
  return 0;
}

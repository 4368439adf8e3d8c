// The two digests of codec files: SHA-256 (FIPS 180-4) of the whole file, and BLAKE2b (RFC 7693) of 8 bytes, which
// fingerprints are.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "fastlic/memory.hpp"

namespace fastlic::codec {

using Input = std::span<const std::uint8_t>;
inline Input bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}
String hexadecimal(Input bytes);

class Sha256 {
 public:
  void update(Input data);
  std::array<std::uint8_t, 32> finish();

 private:
  void blocks(const std::uint8_t* data, std::size_t count);

  std::array<std::uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::uint8_t, 64> rest_{};
  std::uint64_t size_ = 0;
};

using Fingerprint = std::array<std::uint8_t, 8>;

class Blake2b {
 public:
  Blake2b();
  void update(Input data);
  Fingerprint finish();

 private:
  void block(bool last);

  std::array<std::uint64_t, 8> state_;
  std::array<std::uint8_t, 128> rest_{};
  std::size_t used_ = 0;    // of rest_
  std::uint64_t size_ = 0;  // of what blocks took
};

}  // namespace fastlic::codec

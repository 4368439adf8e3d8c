#include "fastlic/crc32c.hpp"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__) && !defined(__AARCH64EB__) && (defined(__linux__) || defined(__APPLE__))
#define FASTLIC_CRC32C_ARM
#if defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif
#endif

namespace fastlic {
namespace {

constexpr std::uint32_t kPolynomial = 0x82F63B78u;  // 0x1EDC6F41, bits reversed

constexpr std::array<std::uint32_t, 256> make_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1u) ? kPolynomial : 0u);
    table[byte] = crc;
  }
  return table;
}

constexpr auto kTable = make_table();
static_assert(kTable[128] == kPolynomial);

std::uint32_t update_table(const std::uint8_t* data, std::size_t size, std::uint32_t crc) noexcept {
  for (std::size_t i = 0; i < size; ++i) crc = (crc >> 8) ^ kTable[(crc ^ data[i]) & 0xFFu];
  return crc;
}

#if defined(__x86_64__) || defined(FASTLIC_CRC32C_ARM)
// What 2^`doublings` zero bytes make of a register. They are linear in it, so of its 32 bits each has its own image.
class Zeros {
 public:
  constexpr explicit Zeros(int doublings) noexcept {
    std::array<std::uint32_t, 32> images{};
    for (std::uint32_t bit = 0; bit < 32; ++bit) images[bit] = kTable[(1u << bit) & 0xFFu] ^ ((1u << bit) >> 8);
    for (; doublings > 0; --doublings) {
      auto twice = images;
      for (auto& image : twice) image = sum(images, image);
      images = twice;
    }
    for (std::uint32_t place = 0; place < 4; ++place) {
      for (std::uint32_t byte = 0; byte < 256; ++byte) of_byte_[place][byte] = sum(images, byte << (8 * place));
    }
  }

  std::uint32_t operator()(std::uint32_t crc) const noexcept {
    return of_byte_[0][crc & 0xFFu] ^ of_byte_[1][crc >> 8 & 0xFFu] ^ of_byte_[2][crc >> 16 & 0xFFu] ^
           of_byte_[3][crc >> 24];
  }

 private:
  static constexpr std::uint32_t sum(const std::array<std::uint32_t, 32>& images, std::uint32_t bits) noexcept {
    std::uint32_t out = 0;
    for (std::uint32_t bit = 0; bit < 32; ++bit) out ^= bits >> bit & 1u ? images[bit] : 0u;
    return out;
  }

  std::array<std::array<std::uint32_t, 256>, 4> of_byte_{};
};

#if defined(__x86_64__)
#define FASTLIC_CRC32C_TARGET [[gnu::target("sse4.2,crc32")]]
FASTLIC_CRC32C_TARGET inline std::uint32_t add_word(std::uint32_t crc, std::uint64_t word) noexcept {
  return static_cast<std::uint32_t>(_mm_crc32_u64(crc, word));
}
#else
#define FASTLIC_CRC32C_TARGET
inline std::uint32_t add_word(std::uint32_t crc, std::uint64_t word) noexcept {
  asm(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1" : "+r"(crc) : "r"(word));
  return crc;
}
#endif

inline std::uint64_t word_at(const std::uint8_t* data) noexcept {
  std::uint64_t word;
  std::memcpy(&word, data, sizeof word);
  return word;
}

// Three blocks of 2^kLog bytes at a time: the instruction takes three cycles, but one may start in each of them. Long
// blocks and what is fetched ahead keep memory busy, which the processor does not do alone across three places.
template <int kLog>
FASTLIC_CRC32C_TARGET std::uint32_t update_blocks(const std::uint8_t*& data, std::size_t& size,
                                                  std::uint32_t crc) noexcept {
  constexpr std::size_t kBlock = std::size_t{1} << kLog;
  static constexpr Zeros kZeros(kLog);
  for (; size >= 3 * kBlock; data += 3 * kBlock, size -= 3 * kBlock) {
    std::uint32_t second = 0, third = 0;
    for (std::size_t i = 0; i < kBlock; i += 8) {
      if (kLog == 16 && i % 64 == 0) {
        for (std::size_t block = 0; block < 3; ++block) __builtin_prefetch(data + block * kBlock + i + 512);
      }
      crc = add_word(crc, word_at(data + i));
      second = add_word(second, word_at(data + kBlock + i));
      third = add_word(third, word_at(data + 2 * kBlock + i));
    }
    crc = kZeros(kZeros(crc) ^ second) ^ third;
  }
  return crc;
}

FASTLIC_CRC32C_TARGET std::uint32_t update_instruction(const std::uint8_t* data, std::size_t size,
                                                       std::uint32_t crc) noexcept {
  crc = update_blocks<16>(data, size, crc);
  crc = update_blocks<12>(data, size, crc);
  crc = update_blocks<8>(data, size, crc);
  for (; size >= 8; data += 8, size -= 8) crc = add_word(crc, word_at(data));
  return update_table(data, size, crc);
}

bool has_instruction() noexcept {
#if defined(__x86_64__)
  return __builtin_cpu_supports("sse4.2");
#elif defined(__APPLE__)
  return true;
#else
  return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
#endif
}
#endif

}  // namespace

std::uint32_t crc32c(const std::uint8_t* data, std::size_t size, std::uint32_t crc) noexcept {
  crc = ~crc;
#if defined(__x86_64__) || defined(FASTLIC_CRC32C_ARM)
  static const bool instruction = has_instruction();
  if (instruction) return ~update_instruction(data, size, crc);
#endif
  return ~update_table(data, size, crc);
}

}  // namespace fastlic

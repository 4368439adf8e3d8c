// One bit per symbol of a block: which symbols need a second look.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace fastlic {

template <std::size_t Block>
struct BitMarks {
  static_assert(Block % 64 == 0);
  // SIMD loops write whole bytes through bytes(): the same bits as the words' on the little-endian machines we build
  // for.
  static_assert(std::endian::native == std::endian::little);

  std::array<std::uint64_t, Block / 64> words{};

  std::uint8_t* bytes() noexcept { return reinterpret_cast<std::uint8_t*>(words.data()); }
  bool operator[](std::size_t i) const noexcept { return (words[i / 64] >> i % 64 & 1u) != 0; }
  void set(std::size_t i) noexcept { words[i / 64] |= std::uint64_t{1} << i % 64; }
  void operator|=(const BitMarks& other) noexcept {
    for (std::size_t w = 0; w < words.size(); ++w) words[w] |= other.words[w];
  }

  // Calls visit(i) for every set bit below `size`, first to last.
  template <typename Visit>
  void for_each(std::size_t size, Visit visit) const {
    for (std::size_t word = 0; 64 * word < size; ++word) {
      for (std::uint64_t left = words[word]; left != 0; left &= left - 1) {
        visit(64 * word + static_cast<unsigned>(std::countr_zero(left)));
      }
    }
  }

  // The same, last to first.
  template <typename Visit>
  void for_each_reversed(std::size_t size, Visit visit) const {
    for (std::size_t word = (size + 63) / 64; word-- > 0;) {
      for (std::uint64_t left = words[word]; left != 0;) {
        const auto bit = static_cast<unsigned>(std::bit_width(left)) - 1;
        left ^= std::uint64_t{1} << bit;
        visit(64 * word + bit);
      }
    }
  }
};

}  // namespace fastlic

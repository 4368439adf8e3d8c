#include "fastlic/nn/tiles.hpp"

#include <algorithm>
#include <chrono>

#include "fastlic/isa.hpp"
#include "fastlic/nn/memory.hpp"

#ifdef FASTLIC_TILES

#include <immintrin.h>

#define FASTLIC_TILE_TARGET gnu::target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,amx-tile,amx-int8")

namespace fastlic::nn {
namespace {

constexpr std::size_t kRows = 16, kColumns = 16, kDepth = 64;  // of a tile's bytes: [kRows][kDepth]
// Rows times depth, below which configuring tiles and splitting weights costs more than products on vectors.
constexpr std::size_t kLeastWork = 2048;

const Kernels& vectors() noexcept { return kernels(Isa::avx512vnni); }

struct alignas(kLine) Line {
  std::uint8_t bytes[kLine];
};

struct alignas(kLine) Configuration {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
constexpr Configuration kWhole;

// Whether this thread's tiles are configured as kWhole, and what they were before: others in the process, such as
// torch, have shapes of their own, and may count on them.
thread_local bool ready = false;
thread_local Configuration before;

[[FASTLIC_TILE_TARGET]] void configure() {
  _tile_storeconfig(&before);
  _tile_loadconfig(&kWhole);
  ready = true;
}
[[FASTLIC_TILE_TARGET]] void give_back() {
  ready = false;
  if (before.palette == 0) return _tile_release();
  _tile_loadconfig(&before);
}

// Rows of two planes of bytes, `stride` apart; high ones lie `high` behind low ones.
struct Planes {
  const std::uint8_t* low;
  std::size_t stride, high;
};

[[FASTLIC_TILE_TARGET]] inline void store_planes(__m512i words, std::uint8_t* low, std::uint8_t* high, __mmask32 some) {
  _mm256_mask_storeu_epi8(low, some, _mm512_cvtepi16_epi8(words));
  _mm256_mask_storeu_epi8(high, some, _mm512_cvtepi16_epi8(_mm512_srli_epi16(words, 8)));
}

constexpr __mmask32 first_ones(std::size_t count) { return count >= 32 ? ~__mmask32{0} : (__mmask32{1} << count) - 1; }

// Rows of int16 -> planes. Tiles read whole steps of depth; what is behind a row's end meets weights of zero.
[[FASTLIC_TILE_TARGET]] Planes split_rows(const std::int16_t* a, std::size_t a_stride, std::size_t rows,
                                          std::size_t depth, std::size_t steps, Line* to) {
  const std::size_t stride = 2 * steps * kDepth, high = steps * kDepth;
  auto* out = reinterpret_cast<std::uint8_t*>(to);
  for (std::size_t r = 0; r < rows; ++r) {
    std::uint8_t* row = out + r * stride;
    for (std::size_t k = 0; k < depth; k += 32) {
      const __mmask32 some = first_ones(depth - k);
      store_planes(_mm512_maskz_loadu_epi16(some, a + r * a_stride + k), row + k, row + high + k, some);
    }
  }
  return {out, stride, high};
}

// A panel of weights -> tiles, half a panel after the other: [half][plane][step][16 quadruples of depth][16 columns].
// A quadruple's bytes are the low, or the high, ones of two pairs of a packed matrix.
[[FASTLIC_TILE_TARGET]] void split_weights(const std::int16_t* b, std::size_t depth, std::size_t steps, Line* to) {
  const std::size_t lines = steps * kRows, quadruples = (depth + 3) / 4;
  const __m512i ahead = _mm512_set1_epi32(0x03010200), behind = _mm512_set1_epi32(0x02000301);
  const __m512i lanes = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0C0C0C0C));
  const __m512i low_first = _mm512_add_epi8(ahead, lanes), high_first = _mm512_add_epi8(behind, lanes);
  constexpr __mmask32 kOdd = 0xAAAAAAAA;
  for (std::size_t half = 0; half < 2; ++half) {
    Line *low = to + 2 * half * lines, *high = low + lines;
    for (std::size_t q = 0; q < quadruples; ++q) {
      const std::int16_t* pair = b + 2 * q * 2 * kPanel + half * 2 * kColumns;
      const bool both = 4 * q + 2 < depth;
      const __m512i first = _mm512_shuffle_epi8(_mm512_loadu_si512(pair), low_first);
      const __m512i second =
          both ? _mm512_shuffle_epi8(_mm512_loadu_si512(pair + 2 * kPanel), high_first) : _mm512_setzero_si512();
      _mm512_store_si512(low + q, _mm512_mask_blend_epi16(kOdd, first, second));
      _mm512_store_si512(high + q, _mm512_rol_epi32(_mm512_mask_blend_epi16(kOdd, second, first), 16));
    }
    std::fill(low + quadruples, low + lines, Line{});
    std::fill(high + quadruples, high + lines, Line{});
  }
}

// Pairs of bytes as the low halves of 32 bits.
[[FASTLIC_TILE_TARGET]] inline __m512i load_pairs(const std::int8_t* from) {
  return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}

// The same of int8, which is one plane.
[[FASTLIC_TILE_TARGET]] void split_weights(const std::int8_t* b, std::size_t depth, std::size_t steps, Line* to) {
  const std::size_t lines = steps * kRows, quadruples = (depth + 3) / 4;
  for (std::size_t half = 0; half < 2; ++half) {
    Line* own = to + half * lines;
    for (std::size_t q = 0; q < quadruples; ++q) {
      const std::int8_t* pair = b + 2 * q * 2 * kPanel + half * 2 * kColumns;
      __m512i four = load_pairs(pair);
      if (4 * q + 2 < depth) four = _mm512_or_si512(four, _mm512_slli_epi32(load_pairs(pair + 2 * kPanel), 16));
      _mm512_store_si512(own + q, four);
    }
    std::fill(own + quadruples, own + lines, Line{});
  }
}

[[FASTLIC_TILE_TARGET]] inline __m512i load(const std::int32_t* from) { return _mm512_loadu_si512(from); }
// low + 256 middle + 65536 high.
[[FASTLIC_TILE_TARGET]] inline __m512i weighted(__m512i low, __m512i middle, __m512i high) {
  return _mm512_add_epi32(_mm512_add_epi32(low, _mm512_slli_epi32(middle, 8)), _mm512_slli_epi32(high, 16));
}

using Sums = std::int32_t[kRows][kColumns];

// Sums of 16 rows and half a panel of int16, or a whole panel of int8. A product starts every 16 cycles and takes 52:
// four tiles of sums in turns hide that.
[[FASTLIC_TILE_TARGET]] void multiply_tiles(const Planes& a, const Line* b, std::size_t steps, bool wide, Sums* sums) {
  const std::size_t lines = steps * kRows;
  asm volatile("" ::: "memory");  // GCC's tile loads do not say that they read what was written before
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (std::size_t s = 0; s < steps; ++s) {
    const std::uint8_t* low = a.low + s * kDepth;
    _tile_loadd(4, low, a.stride);
    _tile_loadd(5, low + a.high, a.stride);
    _tile_loadd(6, b + s * kRows, kLine);
    _tile_loadd(7, b + lines + s * kRows, kLine);
    if (wide) {
      _tile_dpbuud(0, 4, 6);
      _tile_dpbusd(1, 4, 7);
      _tile_dpbsud(2, 5, 6);
      _tile_dpbssd(3, 5, 7);
    } else {
      _tile_dpbusd(0, 4, 6);
      _tile_dpbssd(1, 5, 6);
      _tile_dpbusd(2, 4, 7);
      _tile_dpbssd(3, 5, 7);
    }
  }
  _tile_stored(0, sums[0], kLine);
  _tile_stored(1, sums[1], kLine);
  _tile_stored(2, sums[2], kLine);
  _tile_stored(3, sums[3], kLine);
}

template <typename Weight>
[[FASTLIC_TILE_TARGET]] void multiply(const GemmJob<Weight>& job) {
  constexpr bool kWide = sizeof(Weight) == 2;
  if (job.plane_bytes == 0 && job.rows * job.depth < kLeastWork) {
    if constexpr (kWide) return vectors().multiply_wide(job);
    if constexpr (!kWide) return vectors().multiply(job);
  }
  const ReadyTiles tiles(tile_kernels());
  const std::size_t steps = (job.depth + kDepth - 1) / kDepth, lines = steps * kRows;
  const std::size_t rows = (job.rows + kRows - 1) / kRows * kRows, weights = (kWide ? 4 : 2) * lines;
  Line* b = scratch<Line>(weights + (job.plane_bytes == 0 ? 2 * steps * rows : 0));
  const Planes a = job.plane_bytes == 0
                       ? split_rows(job.a, job.a_stride, job.rows, job.depth, steps, b + weights)
                       : Planes{reinterpret_cast<const std::uint8_t*>(job.a), job.a_stride, job.plane_bytes};
  alignas(kLine) Sums sums[4];
  const std::int32_t* const* starts = job.start;  // read once: stores of sums might change them, for all that is known
  std::int32_t* const to = job.out;
  const std::size_t out_stride = job.out_stride, all_rows = job.rows;
  for (std::size_t panel = 0; panel < job.columns; panel += kPanel) {
    split_weights(job.b + panel * job.depth, job.depth, steps, b);
    const std::size_t end = std::min(panel + kPanel, job.columns);
    for (std::size_t column = panel; column < end; column += kWide ? kColumns : kPanel) {
      const Line* own = b + (column - panel) / kColumns * 2 * lines;
      for (std::size_t first = 0; first < all_rows; first += kRows) {
        multiply_tiles({a.low + first * a.stride, a.stride, a.high}, own, steps, kWide, sums);
        const std::size_t count = std::min(kRows, all_rows - first);
        for (std::size_t r = 0; r < count; ++r) {
          const std::int32_t* start = starts[first + r] + column;
          std::int32_t* out = to + (first + r) * out_stride + column;
          const __m512i at0 = load(sums[0][r]), at1 = load(sums[1][r]), at2 = load(sums[2][r]), at3 = load(sums[3][r]);
          if constexpr (kWide) {
            const __m512i outer = _mm512_add_epi32(load(start), at0), middle = _mm512_add_epi32(at1, at2);
            _mm512_storeu_si512(out, weighted(outer, middle, at3));
          } else {
            const __m512i none = _mm512_setzero_si512();
            _mm512_storeu_si512(out, weighted(_mm512_add_epi32(load(start), at0), at1, none));
            if (column + kColumns >= end) continue;
            _mm512_storeu_si512(out + kColumns, weighted(_mm512_add_epi32(load(start + kColumns), at2), at3, none));
          }
        }
      }
    }
  }
}

[[FASTLIC_TILE_TARGET]] void winograd_input(const std::int16_t* const* tile, std::size_t channels,
                                            const TransformedTile& to) {
  alignas(kLine) std::int16_t own[kComponents * kPanel];
  for (std::size_t c = 0; c < channels; c += kPanel) {
    const std::int16_t* at[kComponents];
    for (std::size_t k = 0; k < kComponents; ++k) at[k] = tile[k] + c;
    vectors().winograd_input(at, kPanel, {own, 0, kPanel});
    const __mmask32 some = first_ones(channels - c);
    for (std::size_t k = 0; k < kComponents; ++k) {
      auto* low = reinterpret_cast<std::uint8_t*>(to.data + k * to.component) + to.at + c;
      store_planes(_mm512_load_si512(own + k * kPanel), low, low + to.component, some);
    }
  }
}

}  // namespace

const Kernels& tile_kernels() noexcept {
  static const Kernels own = [] {
    Kernels out = vectors();
    if (!tiles_allowed()) return out;
    out.multiply = multiply<std::int8_t>;
    out.multiply_wide = multiply<std::int16_t>;
    out.winograd_input = winograd_input;
    out.planes = true;
    return out;
  }();
  return own;
}

ReadyTiles::ReadyTiles(const Kernels& kernels) noexcept : own_(kernels.planes && !ready) {
  if (own_) configure();
}
ReadyTiles::~ReadyTiles() {
  if (own_) give_back();
}

bool tiles_pay() {
  // Numbers of 16 bits, split here: Winograd's transform gives planes, which saves that.
  constexpr std::size_t rows = 48, depth = 192, columns = 96;
  alignas(kLine) static std::int16_t a[rows * depth], b[depth * columns];
  alignas(kLine) static std::int32_t start[columns], out[rows * columns];
  const std::int32_t* starts[rows];
  std::fill_n(starts, rows, start);
  using Duration = std::chrono::steady_clock::duration;
  Duration least[2] = {Duration::max(), Duration::max()};
  const Kernels* const ways[] = {&tile_kernels(), &vectors()};
  for (int round = 0; round < 16; ++round) {  // in turns, as clocks change
    const auto begin = std::chrono::steady_clock::now();
    ways[round % 2]->multiply_wide({a, depth, rows, b, depth, columns, starts, out, columns});
    least[round % 2] = std::min(least[round % 2], std::chrono::steady_clock::now() - begin);
  }
  return least[0] < least[1];
}

std::uint64_t tile_scratch(std::size_t rows, std::size_t depth) noexcept {
  if (supported_isas().back() != Isa::amx) return 0;
  const std::uint64_t steps = (depth + kDepth - 1) / kDepth;
  return (4 * steps * kRows + 2 * steps * ((rows + kRows - 1) / kRows * kRows)) * sizeof(Line);
}

[[FASTLIC_TILE_TARGET]] void tile_products(int steps) {
  const ReadyTiles tiles(tile_kernels());
  Line* lines = scratch<Line>(2 * kRows);
  _tile_loadd(4, lines, kLine);
  _tile_loadd(5, lines + kRows, kLine);
  for (int i = 0; i < steps; ++i) {
    _tile_dpbuud(0, 4, 5);
    _tile_dpbusd(1, 4, 5);
    _tile_dpbsud(2, 4, 5);
    _tile_dpbssd(3, 4, 5);
  }
}

}  // namespace fastlic::nn

#else

namespace fastlic::nn {

ReadyTiles::ReadyTiles(const Kernels&) noexcept {}
ReadyTiles::~ReadyTiles() { static_cast<void>(own_); }
std::uint64_t tile_scratch(std::size_t, std::size_t) noexcept { return 0; }

}  // namespace fastlic::nn

#endif

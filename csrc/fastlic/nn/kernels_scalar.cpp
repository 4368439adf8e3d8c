// Portable loops, and the dispatch.
#include <cstring>

#include "fastlic/nn/kernel_bodies.hpp"
#include "fastlic/nn/kernels.hpp"

namespace fastlic::nn {
namespace {

template <typename Weight>
void multiply(const GemmJob<Weight>& job) {
  for (std::size_t first = 0; first < job.columns; first += kPanel) {
    for (std::size_t r = 0; r < job.rows; ++r) {
      const std::int16_t* a = job.a + r * job.a_stride;
      std::uint32_t sums[kPanel];  // unsigned, since transformed layers wrap
      std::memcpy(sums, job.start[r] + first, sizeof sums);
      const Weight* b = job.b + first * job.depth;
      for (std::size_t k = 0; k < job.depth; k += 2, b += 2 * kPanel) {
        const std::int32_t x0 = a[k], x1 = a[k + 1];
        for (std::size_t c = 0; c < kPanel; ++c)
          sums[c] += static_cast<std::uint32_t>(x0 * b[2 * c] + x1 * b[2 * c + 1]);
      }
      std::memcpy(job.out + r * job.columns + first, sums, sizeof sums);
    }
  }
}

template <typename Out>
void requantise(const std::int32_t* acc, const Requantiser& requantiser, Channels channels, Out* out) {
  for (std::size_t c = channels.first; c < channels.last; ++c) {
    *out++ = static_cast<Out>(bodies::requantise_one(*acc++, requantiser, c));
  }
}

}  // namespace

namespace plain {

void choose(const std::int32_t* scales, std::size_t count, const Thresholds& thresholds, std::uint8_t* indexes) {
  const std::size_t size = thresholds.values.size();
  for (std::size_t i = 0; i < count; ++i) indexes[i] = bodies::choose_one(scales[i], thresholds.values.data(), size);
}

void quantise(const std::int32_t* latents, const std::int32_t* means, std::size_t count, std::int32_t* symbols) {
  bodies::quantise(latents, means, count, symbols);
}

void quantise_down(const std::int32_t* latents, const std::int32_t* means, const std::uint8_t* indexes,
                   const std::int32_t* zones, std::size_t count, std::int32_t* symbols) {
  bodies::quantise_down(latents, means, indexes, zones, count, symbols);
}

void reconstruct(const std::int32_t* symbols, const std::int32_t* means, std::size_t count, std::int32_t* latents) {
  bodies::reconstruct(symbols, means, count, latents);
}

void reconstruct_offset(const std::int32_t* symbols, const std::int32_t* means, const std::uint8_t* indexes,
                        const std::int32_t* offsets, std::size_t count, std::int32_t* latents) {
  bodies::reconstruct_offset(symbols, means, indexes, offsets, count, latents);
}

void winograd_input(const std::int16_t* const* tile, std::size_t channels, std::int16_t* out, std::size_t stride) {
  bodies::winograd_input(tile, channels, out, stride);
}

void winograd_output(const std::int32_t* products, std::size_t stride, const std::int32_t* bias, std::int32_t* out) {
  bodies::winograd_output(products, stride, bias, out);
}

}  // namespace plain

const Kernels kScalar = {multiply<std::int8_t>,
                         multiply<std::int16_t>,
                         requantise<std::int16_t>,
                         requantise<std::int32_t>,
                         plain::winograd_input,
                         plain::winograd_output,
                         plain::choose,
                         plain::quantise,
                         plain::quantise_down,
                         plain::reconstruct,
                         plain::reconstruct_offset};

const Kernels& kernels(Isa isa) noexcept {
#if defined(__x86_64__)
  switch (isa) {
    case Isa::avx512vnni: return kAvx512Vnni;
    case Isa::avx512: return kAvx512;
    case Isa::avx2: return kAvx2;
    case Isa::scalar:
    case Isa::neon: break;
  }
#elif defined(__aarch64__)
  if (isa == Isa::neon) return kNeon;
#else
  static_cast<void>(isa);
#endif
  return kScalar;
}

}  // namespace fastlic::nn

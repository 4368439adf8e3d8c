#include "fastlic/gaussian_rans.hpp"

#include <algorithm>
#include <limits>

#include "fastlic/bit_cast.hpp"
#include "fastlic/bit_marks.hpp"
#include "fastlic/cdf_tables.hpp"
#include "fastlic/errors.hpp"
#include "fastlic/gaussian_kernels.hpp"
#include "fastlic/isa.hpp"
#include "fastlic/memory.hpp"

namespace fastlic {
namespace {

constexpr std::size_t kBlock = 2048;
static_assert(kBlock % kMaxLanes == 0);  // blocks start at lane 0

// Which part of a symbol the frequencies cover; the same integers as in gaussian_kernels_body.hpp.
struct Window {
  unsigned shift;
  std::int64_t first;  // lowest t inside
  std::int64_t size;

  Window(float mean, float scale) {
    // The comparisons send NaN to the lower limit.
    scale = scale > kMinScale ? std::min(scale, kMaxScale) : kMinScale;
    mean = mean > -kMaxMean ? std::min(mean, kMaxMean) : -kMaxMean;
    constexpr int kDropped = 23 - kScaleMantissaBits;
    const std::uint32_t level = (bit_cast<std::uint32_t>(scale) + (1u << (kDropped - 1))) >> kDropped << kDropped;
    const int octave = static_cast<int>(level >> 23) - 127;
    shift = static_cast<unsigned>(std::max(0, octave - (kFirstShiftedOctave - 1)));
    const float narrowed = bit_cast<float>(level) * bit_cast<float>((127u - shift) << 23);
    const auto half = static_cast<std::int32_t>(narrowed * 4.5f + 1.0f);
    first = (static_cast<std::int32_t>(std::lrintf(mean)) >> shift) - std::int64_t{half};
    size = 2 * half + 1;
  }

  std::uint64_t escape_code(std::int32_t symbol) const {
    const std::int64_t t = symbol >> shift;
    return t < first ? 2 * static_cast<std::uint64_t>(first - 1 - t) + 1
                     : 2 * static_cast<std::uint64_t>(t - first - size);
  }

  std::int64_t escaped_t(std::uint64_t code) const {
    const auto distance = static_cast<std::int64_t>(code >> 1);
    return (code & 1u) != 0 ? first - 1 - distance : first + size + distance;
  }
};

// Coarse: bits of a Gaussian of that scale, 2.05 + log2(sigma) where that is above 1/8.
std::uint64_t estimate_bytes(const float* scales, std::size_t count) {
  const Samples samples(count);
  std::uint64_t eighths = 0;
  for (std::size_t sample = 0; sample < samples.size(); ++sample) {
    const std::size_t i = samples[sample];
    const float scale = scales[i] > kMinScale ? std::min(scales[i], kMaxScale) : kMinScale;
    // Exponent and three mantissa bits are log2(scale) in eighths, plus 127 * 8.
    const int log_scale = static_cast<int>(bit_cast<std::uint32_t>(scale) >> 20) - 127 * 8;
    eighths += static_cast<std::uint64_t>(std::max(1, log_scale + 16));
  }
  return samples.scale_up(eighths) / (8 * 8);
}

using Marks = BitMarks<kBlock>;

}  // namespace

Vector<std::uint8_t> gaussian_encode(const std::int32_t* symbols, const float* means, const float* scales,
                                     std::size_t count, unsigned lanes) {
  const std::uint64_t expected = estimate_bytes(scales, count);
  lanes = resolve_lanes(lanes, expected);
  if (count == 0) return {};
  const Isa isa = active_isa();
  LaneWriter out(StreamKind::gaussian, lanes, expected);
  for (std::size_t end = count; end > 0;) {
    const std::size_t begin = (end - 1) / kBlock * kBlock;
    const std::size_t size = end - begin;
    out.words.reserve(2 * size + LaneWriter::kSlack);
    Marks escapes;
    Marks shifted;
    GaussianEncodeJob job{out.states.data(), lanes, out.words.next(), escapes.bytes(), shifted.bytes()};
    const std::size_t whole = size / lanes * lanes;
    for (std::size_t i = size; i-- > whole;) {
      encode_one_gaussian(job, i % lanes, symbols + begin, means + begin, scales + begin, i);
    }
    gaussian_kernels(isa, lanes).encode(job, symbols + begin, means + begin, scales + begin, whole / lanes);
    out.words.written_down_to(job.next);
    shifted |= escapes;
    shifted.for_each_reversed(size, [&](std::size_t i) {
      const Window window(means[begin + i], scales[begin + i]);
      const std::int32_t symbol = symbols[begin + i];
      if (escapes[i]) out.side.push_gamma(window.escape_code(symbol));
      out.side.push(static_cast<std::uint32_t>(symbol), window.shift);
    });
    end = begin;
  }
  return out.finish();
}

void gaussian_decode(const std::uint8_t* data, std::size_t size, const float* means, const float* scales,
                     std::int32_t* out, std::size_t count) {
  LaneReader reader(data, size, StreamKind::gaussian);
  const GaussianKernels& kernels = gaussian_kernels(active_isa(), reader.lanes);
  for (std::size_t begin = 0; begin < count; begin += kBlock) {
    const std::size_t block = std::min(kBlock, count - begin);
    Marks escapes;
    Marks shifted;
    const auto job_at = [&](std::size_t at) {
      // A run may start in mid-block, but always at lane 0; with fewer than 8 lanes, the scalar loop takes the bit
      // offset.
      return GaussianDecodeJob{reader.states.data(), reader.lanes,    reader.next, reader.limit,
                               escapes.bytes(),      shifted.bytes(), at};
    };
    reader.run(
        begin, block,
        [&](LaneReader& r, std::size_t at, std::size_t groups) {
          GaussianDecodeJob job = job_at(at);
          const std::size_t done = kernels.decode(job, means + begin, scales + begin, out + begin, groups);
          r.next = job.next;
          return done;
        },
        [&](LaneReader& r, std::size_t at, std::size_t lane) {
          GaussianDecodeJob job = job_at(at);
          decode_one_gaussian(job, lane, means + begin, scales + begin, out + begin);
          r.next = job.next;
        });
    shifted |= escapes;
    shifted.for_each(block, [&](std::size_t i) {
      const Window window(means[begin + i], scales[begin + i]);
      const std::uint32_t raw = reader.side.pop(window.shift);
      std::int64_t symbol = std::int64_t{out[begin + i]} + raw;
      if (escapes[i]) {
        symbol = window.escaped_t(reader.side.pop_gamma()) * (std::int64_t{1} << window.shift) + raw;
      }
      if (symbol < std::numeric_limits<std::int32_t>::min() || symbol > std::numeric_limits<std::int32_t>::max()) {
        throw CorruptStream("rANS stream: symbol " + to_string(begin + i) + " does not fit int32");
      }
      out[begin + i] = static_cast<std::int32_t>(symbol);
    });
  }
  reader.finish();
}

}  // namespace fastlic

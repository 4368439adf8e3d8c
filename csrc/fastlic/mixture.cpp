#include "fastlic/mixture.hpp"

#include <algorithm>
#include <cmath>

#include "fastlic/errors.hpp"
#include "fastlic/load_once.hpp"
#include "fastlic/memory.hpp"

namespace fastlic {
namespace {

constexpr unsigned kMixturePrecision = 16;
constexpr std::int32_t kTotal = 1 << kMixturePrecision;
constexpr float kLimit = kTotal - 1;

// Frequencies of one row from probabilities, in the very floats of CompressAI.
void row_frequencies(const float* probabilities, std::size_t slots, Vector<float>& scaled,
                     Vector<std::int32_t>& frequencies) {
  const auto least = static_cast<float>(1.0 / (kTotal - 1));
  double sum = 0;  // of integers, exact
  for (std::size_t i = 0; i < slots; ++i) {
    const float p = probabilities[i];
    if (std::isnan(p)) throw InvalidArgument("a probability of a mixture is not a number");
    scaled[i] = std::nearbyint(std::min(std::max(p, least), 1.0f) * kLimit);
    sum += scaled[i];
  }
  const auto divisor = static_cast<float>(sum);
  double running = 0;
  std::int32_t before = 0;
  for (std::size_t i = 0; i < slots; ++i) {
    running += scaled[i] * kLimit / divisor;
    const auto end = static_cast<std::int32_t>(static_cast<float>(running));
    frequencies[i] = end - before;
    before = end;
  }
}

}  // namespace

void mixture_rows(const float* probabilities, std::size_t rows, std::size_t slots, std::int32_t* cdf) {
  if (slots < 1) throw InvalidArgument("rows of a mixture have at least one slot");
  if (rows == 0) return;  // nothing says how many slots there could be
  Vector<float> scaled(slots);
  Vector<std::int32_t> frequencies(slots);
  for (std::size_t r = 0; r < rows; ++r, probabilities += slots, cdf += slots + 2) {
    row_frequencies(probabilities, slots, scaled, frequencies);
    // Slots without a point get one each, all taken from the rarest slot that can spare them.
    const auto zeros = static_cast<std::int32_t>(std::count(frequencies.begin(), frequencies.end(), 0));
    std::size_t donor = 0;
    std::int32_t rarest = kTotal;
    for (std::size_t i = 0; i < slots; ++i) {
      if (frequencies[i] > zeros && frequencies[i] < rarest) {
        rarest = frequencies[i];
        donor = i;
      }
    }
    for (std::int32_t& f : frequencies) f += f == 0 ? 1 : 0;
    frequencies[donor] -= zeros;
    std::int32_t end = 0;
    cdf[0] = 0;
    for (std::size_t i = 0; i < slots; ++i) {
      if (frequencies[i] < 1) {
        throw InvalidArgument("a row of " + to_string(slots) +
                              " slots has no slot that can spare points for the others: the latent's largest "
                              "magnitude is too large for 16-bit rows");
      }
      cdf[i + 1] = end += frequencies[i];
    }
    cdf[slots + 1] = kTotal;
    if (end >= kTotal) throw InvalidArgument("a row of a mixture leaves no room for its escape");
  }
}

void mixture_intervals(const std::int32_t* cdf, std::size_t rows, std::size_t slots, const std::int32_t* symbols,
                       std::uint16_t* starts, std::uint16_t* frequencies) {
  for (std::size_t r = 0; r < rows; ++r, cdf += slots + 2) {
    const std::int32_t symbol = load_once(&symbols[r]);
    if (symbol < 0 || static_cast<std::size_t>(symbol) >= slots) {
      throw InvalidArgument("symbol " + to_string(symbol) + " is not in 0.." + to_string(slots - 1));
    }
    const auto slot = static_cast<std::size_t>(symbol);
    starts[r] = static_cast<std::uint16_t>(cdf[slot]);
    frequencies[r] = static_cast<std::uint16_t>(cdf[slot + 1] - cdf[slot]);
  }
}

Vector<std::uint8_t> encode_intervals(const std::uint16_t* starts, const std::uint16_t* frequencies,
                                      std::size_t count) {
  WordBuffer words(4 * count + 8);  // a symbol writes one word at most
  Rans64Encoder out{kState64Low, words.next()};
  for (std::size_t i = count; i-- > 0;) {
    const std::uint16_t start = load_once(&starts[i]), frequency = load_once(&frequencies[i]);
    if (frequency == 0) throw InvalidArgument("interval " + to_string(i) + " is empty");
    if (start + frequency > kTotal) {
      throw InvalidArgument("interval " + to_string(i) + " ends at " + to_string(start + frequency) + ", beyond 65536");
    }
    out.put(start, frequency, Reciprocal(frequency), kMixturePrecision);
  }
  words.written_down_to(out.next);
  return rans64_stream(out.state, words);
}

void MixtureDecoder::decode(const std::int32_t* cdf, std::size_t rows, std::size_t slots, std::int32_t* symbols) {
  for (std::size_t r = 0; r < rows; ++r, cdf += slots + 2) {
    const auto code = static_cast<std::int32_t>(decoder_.code(kMixturePrecision));
    // The first end beyond the code; the last entry is 65536.
    const auto slot = static_cast<std::size_t>(std::upper_bound(cdf + 1, cdf + slots + 1, code) - (cdf + 1));
    if (slot >= slots) throw CorruptStream("CompressAI stream of a mixture: it holds a symbol outside its range");
    decoder_.take(static_cast<std::uint64_t>(code - cdf[slot]), static_cast<std::uint64_t>(cdf[slot + 1] - cdf[slot]),
                  kMixturePrecision);
    symbols[r] = static_cast<std::int32_t>(slot);
  }
}

}  // namespace fastlic

// Coding passes over y: along the wavefront for models with context, all at once for those without.
#pragma once

#include <cstdint>
#include <span>

#include "fastlic/engine/hyper.hpp"

namespace fastlic::engine {

using namespace fastlic::nn;

// Whoever drives the passes: an encoder that knows the latent, or a decoder that reads the stream.
class SymbolSource {
 public:
  virtual ~SymbolSource() = default;
  // Where the scale indexes of the next `positions` go, [positions][M]; they stay there until the next call.
  virtual std::uint8_t* indexes(std::size_t positions) = 0;
  // The pass's symbols [n][M] after its indexes were written; means are [n][means_stride], M used.
  virtual const std::int32_t* symbols(std::span<const std::size_t> where, const std::int32_t* means,
                                      std::size_t means_stride) = 0;
};

// y: [h * w][M], the latents as decoded.
void run_wavefront(const Model& model, const Map<std::int16_t>& features, SymbolSource& source, std::int32_t* y,
                   const Kernels& kernels, unsigned threads);
void run_parallel(const Model& model, const Map<std::int32_t>& head, SymbolSource& source, std::int32_t* y,
                  const Kernels& kernels);

}  // namespace fastlic::engine

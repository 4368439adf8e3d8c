// Sections for models without and with a masked context, reconstruction offsets, and other integers around shared
// weights (latents_target.hpp).
#include "latents_target.hpp"

namespace {

using namespace fastlic;

latents::Engine make(bool contextual, bool offsets) {
  fuzz::EngineArrays model = fuzz::engine_arrays(contextual);
  if (offsets) model.i32("y.offsets", {7, -nn::kOffsetLimit, nn::kOffsetLimit, 0});
  return fuzz::engine_of(latents::read_gaussian, model.arrays);
}

// The weights of `base` with another rate's integers around them.
latents::Engine varied(const latents::Engine& base) {
  fuzz::EngineArrays model;
  model.i32("z.median", {-nn::kLatentLimit, 3, 70});
  model.requantiser("z.input", fuzz::kHyper, 12, 29);
  model.i32("y.offsets", {0, 1, -1, 20});
  if (base.model().wavefront) {
    model.requantiser("y.input", fuzz::kLatent, 12, 30);
    model.i32("context.bias", {1, -1, 0, 9, 9, 100000, -100000, 3, 0, 0});
  }
  return latents::Engine(latents::vary(base.model(), model.arrays, base.model().z_tables, base.model().y_tables));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
  static const latents::Engine plain[] = {make(false, false), make(true, false)};
  static const latents::Engine engines[] = {plain[0],         plain[1],         make(false, true),
                                            make(true, true), varied(plain[0]), varied(plain[1])};
  return fuzz::decode_latents(engines, data, bytes);
}

// Sections for models of MLIC, MLIC+, MLIC++ and of channel groups (models.py, latents_target.hpp).
#include "latents_target.hpp"
#include "models.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
  using namespace fastlic;
  const auto make = [](fuzz::Reader reader, std::span<const fuzz::models::Entry> entries) {
    return fuzz::engine_of(reader, fuzz::models::arrays_of(entries));
  };
  static const latents::Engine engines[] = {
      make(latents::read_slices, fuzz::models::mlic), make(latents::read_slices, fuzz::models::mlic_plus),
      make(latents::read_slices, fuzz::models::mlic_plus_plus), make(latents::read_slices, fuzz::models::mlic_early),
      make(latents::read_groups, fuzz::models::groups)};
  return fuzz::decode_latents(engines, data, bytes);
}

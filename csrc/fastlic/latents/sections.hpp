// The sections of a stream, as every engine writes and checks them: above all z, whose channel c uses row c.
#pragma once

#include <cstdint>
#include <span>

#include "fastlic/cdf_tables.hpp"
#include "fastlic/memory.hpp"
#include "fastlic/nn/fixed.hpp"

namespace fastlic::latents {

using Bytes = Vector<std::uint8_t>;

// Throws std::invalid_argument unless all lie within +-kLatentLimit.
void check_latents(const std::int32_t* values, std::size_t count);

// Throws std::invalid_argument for a zone (Target, engine.hpp) outside 0 to kOffsetLimit.
void check_zones(std::span<const std::int32_t> zones);

// No symbol is cheaper than the likeliest slot of any row, so a short section cannot claim a huge image: what is
// reserved stays in proportion to the bytes that came. Throws CorruptStream.
void check_section(const char* name, std::size_t bytes, double count, double fewest_bits);

// z [positions][medians] in units of 2^-6 -> its symbols.
void hyper_symbols(const std::int32_t* z, std::size_t positions, std::span<const std::int32_t> medians,
                   std::int32_t* symbols);

Bytes encode_hyper(const std::int32_t* symbols, std::size_t positions, std::size_t channels, const CdfTables& tables);

// Throws CorruptStream unless the section holds exactly these symbols.
void decode_hyper(std::span<const std::uint8_t> data, std::size_t positions, std::size_t channels,
                  const CdfTables& tables, std::int32_t* symbols);

}  // namespace fastlic::latents

// Codec files: a safetensors file of float weights, integers and a description (docs/format.md, "Codec files").
#pragma once

#include <stdexcept>

#include "fastlic/codec/digests.hpp"
#include "fastlic/codec/json.hpp"
#include "fastlic/errors.hpp"
#include "fastlic/memory.hpp"
#include "fastlic/nn/arrays.hpp"
#include "fastlic/nn/memory.hpp"

namespace fastlic::codec {

struct Floats {
  Vector<std::size_t> shape;
  Vector<float> values;
};

// What a codec is opened for. Decoding alone leaves out what encoding needs beside it: the analysis transforms, which
// are neither laid out nor looked at, and the search of codebooks.
enum class Use { everything, decoding };

// What a codec file holds, out of reach of whoever holds its bytes: `integers` refer to `memory`.
struct File {
  String name, family;
  Json config;
  Vector<Fingerprint> reads;
  Dictionary<String, Floats> floats;  // by state-dict name
  nn::Arrays entropy, transforms;
  Vector<nn::Buffer<std::uint8_t>> memory;
};

// Threads that opening a codec takes for a moment, if they are to be had; two of them for the parts of a family.
constexpr unsigned kOpeningThreads = 4, kReadingThreads = kOpeningThreads - 2;

// A codec file that is whole, but newer than this, of a family that this does not know, or with floats where this needs
// integers.
struct UnsupportedCodec : InvalidArgument {
  using InvalidArgument::InvalidArgument;
};

// Throws std::invalid_argument that says what is wrong: no safetensors file, no codec, a damaged one, or one of a newer
// layout. What is reserved stays in proportion to the bytes that came. For decoding, arrays that encoding alone reads
// may be left out: packed ones behind all others of their group.
File read_file(Input data, Use use = Use::everything);

}  // namespace fastlic::codec

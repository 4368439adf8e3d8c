// Errors of the core. Bindings map CorruptStream to fastlic.errors.CorruptStreamError; misuse is std::invalid_argument.
#pragma once

#include <stdexcept>

namespace fastlic {

// The bytes cannot have been written by the matching encoder with the same tables and indexes.
struct CorruptStream : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A version of a format that only a later release reads: no damage, as far as this one can tell.
struct UnsupportedVersion : CorruptStream {
  using CorruptStream::CorruptStream;
};

}  // namespace fastlic

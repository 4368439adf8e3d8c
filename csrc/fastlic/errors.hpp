// Errors of the core. Bindings map CorruptStream to fastlic.errors.CorruptStreamError; misuse is std::invalid_argument.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace fastlic {

// Of words that a String holds.
struct InvalidArgument : std::invalid_argument {
  explicit InvalidArgument(std::string_view words) : std::invalid_argument(std::string(words)) {}
};
struct RuntimeError : std::runtime_error {
  explicit RuntimeError(std::string_view words) : std::runtime_error(std::string(words)) {}
};

// The bytes cannot have been written by the matching encoder with the same tables and indexes.
struct CorruptStream : RuntimeError {
  using RuntimeError::RuntimeError;
};

// A version of a format that only a later release reads: no damage, as far as this one can tell.
struct UnsupportedVersion : CorruptStream {
  using CorruptStream::CorruptStream;
};

}  // namespace fastlic

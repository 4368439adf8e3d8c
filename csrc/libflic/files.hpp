// Files of the command flic: read whole, written whole or not at all.
#pragma once

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace flic::command {

using Bytes = std::vector<std::uint8_t>;

// What a user is told; ends with the command's status 1.
struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Of a file, or of standard input ("-").
Bytes read_whole(const std::string& path);
// The first bytes of a file, up to `most`.
Bytes read_beginning(const std::string& path, std::size_t most);

// A new file beside the old one takes its name when it is complete and on the disk; a device, a pipe or standard output
// ("-") is written to as it is. Signals that end the process take the unfinished file with them.
void write_whole(const std::string& path, std::span<const std::uint8_t> content);

}  // namespace flic::command

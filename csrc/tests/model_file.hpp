// A model as tests/integers/made_networks.py writes it: a file of named arrays.
#pragma once

#include <cstdint>
#include <fstream>
#include <list>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "fastlic/cdf_tables.hpp"
#include "fastlic/nn/reader.hpp"

namespace fastlic::tests {

struct ModelFile {
  explicit ModelFile(const char* path) {
    std::ifstream file(path, std::ios::binary);
    const auto number = [&] {
      std::uint32_t value = 0;
      file.read(reinterpret_cast<char*>(&value), sizeof value);
      return value;
    };
    for (std::uint32_t left = number(); left > 0; --left) {
      String name(number(), ' ');
      file.read(name.data(), static_cast<std::streamsize>(name.size()));
      const auto type = static_cast<nn::Type>(number());
      Vector<std::size_t> shape(number());
      for (std::size_t& extent : shape) extent = number();
      nn::ArrayRef& array = arrays[name] = {type, shape, nullptr};
      auto& kept = bytes.emplace_back(array.size() * nn::bytes_of(type));
      file.read(kept.data(), static_cast<std::streamsize>(kept.size()));
      array.data = kept.data();
    }
    if (!file) throw std::runtime_error("cannot read the model");
  }

  std::shared_ptr<const CdfTables> tables(const String& name) const {
    const nn::ArrayReader reader(arrays);
    return std::make_shared<const CdfTables>(reader.int32s(name + ".cdf"), reader.int32s(name + ".lengths"),
                                             reader.int32s(name + ".offsets"), reader.uint8s(name + ".shifts"),
                                             static_cast<unsigned>(reader.int32s(name + ".precision")[0]));
  }

  nn::Arrays arrays;
  std::list<std::vector<char>> bytes;
};

}  // namespace fastlic::tests

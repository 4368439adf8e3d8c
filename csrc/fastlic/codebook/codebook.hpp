// Nearest codewords without the matrix of distances.
//
// The word nearest to x has the smallest score s = |c|^2 / 2 - x.c. A kernel evaluates scores approximately, many rows
// and words at a time, against words packed so that a block stays in the second-level cache; of each row it keeps the
// best score and the few words whose score lies within twice a proven error bound of it. Those few are then compared
// by their exact distances, so the answer does not depend on the kernel: it is the word with the smallest squared
// distance, its terms taken and summed in double in channel order, and of equals the one with the lowest index.
//
// Memory is that of the packed words and a few kilobytes per thread, whatever the number of rows.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fastlic/isa.hpp"
#include "fastlic/memory.hpp"
#include "fastlic/nn/memory.hpp"

namespace fastlic::codebook {

template <typename T>
using Buffer = nn::Buffer<T>;

// m codebooks of k words of d channels, packed for one instruction set. Safe to share between threads.
class Codebooks {
 public:
  // words: [m, k, d], contiguous; copied. Throws std::invalid_argument for sizes of zero or values that are not finite.
  Codebooks(const float* words, std::size_t m, std::size_t k, std::size_t d, Isa isa);

  std::size_t groups() const noexcept { return m_; }
  std::size_t channels() const noexcept { return d_; }

  // Vector (i, g) begins at x[i * rows + g * groups], its channels lie `channels` floats apart.
  struct Strides {
    std::ptrdiff_t rows, groups, channels;
  };

  // out[i * m + g]: the index of the word of codebook g nearest to vector (i, g), for i < n.
  // Throws std::invalid_argument for values that are not finite. threads: 0 for one per core.
  void nearest(const float* x, std::size_t n, Strides strides, std::int64_t* out, unsigned threads) const;

 private:
  struct Group {
    Buffer<float> half;           // |c|^2 / 2 of each word, infinity for those that pad the last panel
    Buffer<float> panels;         // float kernels: [panel][channel][word]
    Buffer<std::int8_t> bytes;    // byte kernels: [panel][channel / 4][word][4]
    Buffer<std::int32_t> offset;  // byte kernels: -128 times the sum of a word's bytes
    float step = 0;               // byte kernels: a word is about step times its bytes
    double largest = 0;           // norm of the longest word
    double byte_largest = 0;      // and of the longest word as bytes hold it
    double byte_error = 0;        // largest distance between a word and what its bytes hold
  };
  void pack(std::size_t group);
  void pack_bytes(Group& group, const float* words) const;
  // Some vectors of one group.
  struct Task {
    const float* x;                 // channel 0 of the group's vector 0
    std::ptrdiff_t rows, channels;  // strides in floats
    std::int64_t* out;              // of vector 0
    std::size_t step;               // from one vector's to the next one's
    std::size_t group;              // whose words are searched,
    std::size_t shown;              // and what messages call it
    Vector<std::uint32_t>* unsure;  // takes vectors that bytes cannot decide; nullptr: decide all
  };
  void search(const Task& task, const std::uint32_t* which, std::size_t count) const;

  std::size_t m_, k_, d_;
  std::size_t panels_;  // of each group
  Isa isa_;
  Vector<float> words_;
  Vector<Group> groups_;
};

}  // namespace fastlic::codebook

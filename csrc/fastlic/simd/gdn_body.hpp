// Included by gdn_*.cpp inside an anonymous namespace, under that file's target: kRows positions by two vectors of
// outputs stay in registers while all inputs pass by.

template <typename V>
void gdn_rows(const GdnJob& job, const float* x, float* out, std::size_t rows, float* squares) {
  constexpr std::size_t kRows = V::kRows, kWidth = V::kWidth, kPanel = 2 * kWidth;
  const std::size_t channels = job.channels;
  for (std::size_t first = 0; first < rows; first += kRows) {
    const std::size_t count = rows - first < kRows ? rows - first : kRows;
    for (std::size_t r = 0; r < kRows; ++r) {
      // Beyond the end the last row is repeated; its results are not stored.
      const float* row = x + (first + (r < count ? r : count - 1)) * channels;
      float* square = squares + r * channels;
      std::size_t c = 0;
      for (; c + kWidth <= channels; c += kWidth) {
        const auto v = V::load(row + c);
        V::store(square + c, V::mul(v, v));
      }
      for (; c < channels; ++c) square[c] = row[c] * row[c];
    }
    for (std::size_t panel = 0; panel * kPanel < channels; ++panel) {
      typename V::Float sums[kRows][2];
      const float* beta = job.beta + panel * kPanel;
      for (std::size_t r = 0; r < kRows; ++r) {
        sums[r][0] = V::load(beta);
        sums[r][1] = V::load(beta + kWidth);
      }
      const float* gamma = job.gamma + panel * channels * kPanel;
      for (std::size_t j = 0; j < channels; ++j, gamma += kPanel) {
        const auto left = V::load(gamma), right = V::load(gamma + kWidth);
        for (std::size_t r = 0; r < kRows; ++r) {
          const auto square = V::set(squares[r * channels + j]);
          sums[r][0] = V::multiply_add(square, left, sums[r][0]);
          sums[r][1] = V::multiply_add(square, right, sums[r][1]);
        }
      }
      const std::size_t at = panel * kPanel, width = channels - at < kPanel ? channels - at : kPanel;
      for (std::size_t r = 0; r < count; ++r) {
        const float* from = x + (first + r) * channels + at;
        float* to = out + (first + r) * channels + at;
        float edge[kPanel] = {};
        if (width < kPanel) {
          for (std::size_t c = 0; c < width; ++c) edge[c] = from[c];
          from = edge;
        }
        float* target = width < kPanel ? edge : to;
        for (std::size_t half = 0; half < 2; ++half) {
          const auto value = V::load(from + half * kWidth), norm = V::sqrt(sums[r][half]);
          V::store(target + half * kWidth, job.inverse ? V::mul(value, norm) : V::div(value, norm));
        }
        if (width < kPanel) {
          for (std::size_t c = 0; c < width; ++c) to[c] = edge[c];
        }
      }
    }
  }
}

#include "sampling/rows.h"

#include <algorithm>
#include <string>

#include "core/error.h"
#include "core/parallel.h"

namespace pyfast::sampling {
namespace {

constexpr int64_t block_features = 128;

size_t padded(int64_t d) { return static_cast<size_t>((d + 7) / 8 * 8); }

}  // namespace

int64_t best_place(const std::vector<double>& scores, const std::vector<double>& lows, double slack,
                   const std::vector<int64_t>& rows) {
  const double limit = *std::min_element(lows.begin(), lows.end()) + slack;
  const size_t width = static_cast<size_t>(block_rows);
  size_t best = scores.size();
  for (size_t block = 0; block < lows.size(); ++block) {
    if (lows[block] > limit) continue;
    for (size_t i = block * width; i < std::min(scores.size(), (block + 1) * width); ++i)
      if (scores[i] <= limit && (best == scores.size() || rows[i] < rows[best])) best = i;
  }
  return static_cast<int64_t>(best);
}

void widen_row(const Features& x, int64_t row, const Kernels& kernels, std::vector<double>& to) {
  to.assign(padded(x.d), 0.0);
  kernels.add_rows(x, &row, 1, 0, x.d, to.data());
}

std::vector<double> sum_rows(const Features& x, const int64_t* rows, int64_t count, int threads,
                             const Kernels& kernels) {
  std::vector<double> sum(padded(x.d));
  const int64_t blocks = (x.d + block_features - 1) / block_features;
  parallel_for(blocks, threads_for(count * x.d, threads), [&](int64_t b, int) {
    const int64_t from = b * block_features;
    kernels.add_rows(x, rows, count, from, std::min(x.d, from + block_features), sum.data());
  });
  return sum;
}

void reduce_all(Reduce what, const Features& x, const int64_t* rows, int64_t count, const double* y, double* out,
                int threads, const Kernels& kernels) {
  const int64_t blocks = (count + block_rows - 1) / block_rows;
  parallel_for(blocks, threads_for(count * x.d, threads), [&](int64_t b, int) {
    const int64_t from = b * block_rows;
    kernels.reduce(what, x, rows + from, std::min(block_rows, count - from), y, out + from);
  });
}

void check_finite(const double* squares, const int64_t* rows, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const double scaled = squares[i] * static_cast<double>(count);
    require(scaled * 0 == 0,
            "features: expected finite numbers with a finite squared norm, row " + std::to_string(rows[i]) + " is not");
  }
}

}  // namespace pyfast::sampling

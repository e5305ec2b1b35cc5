// How k-means runs share out their rows, and the order of their sums.
#pragma once
#include <cstdint>

namespace pyfast::knn {

constexpr int64_t run_block = 256;  // rows of one task

inline int64_t run_blocks(int64_t rows) { return (rows + run_block - 1) / run_block; }

// Eight sums in turn: one order on every instruction set, and additions that do not wait on each other.
template <class F>
double sum_of(int64_t n, F f) {
  double part[8] = {};
  for (int64_t i = 0; i < n; ++i) part[i % 8] += f(i);
  return ((part[0] + part[4]) + (part[2] + part[6])) + ((part[1] + part[5]) + (part[3] + part[7]));
}

}  // namespace pyfast::knn

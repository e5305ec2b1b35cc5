// Rows drawn by k-means++ within parts of a table, each part on its own.
#pragma once
#include <cstdint>

#include "knn/kernels.h"

namespace pyfast::knn {

struct SeedingArgs {
  // inputs
  const float* x = nullptr;  // [N, D] contiguous, the rows of a part one after the other
  int64_t n = 0, d = 0;
  const double* weights = nullptr;  // [N] >= 0
  const int64_t* starts = nullptr;  // [P + 1] first row of every part
  const int64_t* draws = nullptr;   // [P + 1] first draw of every part
  int64_t parts = 0;
  const double* uniform = nullptr;  // [draws, T] in [0, 1)
  int64_t trials = 0;               // T
  int threads = 1;
  const Kernels* kernels = nullptr;
  // input and output
  double* cost = nullptr;  // [N] squared distance to the nearest centre; falls with every draw
  // output
  int64_t* chosen = nullptr;  // [draws] rows in the table; -1 once a part has no cost left
};

void seeding_cpu(const SeedingArgs& args);

}  // namespace pyfast::knn

// One step of Lloyd's k-means: exact nearest centre of every row, and the sums of the rows of each centre.
#pragma once
#include <cstdint>

#include "knn/rows.h"
#include "knn/space.h"

namespace pyfast::knn {

struct LloydArgs {
  // inputs
  Rows x;                      // [N, D]
  Rows centers;                // [K, D], K >= 1
  Metric metric = Metric::l2;  // l2, or cosine: sums of the rows divided by their norms
  int threads = 1;
  const Kernels* kernels = nullptr;
  // outputs
  double* sums = nullptr;     // [K, D] added in row order: independent of the number of threads
  int64_t* counts = nullptr;  // [K]
  int64_t* labels = nullptr;  // [N] ties go to the smaller label
  double* costs = nullptr;    // [N] squared distance, or 1 - cosine similarity
};

void lloyd_cpu(const LloydArgs& args);

}  // namespace pyfast::knn

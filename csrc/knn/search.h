// Exact k nearest rows: a certified low-precision scan, then float64 ranking of what it could not exclude.
#pragma once
#include <cstdint>
#include <functional>

#include "knn/bank.h"
#include "knn/candidates.h"
#include "knn/rows.h"

namespace pyfast::knn {

struct SearchArgs {
  // inputs
  Rows queries;                // [N, D]; with ids: only these rows
  const Bank* bank = nullptr;  // packed rows, or
  Rows database;               // [M, D] rows packed on the fly; with ids (ascending): only these rows
  Metric metric = Metric::l2;
  int64_t k = 1;              // at least 1
  bool exclude_self = false;  // leave out the database row with the query's own number
  int threads = 1;
  const Kernels* kernels = nullptr;

  // outputs, one call per query, from any thread, in any order: the best min(k, rows) in rank order
  std::function<void(int64_t query, const Scored* best, int64_t count)> done;
  // after every pass over queries [first, first + count), from the calling thread; may be empty
  std::function<void(int64_t first, int64_t count)> pass_done;
  int64_t max_pass = 0;  // queries of one pass at most; 0 leaves it to the memory budget
};

// Working memory beyond the bank stays below about 48 MiB whatever N and M are. Throws Error on too many rows.
void search(const SearchArgs& args);

struct KnnOutput {
  float* distances;  // [N, k] squared distance (l2) or similarity; padded with +inf (l2) or -inf
  int64_t* indices;  // [N, k] padded with -1
};
void knn_cpu(const SearchArgs& args, const KnnOutput& out);

}  // namespace pyfast::knn

// float64 scores of chosen pairs of rows, on the GPU: the last, exact step of a screened search.
#pragma once
#include <cstdint>

#include "core/array.h"

namespace pyfast::knn {

// A pair's score is summed over lanes i mod 8 with fused multiply-add, then ((0+4)+(2+6)) + ((1+5)+(3+7)): the order of
// the CPU kernels. Differences and products of the given values are formed in float64, so l2 has no cancellation. The
// result depends on the two rows alone. cosine divides by the product of the norms, 0 where that is 0; NaN stays NaN.
struct RerankArgs {
  // inputs, all on the same device
  const void* queries = nullptr;   // [N, D] f64 where the database is f64, else f32 (which holds every half exactly)
  const void* database = nullptr;  // [M, D]
  DType dtype = DType::f32;        // of the database: f32, f16, bf16 or f64
  int64_t query_strides[2] = {};   // in elements
  int64_t database_strides[2] = {};
  const int64_t* rows = nullptr;  // [P] row of queries, not checked
  const int64_t* ids = nullptr;   // [P] row of database, not checked
  int64_t P = 0, D = 0;
  int metric = 0;  // 0 l2 (squared distance), 1 ip, 2 cosine
  int device = 0;
  // output
  double* scores = nullptr;  // [P]
};

// Enqueues on `stream` (a cudaStream_t) and returns at once. Throws Error when CUDA refuses the launch, as on a machine
// without a driver. The caller's current device is put back.
void rerank_cuda(const RerankArgs& args, void* stream);

}  // namespace pyfast::knn

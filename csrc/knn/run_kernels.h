// The hot loops of k-means runs (runs.h), once per instruction set. Centres stand in panels of 16, one to a lane; rows
// are read where they lie.
#pragma once
#include <cstdint>

#include "core/isa.h"

namespace pyfast::knn {

constexpr int panel = 16;       // centres side by side
constexpr int64_t chain = 256;  // products added in a row before their sum joins the total

// Centres as the kernels read them. |fl(x.c) - x.c| <= product_error / 2 * |x| |c|.
struct CenterPanels {
  const float* words;  // [panels][d][16], zeros behind the last centre
  const float* norm2;  // [panels * 16] squared norms; huge behind the last centre
  const float* norm;   // [panels * 16] at least the norms
  int64_t panels = 0;
  float product_error = 0;
};

// Rows by number, and what is known of each: [N] arrays that the kernels read and write at those numbers.
struct RunRows {
  const float* x;  // [N, d]
  int64_t stride, d;
  const float* norm2;  // [N]
  const float* norm;   // [N] at least the norms
  float* lower;        // [N, panels * 16] at most the distance to every centre
  float* upper;        // [N] at least the distance to the centre with the row's label
  int32_t* label;      // [N]
};

struct RunKernels {
  // Distances of the rows numbered index[0, count) to all centres: sets lower, upper and label (the smallest upper
  // bound); doubtful[i] = whether another centre's lower bound does not exceed the label's upper one.
  void (*nearest)(const RunRows& rows, const CenterPanels& centers, const int64_t* index, int64_t count,
                  uint8_t* doubtful);

  // Centres moved by at most drift [panels * 16]: loosens the bounds of rows [first, last) and lists those whose label
  // they no longer prove. Returns how many.
  int64_t (*loosen)(const RunRows& rows, int64_t panels, const float* drift, int64_t first, int64_t last,
                    int64_t* index);

  // out[i * count + j] = |x[i] - c[j]|^2 in float: lane i mod 16, fused multiply-add, then lanes i + 8, i + 4, i + 2
  // and i + 1 are added. The same bits on every instruction set.
  void (*distances)(const float* x, int64_t stride, int64_t rows, const float* const* c, int count, int64_t d,
                    float* out);
};

const RunKernels& run_kernels_for(Isa isa);

namespace scalar {
const RunKernels& run_table();
}
namespace avx2 {
const RunKernels& run_table();
}
namespace avx512 {
const RunKernels& run_table();
}

}  // namespace pyfast::knn

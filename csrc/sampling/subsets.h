// Subsets of rows that stand for the whole: greedy mean matching (herding) and greedy farthest points (k-centre).
// Every sum has a fixed order, so that neither threads nor instruction sets change a choice.
#pragma once
#include <cstdint>

#include "sampling/kernels.h"

namespace pyfast::sampling {

struct HerdingArgs {
  Features features;
  const int64_t* rows = nullptr;     // [R] rows of all groups one after another; null: 0 … n - 1
  const int64_t* offsets = nullptr;  // [G + 1] where groups begin; null: one group of all rows
  int64_t groups = 1;                // G
  int64_t m = 0;                     // picks per group
  int64_t* order = nullptr;          // [G, m] rows in the order of picking, -1 behind the last
  int threads = 1;
  const Kernels* kernels = nullptr;
};
// Pick k (from 1) of a group minimises n |f_j|² + 2 (n v_j - k b_j): T the sum of its n rows, b_j = f_j·T,
// v_j = Σ f_j·f_p over rows p picked before; the smaller position on ties, which are scores within
// 2^-44 k n max |f|² of the smallest. Throws Error on rows that are not finite.
void herding_cpu(const HerdingArgs& args);

struct KCenterArgs {
  Features features;
  Features centers = {nullptr, DType::f32, 0, 0};  // chosen before, of the same dtype
  int64_t first = -1;                              // -1: the row nearest the mean; not used where there are centers
  int64_t m = 0;                                   // 0 … n
  int64_t* chosen = nullptr;                       // [m]
  int threads = 1;
  const Kernels* kernels = nullptr;
};
// Squared distances within a factor 1 - 2^-42 of the largest are ties; the smaller row wins.
// Returns the radius: the largest distance of a row to its nearest centre. Throws Error on rows that are not finite.
double k_center_cpu(const KCenterArgs& args);

}  // namespace pyfast::sampling

// Herding and k-centre on the GPU: the sums, the ties and the choices of subsets.h, bit for bit. Nothing waits for the
// host between picks. Rows are not checked: with values that are not finite the choice is any row.
#pragma once
#include <cstdint>

#include "core/array.h"

namespace pyfast::sampling {

// Device memory throughout. R rows in G groups.
struct HerdingCudaArgs {
  // inputs
  const void* features = nullptr;  // [N, D] f32, f16, bf16 or f64
  DType dtype = DType::f32;
  int64_t D = 0;
  const int64_t* rows = nullptr;      // [R], not checked
  const int64_t* offsets = nullptr;   // [G + 1] where groups begin among the rows, not checked
  const int64_t* group_of = nullptr;  // [R]
  int64_t R = 0, G = 0, m = 0;
  int device = 0;
  // workspace
  double* sum = nullptr;                                                           // [G, D]
  double *square = nullptr, *dot = nullptr, *product = nullptr, *score = nullptr;  // [R]
  double* slack = nullptr;                                                         // [G]
  int64_t* picked = nullptr;                                                       // [G]
  // output
  int64_t* order = nullptr;  // [G, m], -1 behind the last of a smaller group
};
void herding_cuda(const HerdingCudaArgs& args, void* stream);

struct KCenterCudaArgs {
  // inputs
  const void* features = nullptr;  // [N, D] f32, f16, bf16 or f64
  const void* centers = nullptr;   // [C, D] of the same dtype, chosen before
  DType dtype = DType::f32;
  int64_t N = 0, C = 0, D = 0, m = 0;  // m <= N
  int device = 0;
  // workspace
  double* gap = nullptr;     // [N] squared distance to the nearest centre; -1 where chosen
  double* widest = nullptr;  // [⌈N / 32⌉] of every block of rows
  // outputs
  int64_t* chosen = nullptr;  // [m]; where C is 0 and m is not, chosen[0] is an input: the first row
  double* radius = nullptr;   // [1]
};
void k_center_cuda(const KCenterCudaArgs& args, void* stream);

}  // namespace pyfast::sampling

// out[O, I] += Σ_b (Σ_s g[b, s, o] a[b, s, i])²: squared per-sample gradients of a linear layer, never in memory.
#pragma once
#include <cstdint>

#include "fisher/kernels.h"

namespace pyfast::fisher {

// [B, S, lanes] where it lies; strides in elements.
struct Operand {
  const char* data = nullptr;
  DType dtype = DType::f32;  // f32, f16 or bf16
  int64_t lanes = 0;
  int64_t sample_stride = 0, step_stride = 0, lane_stride = 0;
};

struct OuterSquareArgs {
  // inputs
  Operand g, a;
  int64_t samples = 0, steps = 0;  // B and S
  bool absolute = false;           // Σ_b |Σ_s …| instead
  int threads = 1;
  const Kernels* kernels = nullptr;

  // outputs
  float* out = nullptr;  // [O, I], accumulated into
  int64_t out_stride = 0, out_lane_stride = 1;
};
void outer_square_cpu(const OuterSquareArgs& args);

}  // namespace pyfast::fisher

// out[O, C/G, *kernel] += Σ_b (Σ_pixels g[b, o, pixel] x[b, c, pixel · stride + tap · dilation − padding])²: squared
// per-sample weight gradients of a convolution. Neither they nor an unfolded batch are ever in memory.
#pragma once
#include <cstdint>

#include "fisher/kernels.h"

namespace pyfast::fisher {

// [B, channels, *space] where it lies; up to three spatial dimensions, those that are missing come first with size 1.
struct Image {
  const char* data = nullptr;
  DType dtype = DType::f32;  // f32, f16 or bf16
  int64_t channels = 0;
  int64_t size[3] = {1, 1, 1};
  int64_t sample_stride = 0, channel_stride = 0, stride[3] = {0, 0, 0};  // in elements
};

struct ConvArgs {
  // inputs
  Image g, x;
  int64_t samples = 0, groups = 1;
  int64_t kernel[3] = {1, 1, 1}, step[3] = {1, 1, 1}, padding[3] = {0, 0, 0}, dilation[3] = {1, 1, 1};
  bool absolute = false;  // Σ_b |Σ …| instead
  int threads = 1;
  const Kernels* kernels = nullptr;

  // outputs
  float* out = nullptr;                                          // [O, C/G, *kernel], accumulated into
  int64_t out_row = 0, out_channel = 0, out_tap[3] = {0, 0, 0};  // its strides
};

// Throws Error where the sizes do not belong to one convolution.
void conv_square_cpu(const ConvArgs& args);

}  // namespace pyfast::fisher

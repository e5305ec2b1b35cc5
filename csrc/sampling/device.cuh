// What the CUDA samplers share: the device of the inputs, errors, and sums over rows in the order of the CPU kernels.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "core/error.h"

namespace pyfast::sampling {
namespace {

constexpr int lanes = 8;  // threads of one row
constexpr int block_threads = 256;
constexpr int rows_per_block = block_threads / lanes;

inline void check(cudaError_t status, const char* what) {
  require(status == cudaSuccess, std::string("sampling on the GPU: ") + what + ": " + cudaGetErrorString(status));
}

// The device of the inputs for as long as this lives.
class OnDevice {
 public:
  explicit OnDevice(int device) {
    check(cudaGetDevice(&before_), "no usable CUDA device");
    if (device != before_) check(cudaSetDevice(device), "cannot use the device of the inputs");
  }
  ~OnDevice() { cudaSetDevice(before_); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

 private:
  int before_ = 0;
};

// Blocks for `count` items, `per_block` of them each; kernels stride over what is left.
inline unsigned blocks_for(int64_t count, int64_t per_block) {
  return static_cast<unsigned>(std::max<int64_t>(1, std::min<int64_t>((count + per_block - 1) / per_block, 1 << 20)));
}

__device__ inline double wide(float v) { return v; }
__device__ inline double wide(double v) { return v; }
__device__ inline double wide(__half v) { return __half2float(v); }
__device__ inline double wide(__nv_bfloat16 v) { return __bfloat162float(v); }

// Products of two of these fit a double, so that a fused multiply-add rounds like a separate one.
template <class X>
struct Exact {
  static constexpr bool value = true;
};
template <>
struct Exact<double> {
  static constexpr bool value = false;
};

template <bool exact>
__device__ inline double add_product(double sum, double u, double v) {
  return exact ? fma(u, v, sum) : __dadd_rn(sum, __dmul_rn(u, v));
}

// The eight threads of a row agree on every branch; other rows of the warp may have finished.
__device__ inline unsigned row_mask() { return 0xffu << (threadIdx.x % 32 / lanes * lanes); }

// ((0+4)+(2+6)) + ((1+5)+(3+7)) in each of the eight lanes: additions commute, so the tree is the fixed one.
__device__ inline double lane_sum(double v) {
  const unsigned mask = row_mask();
  v += __shfl_xor_sync(mask, v, 4, lanes);
  v += __shfl_xor_sync(mask, v, 2, lanes);
  return v + __shfl_xor_sync(mask, v, 1, lanes);
}

// Σ x y over features i = lane, lane + 8, …, for two rows of one dtype.
template <class X>
__device__ inline double row_product(const X* x, const X* y, int64_t d, int lane) {
  double sum = 0;
#pragma unroll 4
  for (int64_t i = lane; i < d; i += lanes) sum = add_product<Exact<X>::value>(sum, wide(x[i]), wide(y[i]));
  return lane_sum(sum);
}

// Σ x y against doubles; products are rounded before they are added.
template <class X>
__device__ inline double row_dot(const X* x, const double* y, int64_t d, int lane) {
  double sum = 0;
#pragma unroll 4
  for (int64_t i = lane; i < d; i += lanes) sum = add_product<false>(sum, wide(x[i]), y[i]);
  return lane_sum(sum);
}

// Σ (x - y)²; differences and squares are rounded.
template <class X>
__device__ inline double row_distance(const X* x, const X* y, int64_t d, int lane) {
  double sum = 0;
#pragma unroll 4
  for (int64_t i = lane; i < d; i += lanes) {
    const double gap = __dsub_rn(wide(x[i]), wide(y[i]));
    sum = add_product<false>(sum, gap, gap);
  }
  return lane_sum(sum);
}

// The smallest value of a block's threads, in every thread. `shared` has one place per warp; call it in step.
template <class T>
__device__ inline T block_min(T value, T* shared) {
  for (int step = 16; step > 0; step /= 2) {
    const T other = __shfl_xor_sync(0xffffffffu, value, step);
    value = other < value ? other : value;
  }
  const int warp = threadIdx.x / 32, warps = (blockDim.x + 31) / 32;
  __syncthreads();  // the places may still be read from a call before
  if (threadIdx.x % 32 == 0) shared[warp] = value;
  __syncthreads();
  value = shared[0];
  for (int w = 1; w < warps; ++w) value = shared[w] < value ? shared[w] : value;
  return value;
}

}  // namespace
}  // namespace pyfast::sampling

#include "sampling/device.cuh"
#include "sampling/subsets_cuda.h"

namespace pyfast::sampling {
namespace {

constexpr int pick_threads = 1024;

__global__ void __launch_bounds__(block_threads) clear(KCenterCudaArgs a) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x,
                blocks = (a.N + rows_per_block - 1) / rows_per_block;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < a.N; i += stride) {
    a.gap[i] = INFINITY;
    if (i < blocks) a.widest[i] = INFINITY;
  }
}

// Distances to one more centre: row `number` of the centers, or the row that pick `number` chose.
template <class X>
__global__ void __launch_bounds__(block_threads) relax(KCenterCudaArgs a, int64_t number, bool given) {
  __shared__ double shared[block_threads / 32];
  const X* x = static_cast<const X*>(a.features);
  const int64_t row = given ? -1 : a.chosen[number];
  const X* center = given ? static_cast<const X*>(a.centers) + number * a.D : x + row * a.D;
  const int lane = threadIdx.x % lanes;
  const int64_t blocks = (a.N + rows_per_block - 1) / rows_per_block;
  for (int64_t b = blockIdx.x; b < blocks; b += gridDim.x) {  // the whole block takes part in every turn
    const int64_t i = b * rows_per_block + threadIdx.x / lanes;
    double low = INFINITY;  // minus the gap
    if (i < a.N) {
      const double distance = row_distance(x + i * a.D, center, a.D, lane);
      const double old = a.gap[i];
      double gap = distance < old ? distance : old;
      if (old == -1 || i == row) gap = -1;
      __syncwarp(row_mask());  // every lane has read the old gap before one of them writes
      if (lane == 0) a.gap[i] = gap;
      low = -gap;
    }
    low = block_min(low, shared);
    if (threadIdx.x == 0) a.widest[b] = -low;
  }
}

// The first row whose gap is within the slack of the widest; one block.
__global__ void __launch_bounds__(pick_threads) farthest(KCenterCudaArgs a, int64_t number) {
  __shared__ double shared[pick_threads / 32];
  __shared__ long long first[pick_threads / 32];
  const int64_t blocks = (a.N + rows_per_block - 1) / rows_per_block;
  double low = INFINITY;
  for (int64_t b = threadIdx.x; b < blocks; b += blockDim.x) low = -a.widest[b] < low ? -a.widest[b] : low;
  low = block_min(low, shared);
  const double limit = -__dadd_rn(low, __dmul_rn(0x1p-42, -low));
  long long block = blocks;
  for (int64_t b = threadIdx.x; b < blocks; b += blockDim.x) {
    if (a.widest[b] >= limit) {
      block = b;
      break;
    }
  }
  block = block_min(block, first);
  long long place = a.N;
  const int64_t i = block * rows_per_block + threadIdx.x;
  if (threadIdx.x < rows_per_block && i < a.N && a.gap[i] >= limit) place = i;
  place = block_min(place, first);
  if (threadIdx.x == 0) a.chosen[number] = place < a.N ? place : 0;  // 0 only where gaps are NaN
}

__global__ void __launch_bounds__(pick_threads) measure(KCenterCudaArgs a) {
  __shared__ double shared[pick_threads / 32];
  const int64_t blocks = (a.N + rows_per_block - 1) / rows_per_block;
  double low = 0;
  for (int64_t b = threadIdx.x; b < blocks; b += blockDim.x) low = -a.widest[b] < low ? -a.widest[b] : low;
  low = block_min(low, shared);
  if (threadIdx.x == 0) *a.radius = sqrt(-low);
}

template <class X>
void run(const KCenterCudaArgs& args, cudaStream_t stream) {
  const unsigned blocks = blocks_for(args.N, rows_per_block);
  clear<<<blocks_for(args.N, block_threads), block_threads, 0, stream>>>(args);
  for (int64_t c = 0; c < args.C; ++c) relax<X><<<blocks, block_threads, 0, stream>>>(args, c, true);
  for (int64_t k = 0; k < args.m; ++k) {
    if (k > 0 || args.C > 0) farthest<<<1, pick_threads, 0, stream>>>(args, k);
    relax<X><<<blocks, block_threads, 0, stream>>>(args, k, false);
    check(cudaGetLastError(), "launch");
  }
  measure<<<1, pick_threads, 0, stream>>>(args);
  check(cudaGetLastError(), "launch");
}

}  // namespace

void k_center_cuda(const KCenterCudaArgs& args, void* stream) {
  const OnDevice guard(args.device);
  const cudaStream_t on = static_cast<cudaStream_t>(stream);
  switch (args.dtype) {
    case DType::f32: return run<float>(args, on);
    case DType::f16: return run<__half>(args, on);
    case DType::bf16: return run<__nv_bfloat16>(args, on);
    case DType::f64: return run<double>(args, on);
    default: require(false, "features: expected float32, float16, bfloat16 or float64");
  }
}

}  // namespace pyfast::sampling

#include "sampling/device.cuh"
#include "sampling/subsets_cuda.h"

namespace pyfast::sampling {
namespace {

constexpr int pick_threads = 1024;

__device__ inline int64_t size_of(const HerdingCudaArgs& a, int64_t g) { return a.offsets[g + 1] - a.offsets[g]; }

// sum[g, c]: one thread per feature adds the rows of a group in their order.
template <class X>
__global__ void __launch_bounds__(block_threads) sum_groups(HerdingCudaArgs a) {
  const X* x = static_cast<const X*>(a.features);
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < a.G * a.D; i += stride) {
    const int64_t g = i / a.D, c = i % a.D;
    double sum = 0;
#pragma unroll 8
    for (int64_t p = a.offsets[g]; p < a.offsets[g + 1]; ++p) sum = __dadd_rn(sum, wide(x[a.rows[p] * a.D + c]));
    a.sum[i] = sum;
  }
}

__device__ inline double score_of(const HerdingCudaArgs& a, int64_t p, double n, double k) {
  const double pull = __dsub_rn(__dmul_rn(n, a.product[p]), __dmul_rn(k, a.dot[p]));
  return __dadd_rn(__dmul_rn(n, a.square[p]), __dmul_rn(2.0, pull));
}

// Norms, products with the group's sum, and scores of the first pick; eight threads per row.
template <class X>
__global__ void __launch_bounds__(block_threads) start(HerdingCudaArgs a) {
  const X* x = static_cast<const X*>(a.features);
  const int lane = threadIdx.x % lanes;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * rows_per_block;
  for (int64_t p = static_cast<int64_t>(blockIdx.x) * rows_per_block + threadIdx.x / lanes; p < a.R; p += stride) {
    const X* row = x + a.rows[p] * a.D;
    const int64_t g = a.group_of[p];
    const double square = row_product(row, row, a.D, lane), dot = row_dot(row, a.sum + g * a.D, a.D, lane);
    if (lane != 0) continue;
    a.square[p] = square;
    a.dot[p] = dot;
    a.product[p] = 0;
    a.score[p] = score_of(a, p, static_cast<double>(size_of(a, g)), 1.0);
  }
}

// slack[g] = 2^-44 n max |f|²
__global__ void __launch_bounds__(pick_threads) widest_norms(HerdingCudaArgs a) {
  __shared__ double shared[pick_threads / 32];
  for (int64_t g = blockIdx.x; g < a.G; g += gridDim.x) {
    double low = 0;  // norms are not negative
    for (int64_t p = a.offsets[g] + threadIdx.x; p < a.offsets[g + 1]; p += blockDim.x)
      low = -a.square[p] < low ? -a.square[p] : low;
    low = block_min(low, shared);
    if (threadIdx.x == 0) a.slack[g] = __dmul_rn(__dmul_rn(0x1p-44, static_cast<double>(size_of(a, g))), -low);
  }
}

// Pick k of every group: the first row whose score is within the slack of the smallest. A picked row's norm becomes
// infinite, and with it every later score.
__global__ void __launch_bounds__(pick_threads) pick(HerdingCudaArgs a, int64_t k) {
  __shared__ double shared[pick_threads / 32];
  __shared__ long long first[pick_threads / 32];
  for (int64_t g = blockIdx.x; g < a.G; g += gridDim.x) {
    const int64_t from = a.offsets[g], to = a.offsets[g + 1];
    if (k > to - from) {
      if (threadIdx.x == 0) {
        a.order[g * a.m + k - 1] = -1;
        a.picked[g] = -1;
      }
      continue;  // the whole block
    }
    double low = INFINITY;
    for (int64_t p = from + threadIdx.x; p < to; p += blockDim.x) low = a.score[p] < low ? a.score[p] : low;
    low = block_min(low, shared);
    const double limit = __dadd_rn(low, __dmul_rn(a.slack[g], static_cast<double>(k)));
    long long place = to;
    for (int64_t p = from + threadIdx.x; p < to; p += blockDim.x) {
      if (a.score[p] <= limit) {
        place = p;
        break;
      }
    }
    place = block_min(place, first);
    if (threadIdx.x != 0) continue;
    if (place >= to) place = from;  // only where scores are NaN
    a.order[g * a.m + k - 1] = a.rows[place];
    a.picked[g] = a.rows[place];
    a.square[place] = INFINITY;
  }
}

// Products with the row picked last, and scores of pick k; eight threads per row.
template <class X>
__global__ void __launch_bounds__(block_threads) advance(HerdingCudaArgs a, int64_t k) {
  const X* x = static_cast<const X*>(a.features);
  const int lane = threadIdx.x % lanes;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * rows_per_block;
  for (int64_t p = static_cast<int64_t>(blockIdx.x) * rows_per_block + threadIdx.x / lanes; p < a.R; p += stride) {
    const int64_t g = a.group_of[p], picked = a.picked[g];
    if (picked < 0) continue;  // the same for the eight threads of a row
    const double product = row_product(x + a.rows[p] * a.D, x + picked * a.D, a.D, lane);
    if (lane != 0) continue;
    a.product[p] = __dadd_rn(a.product[p], product);
    a.score[p] = score_of(a, p, static_cast<double>(size_of(a, g)), static_cast<double>(k));
  }
}

template <class X>
void run(const HerdingCudaArgs& args, cudaStream_t stream) {
  const unsigned row_blocks = blocks_for(args.R, rows_per_block), groups = blocks_for(args.G, 1);
  sum_groups<X><<<blocks_for(args.G * args.D, block_threads), block_threads, 0, stream>>>(args);
  start<X><<<row_blocks, block_threads, 0, stream>>>(args);
  widest_norms<<<groups, pick_threads, 0, stream>>>(args);
  for (int64_t k = 1; k <= args.m; ++k) {
    if (k > 1) advance<X><<<row_blocks, block_threads, 0, stream>>>(args, k);
    pick<<<groups, pick_threads, 0, stream>>>(args, k);
    check(cudaGetLastError(), "launch");
  }
}

}  // namespace

void herding_cuda(const HerdingCudaArgs& args, void* stream) {
  if (args.G == 0 || args.m == 0) return;
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

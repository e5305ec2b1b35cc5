#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <string>

#include "core/error.h"
#include "knn/rerank_cuda.h"

namespace pyfast::knn {
namespace {

constexpr int lanes = 8;  // threads of one pair
constexpr int threads = 256;
constexpr int pairs_per_block = threads / lanes;

__device__ inline double wide(float v) { return v; }
__device__ inline double wide(double v) { return v; }
__device__ inline double wide(__half v) { return __half2float(v); }
__device__ inline double wide(__nv_bfloat16 v) { return __bfloat162float(v); }

// Sum of the eight lanes of a pair, the same bits in each of them: additions commute, so the tree is the fixed one.
__device__ inline double tree(double v, unsigned mask) {
  v += __shfl_xor_sync(mask, v, 4, lanes);
  v += __shfl_xor_sync(mask, v, 2, lanes);
  return v + __shfl_xor_sync(mask, v, 1, lanes);
}

template <class Q, class X>
struct Pairs {
  const Q* queries;
  const X* database;
  int64_t q_row, q_step, x_row, x_step;  // strides in elements
  const int64_t* rows;
  const int64_t* ids;
  int64_t P, D;
  double* scores;
};

template <class Q, class X, int metric>
__global__ void __launch_bounds__(threads) score_pairs(Pairs<Q, X> a) {
  const int lane = threadIdx.x % lanes;
  // The eight threads of a pair agree on every branch; other pairs of the warp may have finished.
  const unsigned mask = 0xffu << (threadIdx.x % 32 / lanes * lanes);
  const int64_t stride = static_cast<int64_t>(gridDim.x) * pairs_per_block;
  for (int64_t p = static_cast<int64_t>(blockIdx.x) * pairs_per_block + threadIdx.x / lanes; p < a.P; p += stride) {
    const Q* q = a.queries + a.rows[p] * a.q_row;
    const X* x = a.database + a.ids[p] * a.x_row;
    double sum = 0, q_norm2 = 0, x_norm2 = 0;
#pragma unroll 4
    for (int64_t i = lane; i < a.D; i += lanes) {
      const double u = wide(q[i * a.q_step]), v = wide(x[i * a.x_step]);
      if (metric == 0) {
        const double t = __dsub_rn(u, v);
        sum = fma(t, t, sum);
      } else {
        sum = fma(u, v, sum);
      }
      if (metric == 2) {
        q_norm2 = fma(u, u, q_norm2);
        x_norm2 = fma(v, v, x_norm2);
      }
    }
    sum = tree(sum, mask);
    if (metric == 2) {
      const double norms = sqrt(tree(q_norm2, mask)) * sqrt(tree(x_norm2, mask));
      sum = norms == 0 ? 0.0 : sum / norms;
    }
    if (lane == 0) a.scores[p] = sum;
  }
}

void check(cudaError_t status, const char* what) {
  require(status == cudaSuccess, std::string("knn re-rank on the GPU: ") + what + ": " + cudaGetErrorString(status));
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

template <class Q, class X>
void launch(const RerankArgs& args, cudaStream_t stream) {
  const Pairs<Q, X> pairs = {static_cast<const Q*>(args.queries),
                             static_cast<const X*>(args.database),
                             args.query_strides[0],
                             args.query_strides[1],
                             args.database_strides[0],
                             args.database_strides[1],
                             args.rows,
                             args.ids,
                             args.P,
                             args.D,
                             args.scores};
  const int64_t wanted = (args.P + pairs_per_block - 1) / pairs_per_block;
  const unsigned blocks = static_cast<unsigned>(std::min<int64_t>(wanted, 1 << 20));
  if (args.metric == 0) score_pairs<Q, X, 0><<<blocks, threads, 0, stream>>>(pairs);
  if (args.metric == 1) score_pairs<Q, X, 1><<<blocks, threads, 0, stream>>>(pairs);
  if (args.metric == 2) score_pairs<Q, X, 2><<<blocks, threads, 0, stream>>>(pairs);
  check(cudaGetLastError(), "launch");
}

}  // namespace

void rerank_cuda(const RerankArgs& args, void* stream) {
  require(args.metric >= 0 && args.metric <= 2, "metric: expected 0 (l2), 1 (ip) or 2 (cosine)");
  if (args.P == 0) return;
  const OnDevice guard(args.device);
  const cudaStream_t on = static_cast<cudaStream_t>(stream);
  switch (args.dtype) {
    case DType::f32: return launch<float, float>(args, on);
    case DType::f16: return launch<float, __half>(args, on);
    case DType::bf16: return launch<float, __nv_bfloat16>(args, on);
    case DType::f64: return launch<double, double>(args, on);
    default: require(false, "database: expected float32, float16, bfloat16 or float64");
  }
}

}  // namespace pyfast::knn

#include "sampling/device.cuh"
#include "sampling/hash.h"
#include "sampling/reservoir_cuda.h"

namespace pyfast::sampling {
namespace {

constexpr int threads = static_cast<int>(accept_block);
constexpr int warps = threads / 32;

// Rows that pass in the warps before this one; every thread sums alike.
__device__ inline int before_warp(const int* per_warp, int warp) {
  int before = 0;
  for (int w = 0; w < warp; ++w) before += per_warp[w];
  return before;
}

// Keys of one block of rows, and how many of them pass.
__global__ void __launch_bounds__(threads) hash_and_count(AcceptArgs a) {
  const Hash hash(a.seed);
  const int64_t least = *a.threshold, blocks = (a.n + accept_block - 1) / accept_block;
  for (int64_t b = blockIdx.x; b < blocks; b += gridDim.x) {
    const int64_t i = b * accept_block + threadIdx.x;
    bool pass = false;
    if (i < a.n) {
      const int64_t key = static_cast<int64_t>(hash.key(static_cast<uint64_t>(a.index[i])));
      a.keys[i] = key;
      pass = key >= least;
    }
    const int passed = __syncthreads_count(pass);
    if (threadIdx.x == 0) a.starts[b] = passed;
  }
}

// Counts become the place where each block begins; one block of threads, a run of counts per thread.
__global__ void __launch_bounds__(threads) scan(AcceptArgs a) {
  __shared__ int64_t sums[threads];
  const int64_t blocks = (a.n + accept_block - 1) / accept_block, run = (blocks + threads - 1) / threads;
  const int64_t from = threadIdx.x * run, to = from + run < blocks ? from + run : blocks;
  int64_t sum = 0;
  for (int64_t b = from; b < to; ++b) sum += a.starts[b];
  sums[threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    int64_t total = 0;
    for (int t = 0; t < threads; ++t) {
      const int64_t mine = sums[t];
      sums[t] = total;
      total += mine;
    }
    *a.count = total;
  }
  __syncthreads();
  int64_t start = sums[threadIdx.x];
  for (int64_t b = from; b < to; ++b) {
    const int64_t mine = a.starts[b];
    a.starts[b] = start;
    start += mine;
  }
}

__global__ void __launch_bounds__(threads) write_rows(AcceptArgs a) {
  __shared__ int per_warp[warps];
  const int64_t least = *a.threshold, blocks = (a.n + accept_block - 1) / accept_block;
  const int warp = threadIdx.x / 32;
  for (int64_t b = blockIdx.x; b < blocks; b += gridDim.x) {
    const int64_t i = b * accept_block + threadIdx.x;
    const bool pass = i < a.n && a.keys[i] >= least;
    const unsigned votes = __ballot_sync(0xffffffffu, pass);
    __syncthreads();  // the turn before may still read the counts
    if (threadIdx.x % 32 == 0) per_warp[warp] = __popc(votes);
    __syncthreads();
    const int place = before_warp(per_warp, warp) + __popc(votes & ((1u << threadIdx.x % 32) - 1));
    if (pass) a.rows[a.starts[b] + place] = i;
  }
}

}  // namespace

void reservoir_accept_cuda(const AcceptArgs& args, void* stream) {
  const OnDevice guard(args.device);
  const cudaStream_t on = static_cast<cudaStream_t>(stream);
  const unsigned blocks = blocks_for(args.n, accept_block);
  hash_and_count<<<blocks, threads, 0, on>>>(args);
  scan<<<1, threads, 0, on>>>(args);
  write_rows<<<blocks, threads, 0, on>>>(args);
  check(cudaGetLastError(), "launch");
}

}  // namespace pyfast::sampling

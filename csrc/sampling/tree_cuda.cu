#include "sampling/device.cuh"
#include "sampling/hash.h"
#include "sampling/tree_cuda.h"

namespace pyfast::sampling {
namespace {

constexpr int64_t one_block = 4096;  // items up to which one launch of one block beats a launch per level

__device__ inline double below(double x) {
  return __longlong_as_double(__double_as_longlong(x) - 1);  // x > 0
}

__device__ void refresh_leaves(const DeviceTree& t, int64_t node) {
  const float4* line = reinterpret_cast<const float4*>(t.leaves + 16 * node);
  double sum = 0;
  float low = INFINITY;
  for (int q = 0; q < 4; ++q) {
    const float4 v = line[q];
    const float leaf[4] = {v.x, v.y, v.z, v.w};
    for (int i = 0; i < 4; ++i) {
      sum = __dadd_rn(sum, static_cast<double>(leaf[i]));
      if (leaf[i] > 0 && leaf[i] < low) low = leaf[i];
    }
  }
  t.sum[t.start[0] + node] = sum;
  t.low[t.start[0] + node] = low;
}

// A node of `level` >= 1, from its children in the level below.
__device__ void refresh_inner(const DeviceTree& t, int level, int64_t node) {
  const int64_t first = t.start[level - 1] + 16 * node;
  double sum = 0;
  float low = INFINITY;
  for (int i = 0; i < 16; ++i) {
    sum = __dadd_rn(sum, t.sum[first + i]);
    t.pre[first + i] = sum;
    low = fminf(low, t.low[first + i]);
  }
  t.sum[t.start[level] + node] = sum;
  t.low[t.start[level] + node] = low;
}

__device__ inline void refresh(const DeviceTree& t, int level, int64_t node) {
  if (level == 0)
    refresh_leaves(t, node);
  else
    refresh_inner(t, level, node);
}

struct Items {
  const int64_t* index;
  const float* priority;
  int64_t n;
  int32_t number;
};

__device__ inline bool is_good(const DeviceTree& t, const Items& items, int64_t b) {
  const int64_t leaf = items.index[b];
  if (leaf < 0 || leaf >= t.capacity) {
    atomicMax(t.flaw, 1);
    return false;
  }
  const float value = items.priority[b];
  if (value >= 0 && value < INFINITY) return true;
  atomicMax(t.flaw, 2);
  return false;
}

// Three steps, each to be finished by all items before the next one begins: the last item of a leaf is found, it
// writes, and nodes are summed level by level, each by the first thread that claims it. The claims decide who works,
// never what the result is.
__device__ inline void find_last(const DeviceTree& t, const Items& items, int64_t b) {
  if (is_good(t, items, b)) atomicMax(t.owner + items.index[b], static_cast<int32_t>(b) + 1);
}

__device__ inline void write_leaf(const DeviceTree& t, const Items& items, int64_t b) {
  if (!is_good(t, items, b)) return;
  const int64_t leaf = items.index[b];
  if (t.owner[leaf] != static_cast<int32_t>(b) + 1) return;
  const float old = t.leaves[leaf], value = items.priority[b] + 0.0f;  // -0 becomes 0
  t.leaves[leaf] = value;
  t.owner[leaf] = 0;
  const int change = (value > 0) - (old > 0);
  if (change)
    atomicAdd(reinterpret_cast<unsigned long long*>(t.positive),
              static_cast<unsigned long long>(static_cast<long long>(change)));
}

__device__ inline void refresh_above(const DeviceTree& t, const Items& items, int level, int64_t b) {
  const int64_t leaf = items.index[b];
  if (leaf < 0 || leaf >= t.capacity) return;
  const int64_t node = leaf >> (4 * (level + 1));
  if (atomicExch(t.claim + t.start[level] + node, items.number) != items.number) refresh(t, level, node);
}

__global__ void __launch_bounds__(1024) update_in_one_block(DeviceTree t, Items items) {
  for (int64_t b = threadIdx.x; b < items.n; b += blockDim.x) find_last(t, items, b);
  __syncthreads();
  for (int64_t b = threadIdx.x; b < items.n; b += blockDim.x) write_leaf(t, items, b);
  for (int level = 0; level < t.levels; ++level) {
    __syncthreads();
    for (int64_t b = threadIdx.x; b < items.n; b += blockDim.x) refresh_above(t, items, level, b);
  }
}

// step 0: find_last, 1: write_leaf, 2 + l: level l
__global__ void __launch_bounds__(block_threads) update_step(DeviceTree t, Items items, int step) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t b = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; b < items.n; b += stride) {
    if (step == 0)
      find_last(t, items, b);
    else if (step == 1)
      write_leaf(t, items, b);
    else
      refresh_above(t, items, step - 2, b);
  }
}

__global__ void __launch_bounds__(block_threads) rebuild_level(DeviceTree t, int level, int64_t nodes) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t node = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; node < nodes; node += stride)
    refresh(t, level, node);
}

// The child of an inner node that r falls into; r is then relative to that child.
__device__ inline int descend(const double* line, double& r) {
  double prefix[16];
  for (int i = 0; i < 16; i += 2) {
    const double2 pair = *reinterpret_cast<const double2*>(line + i);
    prefix[i] = pair.x;
    prefix[i + 1] = pair.y;
  }
  r = fmin(r, below(prefix[15]));
  int c = 0;
  double before = 0;
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    if (prefix[i] <= r) {
      ++c;
      before = prefix[i];
    }
  }
  r = __dsub_rn(r, before);
  return c;
}

__device__ inline int find_leaf(const float* leaves, double r) {
  double prefix[16], sum = 0;
#pragma unroll
  for (int i = 0; i < 16; ++i) prefix[i] = sum = __dadd_rn(sum, static_cast<double>(leaves[i]));
  r = fmin(r, below(sum));
  int c = 0;
#pragma unroll
  for (int i = 0; i < 16; ++i) c += prefix[i] <= r;
  return c;
}

struct Draw {
  uint64_t seed;
  bool stratified;
  int64_t n;
  int64_t* index;
  double* probability;
};

__global__ void __launch_bounds__(block_threads) sample(DeviceTree t, Draw draw) {
  const double total = t.sum[t.start[t.levels - 1]];
  const Hash hash(draw.seed);
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t b = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; b < draw.n; b += stride) {
    if (!(total > 0)) {
      draw.index[b] = -1;
      draw.probability[b] = __longlong_as_double(0x7ff8000000000000ll);
      continue;
    }
    double u = hash_uniform(hash.key(static_cast<uint64_t>(b)));
    if (draw.stratified) u = __ddiv_rn(__dadd_rn(static_cast<double>(b), u), static_cast<double>(draw.n));
    double r = fmin(__dmul_rn(u, total), below(total));
    int64_t node = 0;
    for (int level = t.levels - 1; level >= 1; --level)
      node = 16 * node + descend(t.pre + t.start[level - 1] + 16 * node, r);
    const int64_t leaf = 16 * node + find_leaf(t.leaves + 16 * node, r);
    draw.index[b] = leaf;
    draw.probability[b] = __ddiv_rn(static_cast<double>(t.leaves[leaf]), total);
  }
}

}  // namespace

void lay_out(int64_t capacity, DeviceTree& tree) {
  require(capacity >= 1 && capacity <= 0x7fffffff,
          "capacity: expected 1 to 2^31 - 1 leaves, got " + std::to_string(capacity));
  tree.capacity = capacity;
  tree.levels = 0;
  for (int64_t children = capacity; tree.levels == 0 || children > 1;) {
    children = (children + 15) / 16;  // nodes of this level
    tree.start[tree.levels + 1] = tree.start[tree.levels] + (children + 15) / 16 * 16;
    ++tree.levels;
  }
}

void tree_update_cuda(const DeviceTree& tree, const int64_t* index, const float* priority, int64_t n, int32_t number,
                      void* stream) {
  require(n <= 0x7ffffffe, "index: expected at most 2^31 - 2 items in one update");
  if (n == 0) return;
  const OnDevice guard(tree.device);
  const cudaStream_t on = static_cast<cudaStream_t>(stream);
  const Items items = {index, priority, n, number};
  if (n <= one_block) {
    update_in_one_block<<<1, n <= block_threads ? block_threads : 1024, 0, on>>>(tree, items);
    return check(cudaGetLastError(), "launch");
  }
  for (int step = 0; step < 2 + tree.levels; ++step) {
    update_step<<<blocks_for(n, block_threads), block_threads, 0, on>>>(tree, items, step);
    check(cudaGetLastError(), "launch");
  }
}

void tree_rebuild_cuda(const DeviceTree& tree, void* stream) {
  const OnDevice guard(tree.device);
  int64_t nodes = tree.capacity;
  for (int level = 0; level < tree.levels; ++level) {
    nodes = (nodes + 15) / 16;
    rebuild_level<<<blocks_for(nodes, block_threads), block_threads, 0, static_cast<cudaStream_t>(stream)>>>(
        tree, level, nodes);
    check(cudaGetLastError(), "launch");
  }
}

void tree_sample_cuda(const DeviceTree& tree, uint64_t seed, bool stratified, int64_t n, int64_t* index,
                      double* probability, void* stream) {
  if (n == 0) return;
  const OnDevice guard(tree.device);
  const Draw draw = {seed, stratified, n, index, probability};
  sample<<<blocks_for(n, block_threads), block_threads, 0, static_cast<cudaStream_t>(stream)>>>(tree, draw);
  check(cudaGetLastError(), "launch");
}

}  // namespace pyfast::sampling

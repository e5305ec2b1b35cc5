// The sum tree of tree.h on the GPU: the same sums, the same draws, bit for bit.
#pragma once
#include <cstdint>

namespace pyfast::sampling {

// Device memory. A level holds one entry per node, levels lie one after another: level 0 sums leaves, the last is the
// root. Its length is filled up to a multiple of 16, so that the children of a node are 16 aligned entries.
struct DeviceTree {
  static constexpr int max_levels = 8;

  float* leaves = nullptr;      // [⌈capacity / 16⌉ · 16], 0 behind the capacity
  double* sum = nullptr;        // [entries] of all levels, 0 where there is no node
  double* pre = nullptr;        // [entries] prefix sums within every 16
  float* low = nullptr;         // [entries] smallest positive leaf below; inf where there is none
  int32_t* claim = nullptr;     // [entries] the last update that recomputed the node; 0 at first
  int32_t* owner = nullptr;     // [leaves] all 0 between calls
  int64_t* positive = nullptr;  // [1] leaves above 0
  int32_t* flaw = nullptr;      // [1] set to 1 by an index out of range, 2 by a bad priority: such items are left out
  int64_t capacity = 0;
  int levels = 0;
  int64_t start[max_levels + 1] = {};  // entries of level l: start[l] … start[l + 1]
  int device = 0;
};

// Fills capacity, levels and start; throws Error on a capacity out of 1 … 2^31 - 1.
void lay_out(int64_t capacity, DeviceTree& tree);

// Each enqueues on `stream` (a cudaStream_t) and returns at once; Error where CUDA refuses the launch.
// index [n], priority [n] f32; the last of equal indices wins. `number` differs from call to call and is not 0.
void tree_update_cuda(const DeviceTree& tree, const int64_t* index, const float* priority, int64_t n, int32_t number,
                      void* stream);
void tree_rebuild_cuda(const DeviceTree& tree, void* stream);  // every node, from the leaves; `positive` is left alone

// `seed` is folded with the step. Without a positive leaf: index -1 and probability NaN.
void tree_sample_cuda(const DeviceTree& tree, uint64_t seed, bool stratified, int64_t n, int64_t* index,
                      double* probability, void* stream);

}  // namespace pyfast::sampling

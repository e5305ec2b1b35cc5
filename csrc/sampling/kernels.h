// The table of hot loops of the sampling family, once per instruction set; all give the same bits. No standard-library
// types cross it, so that the linker can never share code compiled for one instruction set with another.
#pragma once
#include <cstdint>

#include "core/array.h"
#include "core/isa.h"

namespace pyfast::sampling {

// A sum tree to draw from: nodes of 16 children, level 0 are the leaves.
struct TreeView {
  const float* leaves;       // [⌈capacity / 16⌉, 16]
  const double* const* pre;  // pre[l], 1 <= l < levels: [nodes, 16] prefix sums of the nodes of level l
  int levels;
  double total;
};

struct DrawArgs {
  uint64_t seed;        // folded with the step
  bool stratified;      // u = (b + U) / n, else U
  int64_t n;            // draws of the whole call
  int64_t first;        // b of the first of these
  int64_t count;        // of these
  int64_t* index;       // [count]
  double* probability;  // [count]
};

struct Kernels {
  const char* name;

  void (*draw)(const TreeView& tree, const DrawArgs& args);

  // keys[i] = key(index[i])
  void (*hash_keys)(uint64_t state, const int64_t* index, int64_t n, int64_t* keys);
};

const Kernels& kernels_for(Isa isa);

namespace scalar {
const Kernels& table();
}
namespace avx2 {
const Kernels& table();
}
namespace avx512 {
const Kernels& table();
}

}  // namespace pyfast::sampling

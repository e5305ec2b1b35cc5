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

// Rows of features [n, d], contiguous; f32, f16, bf16 or f64.
struct Features {
  const char* data;
  DType dtype;
  int64_t n, d;
};

// What one row x gives against y. Summed in float64 over eight lanes i mod 8, then ((0+4)+(2+6)) + ((1+5)+(3+7)).
enum class Reduce : int {
  dot,       // Σ x y, products rounded before they are added
  product,   // Σ x y where y is a row of the same dtype: exact products, except in f64
  square,    // Σ x x, likewise
  distance,  // Σ (x - y)², differences and squares rounded
};

struct Kernels {
  const char* name;

  void (*draw)(const TreeView& tree, const DrawArgs& args);

  // keys[i] = key(index[i])
  void (*hash_keys)(uint64_t state, const int64_t* index, int64_t n, int64_t* keys);

  // out[i] = reduce(features[rows[i]], y) for i < count; y [d, filled up to a multiple of 8 with zeros]
  void (*reduce)(Reduce what, const Features& x, const int64_t* rows, int64_t count, const double* y, double* out);

  // sum[c] += features[rows[i]][c] for c in [from, to), i = 0, 1, …, count - 1 in this order; rows null: row i
  void (*add_rows)(const Features& x, const int64_t* rows, int64_t count, int64_t from, int64_t to, double* sum);
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

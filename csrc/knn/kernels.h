// The table of hot loops that exists once per instruction set. Contracts only; no standard-library types cross it,
// so that the linker can never share code compiled for one instruction set with another.
#pragma once
#include <cstdint>

#include "core/array.h"
#include "core/isa.h"

namespace pyfast::knn {

constexpr int max_tile = 16;  // arrays of a query tile are padded to this many rows

// Candidates of one query: rows whose score interval [lower, upper] reaches the current limit.
struct Slot {
  float* lower;   // [capacity]
  float* upper;   // [capacity]
  uint32_t* row;  // [capacity] row number in the bank
  int32_t count;
  int32_t trigger;  // when count exceeds it, `full` is called; at most capacity - panel rows
  int32_t lock;     // 0 free, 1 held; threads that scan different blocks share the slot
};

// A tile of queries, interleaved for the kernel.
// |exact - screened score| <= alpha * rho_max + beta * norm_max + bias_max + eta  (docs/kernels.md, the bound)
struct Tile {
  const uint32_t* packed;  // [width][mr] words: one float, or a pair of bfloat16
  int32_t mr;              // kernel rows, >= rows
  int32_t rows;            // queries in the tile
  float* limit;            // [max_tile] lower bound on the k-th best score; only ever raised
  const float* alpha;      // [max_tile]
  const float* beta;       // [max_tile]
  const float* eta;        // [max_tile]
  Slot* slots;             // [rows]
};

// Consecutive panels of database rows, each [width][nr] words.
struct Panels {
  const uint32_t* words;  // [count][width][nr]
  const float* bias;      // [count][nr]; -inf marks padding and rows that take the exact side path
  const float* rho_max;   // [count]
  const float* norm_max;  // [count]
  const float* bias_max;  // [count] largest bound on the error of a bias
  int64_t count;
  int64_t width;  // words per row
  uint32_t first_row;
};

struct ScanArgs {
  Panels panels;
  const Tile* tiles;
  int64_t tile_count;
  bool top1;                                              // k = 1: every hit raises the limit at once
  void (*full)(void* context, Slot* slot, float* limit);  // called with the slot's lock held
  void* context;
};

struct RowMeta {
  float norm2;  // squared norm of the transformed row, relative error below (d / 4 + 8) 2^-24
  float rho2;   // squared norm of what rounding to the stored words lost, likewise
};

struct Kernels {
  const char* name;
  int nr;        // rows of a panel
  int max_mr;    // rows of the largest query tile
  int per_word;  // features per 32-bit word: 1 (float) or 2 (bfloat16)

  int (*tile_rows)(int64_t queries_left);  // smallest kernel that takes them, or max_mr

  // dst[i] = src[i * stride] as float; src of type f32, f16 or bf16
  void (*to_float)(const void* src, DType dtype, int64_t stride, int64_t d, float* dst);

  // out = words of t = x * scale - mean (in float) rounded to the stored precision, zeros up to out_width >= d
  // rounded up to 16; mean has d rounded up to 16 elements, zeros behind the d-th
  RowMeta (*transform)(const float* x, int64_t d, float scale, const float* mean, uint32_t* out, int64_t out_width);

  // dst[w * ld + r] = src[r * src_ld + w] for r < rows <= 16, w < width; src_ld is a multiple of 16
  void (*interleave)(const uint32_t* src, int rows, int64_t src_ld, uint32_t* dst, int64_t ld, int64_t width);

  void (*scan)(const ScanArgs& args);

  // A value v with at least k of x[0, n) >= v, close to the k-th largest; n >= k >= 1
  float (*kth_bound)(const float* x, int32_t n, int32_t k);

  // float64 sums in a fixed order: lane i mod 8, fused multiply-add, then ((0+4)+(2+6)) + ((1+5)+(3+7))
  void (*squared_distance)(const float* q, const float* const* rows, int count, int64_t d, double* out);
  void (*product)(const float* q, const float* const* rows, int count, int64_t d, double* dot, double* norm2);

  // sum[i] += scale[r] * rows[r][i] for r = 0, 1, … in this order, every operation rounded to float64
  void (*add_rows)(double* sum, const float* const* rows, const double* scale, int count, int64_t d);
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
namespace avx512bf16 {
const Kernels& table();
}

}  // namespace pyfast::knn

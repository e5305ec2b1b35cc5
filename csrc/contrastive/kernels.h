// The table of hot loops that exists once per instruction set. Contracts only; no standard-library types cross it,
// so that the linker can never share code compiled for one instruction set with another.
//
// A tile is mr rows of one side against nr rows of the other: s[r * nr + c] = scale * <a_r, b_c> + bias as floats,
// -inf where a pair does not count. A word is one float, or a pair of bfloat16 neighbours along the summed axis.
#pragma once
#include <cstdint>

#include "core/array.h"
#include "core/isa.h"

namespace pyfast::contrastive {

constexpr int max_mr = 16, max_nr = 32;  // arrays of a tile's rows and columns have room for so many

// Running statistics of a softmax: sum = Σ exp(s - max), cross = Σ exp(s - max) (s - other).
struct Running {
  float* max;  // null where this side is not wanted
  float* sum;
  float* cross;  // null without `other`
};

struct SoftTile {
  const float* s;      // [mr][nr]
  const float* other;  // [mr][nr] or null
  Running rows;        // [max_mr]
  Running cols;        // [nr]
};

// One side's softmax in the gradient: coef * exp(s - max).
struct Soft {
  const float* max;  // null where this side has no part
  const float* coef;
  float top, low;  // largest and smallest of max in the tile
};

struct PullTile {
  const float* s;  // [mr][nr]
  Soft rows;       // [mr]
  Soft cols;       // [nr]
  float* out;      // [mr][nr] coef_r exp(s - max_r) + coef_c exp(s - max_c), written or added
  bool add;
};

struct IdTile {
  const int32_t* row_id;  // [mr]
  const int32_t* col_id;  // [nr]
};

struct SigmoidSums {
  double loss;    // Σ softplus(s) - [positive] s
  double slopes;  // Σ sigmoid(s) - [positive]
  double moment;  // Σ (sigmoid(s) - [positive]) s
};

struct Kernels {
  const char* name;
  int mr, nr;    // rows and columns of a tile
  int per_word;  // values per 32-bit word: 1 (float) or 2 (bfloat16)

  // tile = scale * Σ_w a[w][mr] · b[w][nr] + bias
  void (*product)(const uint32_t* a, const uint32_t* b, int64_t words, float scale, float bias, float* tile);

  // out[r * ld + c] += Σ_w a[w][mr] · b[w][nr] for r < rows, c < cols
  void (*product_add)(const uint32_t* a, const uint32_t* b, int64_t words, float* out, int64_t ld, int rows, int cols);

  // out[c * ld + r] += the same
  void (*product_add_transposed)(const uint32_t* a, const uint32_t* b, int64_t words, float* out, int64_t ld, int rows,
                                 int cols);

  void (*soft_stats)(const SoftTile& tile);
  void (*soft_pull)(const PullTile& tile);

  // into = into and from together; count is a multiple of 32, cross only where both have it
  void (*merge)(const Running& into, const Running& from, int64_t count);

  // Sums of s over positives, added to row_sum [mr] and col_sum [nr] (either may be null)
  void (*positive_sums)(const float* s, const IdTile& ids, double* row_sum, double* col_sum);
  // out -= row_coef[r] + col_coef[c] where positive (either may be null)
  void (*positive_pull)(const IdTile& ids, const float* row_coef, const float* col_coef, float* out);

  // s becomes sigmoid(s) - [positive]
  SigmoidSums (*sigmoid)(float* s, const IdTile& ids);

  // true_max[r] = max(true_max[r], s[r][c]), likewise columns (either may be null)
  void (*true_max)(const float* s, float* row_max, float* col_max);

  // The tile as words of the two products that use it, zero work for a null pointer:
  // rows [mr / per_word][nr] at `by_row` (pairs of rows), columns [nr / per_word][mr] at `by_col` (pairs of columns)
  void (*store)(const float* tile, uint32_t* by_row, uint32_t* by_col);

  // dst[i] = src[i * stride] as float; src of type f32, f16 or bf16
  void (*to_float)(const void* src, DType dtype, int64_t stride, int64_t d, float* dst);

  // Words of x [d], each of `per_word` neighbouring features, zeros up to `width` words
  void (*to_words)(const float* x, int64_t d, uint32_t* out, int64_t width);

  // dst[w * ld + r] = src[r * src_ld + w] for r < rows <= 16, w < width; src_ld is a multiple of 16
  void (*interleave)(const uint32_t* src, int rows, int64_t src_ld, uint32_t* dst, int64_t ld, int64_t width);

  // Σ x g in float64, then g *= scale
  double (*dot_and_scale)(const float* x, float* g, int64_t d, float scale);

  // Rows x0, x1 (x1 is used with per_word = 2 only) as words in panels of `width` features:
  // out[p * panel_stride + f] for feature p * width + f < d, zeros behind the last feature
  void (*pack_features)(const float* x0, const float* x1, int64_t d, int width, uint32_t* out, int64_t panel_stride);
};

// The kernels of an instruction set; bfloat16 words where asked for and where the processor multiplies them.
const Kernels& kernels_for(Isa isa, bool bfloat16);

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

}  // namespace pyfast::contrastive

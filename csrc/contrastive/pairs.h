// Pairwise objectives on the CPU without the N x M matrix: s_ij = scale <a_i, b_j> + bias, tile by tile.
#pragma once
#include <cstdint>
#include <vector>

#include "contrastive/sweep.h"

namespace pyfast::contrastive {

// Ids of rows and columns as 32-bit codes: a pair is positive where they are equal. Room behind for whole tiles.
struct Ids {
  std::vector<int32_t> rows, cols;
  std::vector<int32_t> row_low, row_high;  // per group of `block_multiple` rows: their range
  std::vector<int32_t> col_low, col_high;
  Ids(const int64_t* row_ids, int64_t n, const int64_t* col_ids, int64_t m);
  bool may_match(const Tile& tile) const;
  IdTile at(const Tile& tile) const { return {rows.data() + tile.i, cols.data() + tile.j}; }
};

struct SideStats {
  float* max;   // [n] null where the side is not wanted
  double* sum;  // [n] Σ exp(s - max)
  double* pos;  // [n] Σ s over positives
};

struct SidePull {
  const float* max;   // [n] null where the side has no part
  const float* coef;  // [n] contributes coef exp(s - max)
  const float* pos;   // [n] subtracted where positive
};

struct StatsArgs {
  Engine engine;
  Product product;
  const int64_t* row_ids;  // [N]
  const int64_t* col_ids;  // [M]
  Exclude exclude;
  bool symmetric;  // b is a: tiles on and above the diagonal, row side only
  SideStats rows, cols;
};
void pair_stats(const StatsArgs& args);

// Gradients hold the factor `scale`; null where not wanted.
struct Gradients {
  float* da;       // [N, D]
  float* db;       // [M, D]
  double* dscale;  // Σ dS_ij <a_i, b_j>
};

struct GradArgs {
  Engine engine;
  Product product;
  const int64_t* row_ids;
  const int64_t* col_ids;
  Exclude exclude;
  bool symmetric;  // row side only; it serves the columns too, and da receives both parts
  SidePull rows, cols;
  Gradients out;
};
void pair_grads(const GradArgs& args);

// row_weight Σ_i (log-sum-exp_j s_ij - s_i,positive) + col_weight times the same of columns, and its gradients at once;
// every row has exactly one positive. A weight of 0 leaves its side out.
struct DirectArgs {
  Engine engine;
  Product product;
  const int64_t* row_ids;
  const int64_t* col_ids;
  bool symmetric;  // b is a, each row left out of its own sum; rows only
  double row_weight, col_weight;
  Gradients out;
};
double contrast_directly(const DirectArgs& args);

// Where neither da nor db is wanted, dscale needs scale != 0.
struct SigmoidArgs {
  Engine engine;
  Product product;
  const int64_t* row_ids;
  const int64_t* col_ids;
  Gradients out;
  double* loss;   // Σ softplus(-y s), y = 1 on positives, else -1
  double* dbias;  // null where not wanted
};
void siglip(const SigmoidArgs& args);

struct KLStats {
  float *s_max, *t_max;   // [n] null where the side is not wanted
  double *s_sum, *t_sum;  // [n]
  double* cross;          // [n] Σ exp(t - t_max) (t - s)
  uint8_t* right;         // [n] or null: no t_ij exceeds the teacher's diagonal
};

struct KLStatsArgs {
  Engine engine;
  Product student, teacher;
  Exclude exclude;
  int64_t shift;  // the diagonal: j - i == shift
  KLStats rows, cols;
};
void kl_stats(const KLStatsArgs& args);

struct KLPull {
  const float *s_max, *s_coef, *t_max, *t_coef;  // [n] null where the side has no part
};

struct KLGradArgs {
  Engine engine;
  Product student, teacher;
  Exclude exclude;
  KLPull rows, cols;
  Gradients out;
};
void kl_grads(const KLGradArgs& args);

}  // namespace pyfast::contrastive

// One side of a product: the caller's rows, or reference rows packed once.
#pragma once
#include <cstdint>
#include <memory>

#include "contrastive/kernels.h"

namespace pyfast::contrastive {

struct Free {
  void operator()(uint32_t* p) const;
};
using Words = std::unique_ptr<uint32_t[], Free>;  // 64-byte aligned

Words new_words(int64_t count);

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

// Blocks of rows are whole tiles and whole panels on every instruction set.
constexpr int64_t block_multiple = 96;

struct Engine {
  const Kernels* tile;
  int threads;

  // Threads worth waking for so many multiply-adds: each should have some 40 microseconds of work.
  int threads_for(double operations) const {
    const double worth = operations / 4e6;
    return worth >= threads ? threads : worth < 1 ? 1 : static_cast<int>(worth);
  }
};

constexpr double packing_cost = 32;  // multiply-adds that take as long as packing one value

// The caller's rows, read where they lie: any strides, three float types.
struct Rows {
  const char* data = nullptr;
  DType dtype = DType::f32;  // f32, f16 or bf16
  int64_t rows = 0, d = 0;
  int64_t row_stride = 0, column_stride = 1;  // in elements

  // Row i as contiguous floats: in place where possible, else converted into scratch [d].
  const float* get(int64_t i, float* scratch, const Kernels& kernels) const {
    const char* p = data + i * row_stride * dtype_size(dtype);
    if (dtype == DType::f32 && column_stride == 1) return reinterpret_cast<const float*>(p);
    kernels.to_float(p, dtype, column_stride, d, scratch);
    return scratch;
  }
};

// Frozen rows in both layouts a product needs.
struct Bank {
  int64_t n = 0, d = 0;
  const Kernels* kernels;  // the words are theirs
  Words by_row;            // [n / nr][d words][nr], rows summed over features
  Words by_feature;        // [d / nr][n words][nr], features summed over rows
  int64_t feature_stride = 0;
  Bank(const Rows& rows, const Engine& engine);
  int64_t bytes() const;
};

struct Operand {
  Rows rows;
  const Bank* bank = nullptr;
  int64_t n() const { return bank ? bank->n : rows.rows; }
  int64_t d() const { return bank ? bank->d : rows.d; }
};

// Rows [first, first + count) packed for products over features: groups of `group` rows, [d words][group] each.
void pack_rows(const Engine& engine, const Rows& rows, int64_t first, int64_t count, int group, uint32_t* out);

// The same rows packed for products over rows: panels of `width` features, [row words][width] each, `stride` apart.
// Rows up to `padded` are zero.
void pack_by_feature(const Engine& engine, const Rows& rows, int64_t first, int64_t count, int64_t padded, int width,
                     uint32_t* out, int64_t stride);

}  // namespace pyfast::contrastive

// The caller's rows, read where they lie: any row stride, any column stride, three float types, optional row numbers.
#pragma once
#include <cstdint>

#include "core/array.h"
#include "knn/kernels.h"

namespace pyfast::knn {

struct Rows {
  const char* data = nullptr;  // [rows, d]
  DType dtype = DType::f32;    // f32, f16 or bf16
  int64_t rows = 0, d = 0;
  int64_t row_stride = 0, column_stride = 1;  // in elements
  const int64_t* ids = nullptr;               // [count] ascending row numbers: search only these; null means all rows
  int64_t count = 0;                          // rows searched: the length of ids, or `rows`

  int64_t id(int64_t i) const { return ids ? ids[i] : i; }

  // Row i as contiguous floats: in place where possible, else converted into scratch [d].
  const float* get(int64_t i, float* scratch, const Kernels& kernels) const {
    const char* p = data + id(i) * row_stride * dtype_size(dtype);
    if (dtype == DType::f32 && column_stride == 1) return reinterpret_cast<const float*>(p);
    kernels.to_float(p, dtype, column_stride, d, scratch);
    return scratch;
  }
};

// A view of a checked array [rows, d].
inline Rows rows_of(const Array& a) {
  return {a.data, a.dtype, a.shape[0], a.shape[1], a.strides[0], a.strides[1], nullptr, a.shape[0]};
}

}  // namespace pyfast::knn

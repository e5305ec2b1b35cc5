// float words, AVX-512 F/BW/DQ/VL.
#define PYFAST_ISA_NAMESPACE avx512
#include "knn/vector_avx512.h"
//
#include "knn/kernels_impl.h"

namespace pyfast::knn::avx512 {
const Kernels& table() {
  static constexpr Kernels kernels = make_table("avx512");
  return kernels;
}
}  // namespace pyfast::knn::avx512

// float words, AVX-512 F/BW/DQ/VL.
#define PYFAST_ISA_NAMESPACE avx512
#include "contrastive/vector_avx512.h"
//
#include "contrastive/kernels_impl.h"

namespace pyfast::contrastive::avx512 {
const Kernels& table() {
  static constexpr Kernels kernels = make_table("avx512");
  return kernels;
}
}  // namespace pyfast::contrastive::avx512

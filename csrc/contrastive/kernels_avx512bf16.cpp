// bfloat16 pairs, AVX-512 BF16: twice the multiply rate and half the bytes of float.
#define PYFAST_ISA_NAMESPACE avx512bf16
#define PYFAST_BF16 1
#include "contrastive/vector_avx512.h"
//
#include "contrastive/kernels_impl.h"

namespace pyfast::contrastive::avx512bf16 {
const Kernels& table() {
  static constexpr Kernels kernels = make_table("avx512_bf16");
  return kernels;
}
}  // namespace pyfast::contrastive::avx512bf16

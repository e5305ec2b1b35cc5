#include "knn/run_kernels.h"

namespace pyfast::knn {

const RunKernels& run_kernels_for(Isa isa) {
#if defined(PYFAST_X86)
  switch (isa) {
    case Isa::avx512_bf16:
    case Isa::avx512: return avx512::run_table();
    case Isa::avx2: return avx2::run_table();
    default: break;
  }
#endif
  (void)isa;
  return scalar::run_table();
}

}  // namespace pyfast::knn

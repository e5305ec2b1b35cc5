#include "sampling/kernels.h"

namespace pyfast::sampling {

const Kernels& kernels_for(Isa isa) {
#if defined(PYFAST_X86)
  switch (isa) {
    case Isa::avx512_bf16:
    case Isa::avx512: return avx512::table();
    case Isa::avx2: return avx2::table();
    default: break;
  }
#endif
  (void)isa;
  return scalar::table();
}

}  // namespace pyfast::sampling

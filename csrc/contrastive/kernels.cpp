#include "contrastive/kernels.h"

namespace pyfast::contrastive {

const Kernels& kernels_for(Isa isa, bool bfloat16) {
#if defined(PYFAST_X86)
  switch (isa) {
    case Isa::avx512_bf16: return bfloat16 ? avx512bf16::table() : avx512::table();
    case Isa::avx512: return avx512::table();
    case Isa::avx2: return avx2::table();
    default: break;
  }
#endif
  (void)isa;
  (void)bfloat16;
  return scalar::table();
}

}  // namespace pyfast::contrastive

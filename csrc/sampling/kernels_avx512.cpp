#include <immintrin.h>

#include "sampling/kernels.h"

#define PYFAST_ISA_NAMESPACE avx512

namespace pyfast::sampling::avx512 {
namespace {

inline int count_le(const double* line, double r) {
  const __m512d x = _mm512_set1_pd(r);
  const unsigned low = _mm512_cmp_pd_mask(_mm512_load_pd(line), x, _CMP_LE_OQ);
  const unsigned high = _mm512_cmp_pd_mask(_mm512_load_pd(line + 8), x, _CMP_LE_OQ);
  return __builtin_popcount(low | high << 8);
}

}  // namespace
}  // namespace pyfast::sampling::avx512

#include "sampling/draw_impl.h"

namespace pyfast::sampling::avx512 {
const Kernels& table() {
  static constexpr Kernels kernels = {"avx512", draw, hash_keys};
  return kernels;
}
}  // namespace pyfast::sampling::avx512

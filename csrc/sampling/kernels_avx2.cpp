#include <immintrin.h>

#include "sampling/kernels.h"

#define PYFAST_ISA_NAMESPACE avx2

namespace pyfast::sampling::avx2 {
namespace {

inline int count_le(const double* line, double r) {
  const __m256d x = _mm256_set1_pd(r);
  int mask = 0;
  for (int i = 0; i < 4; ++i)
    mask |= _mm256_movemask_pd(_mm256_cmp_pd(_mm256_load_pd(line + 4 * i), x, _CMP_LE_OQ)) << (4 * i);
  return __builtin_popcount(static_cast<unsigned>(mask));
}

}  // namespace
}  // namespace pyfast::sampling::avx2

#include "sampling/draw_impl.h"

namespace pyfast::sampling::avx2 {
const Kernels& table() {
  static constexpr Kernels kernels = {"avx2", draw, hash_keys};
  return kernels;
}
}  // namespace pyfast::sampling::avx2

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

constexpr int R = 4;

struct D8 {
  __m256d a, b;  // lanes 0-3 and 4-7
  static D8 widen(__m256 x) {
    return {_mm256_cvtps_pd(_mm256_castps256_ps128(x)), _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1))};
  }
  static D8 zero() { return {_mm256_setzero_pd(), _mm256_setzero_pd()}; }
  static D8 load(const double* p) { return {_mm256_loadu_pd(p), _mm256_loadu_pd(p + 4)}; }
  static D8 load(const float* p) { return {_mm256_cvtps_pd(_mm_loadu_ps(p)), _mm256_cvtps_pd(_mm_loadu_ps(p + 4))}; }
  static D8 load_half(const uint16_t* p) {
    return widen(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  static D8 load_bf16(const uint16_t* p) {
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return widen(_mm256_castsi256_ps(_mm256_slli_epi32(wide, 16)));
  }
  static void store(double* p, D8 x) {
    _mm256_storeu_pd(p, x.a);
    _mm256_storeu_pd(p + 4, x.b);
  }
  static D8 add(D8 x, D8 y) { return {_mm256_add_pd(x.a, y.a), _mm256_add_pd(x.b, y.b)}; }
  static D8 sub(D8 x, D8 y) { return {_mm256_sub_pd(x.a, y.a), _mm256_sub_pd(x.b, y.b)}; }
  static D8 mul(D8 x, D8 y) { return {_mm256_mul_pd(x.a, y.a), _mm256_mul_pd(x.b, y.b)}; }
  static D8 fma(D8 x, D8 y, D8 z) { return {_mm256_fmadd_pd(x.a, y.a, z.a), _mm256_fmadd_pd(x.b, y.b, z.b)}; }
  static double sum(D8 x) {
    const __m256d h = _mm256_add_pd(x.a, x.b);
    const __m128d q = _mm_add_pd(_mm256_castpd256_pd128(h), _mm256_extractf128_pd(h, 1));
    return _mm_cvtsd_f64(q) + _mm_cvtsd_f64(_mm_unpackhi_pd(q, q));
  }
};

}  // namespace
}  // namespace pyfast::sampling::avx2

#include "sampling/draw_impl.h"
#include "sampling/rows_impl.h"

namespace pyfast::sampling::avx2 {
const Kernels& table() {
  static constexpr Kernels kernels = {"avx2", draw, hash_keys, reduce, add_rows};
  return kernels;
}
}  // namespace pyfast::sampling::avx2

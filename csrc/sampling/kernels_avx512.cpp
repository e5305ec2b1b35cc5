#include <immintrin.h>

#include "sampling/kernels.h"

#if defined(__GNUC__) && !defined(__clang__)
// GCC's own intrinsics start from `__m512 y = y`; its warning about that is no news.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#define PYFAST_ISA_NAMESPACE avx512

namespace pyfast::sampling::avx512 {
namespace {

inline int count_le(const double* line, double r) {
  const __m512d x = _mm512_set1_pd(r);
  const unsigned low = _mm512_cmp_pd_mask(_mm512_load_pd(line), x, _CMP_LE_OQ);
  const unsigned high = _mm512_cmp_pd_mask(_mm512_load_pd(line + 8), x, _CMP_LE_OQ);
  return __builtin_popcount(low | high << 8);
}

constexpr int R = 8;

struct D8 {
  __m512d v;
  static D8 zero() { return {_mm512_setzero_pd()}; }
  static D8 load(const double* p) { return {_mm512_loadu_pd(p)}; }
  static D8 load(const float* p) { return {_mm512_cvtps_pd(_mm256_loadu_ps(p))}; }
  static D8 load_half(const uint16_t* p) {
    return {_mm512_cvtps_pd(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
  }
  static D8 load_bf16(const uint16_t* p) {
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return {_mm512_cvtps_pd(_mm256_castsi256_ps(_mm256_slli_epi32(wide, 16)))};
  }
  static void store(double* p, D8 x) { _mm512_storeu_pd(p, x.v); }
  static D8 add(D8 a, D8 b) { return {_mm512_add_pd(a.v, b.v)}; }
  static D8 sub(D8 a, D8 b) { return {_mm512_sub_pd(a.v, b.v)}; }
  static D8 mul(D8 a, D8 b) { return {_mm512_mul_pd(a.v, b.v)}; }
  static D8 fma(D8 a, D8 b, D8 c) { return {_mm512_fmadd_pd(a.v, b.v, c.v)}; }
  static double sum(D8 a) {
    const __m256d h = _mm256_add_pd(_mm512_castpd512_pd256(a.v), _mm512_extractf64x4_pd(a.v, 1));  // i + (i+4)
    const __m128d q = _mm_add_pd(_mm256_castpd256_pd128(h), _mm256_extractf128_pd(h, 1));
    return _mm_cvtsd_f64(q) + _mm_cvtsd_f64(_mm_unpackhi_pd(q, q));
  }
};

}  // namespace
}  // namespace pyfast::sampling::avx512

#include "sampling/draw_impl.h"
#include "sampling/rows_impl.h"

namespace pyfast::sampling::avx512 {
const Kernels& table() {
  static constexpr Kernels kernels = {"avx512", draw, hash_keys, reduce, add_rows};
  return kernels;
}
}  // namespace pyfast::sampling::avx512

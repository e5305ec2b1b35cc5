// k-means runs in AVX-512.
#include <immintrin.h>

#include <cstdint>

#if defined(__GNUC__) && !defined(__clang__)
// GCC's own intrinsics start from `__m512 y = y`; its warning about that is no news.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#define PYFAST_ISA_NAMESPACE avx512

namespace pyfast::knn::avx512 {
namespace {

constexpr int ROWS1 = 12, ROWS2 = 6;

struct F16 {
  __m512 v;
  static F16 zero() { return {_mm512_setzero_ps()}; }
  static F16 set1(float x) { return {_mm512_set1_ps(x)}; }
  static F16 load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static F16 load_tail(const float* p, int64_t n) {
    return {_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p)};
  }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  static F16 add(F16 a, F16 b) { return {_mm512_add_ps(a.v, b.v)}; }
  static F16 sub(F16 a, F16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
  static F16 mul(F16 a, F16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
  static F16 fma(F16 a, F16 b, F16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
  static F16 mul_add(F16 x, F16 y, F16 z) { return fma(x, y, z); }
  static F16 max(F16 a, F16 b) { return {_mm512_max_ps(a.v, b.v)}; }
  static F16 sqrt(F16 a) { return {_mm512_sqrt_ps(a.v)}; }
  static float reduce_min(F16 a) { return _mm512_reduce_min_ps(a.v); }
  static unsigned mask_le(F16 a, F16 b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ); }
  static float sum(F16 a) {
    const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
    __m128 m = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    m = _mm_add_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_add_ss(m, _mm_shuffle_ps(m, m, 1)));
  }
};

}  // namespace
}  // namespace pyfast::knn::avx512

#include "knn/run_kernels_impl.h"

// The vocabulary of kernels_impl.h in AVX-512. With PYFAST_BF16 a word is a pair of bfloat16, else one float.
#include <immintrin.h>

#include "core/transpose_avx512.h"
#include "knn/kernels.h"

#if defined(__GNUC__) && !defined(__clang__)
// GCC's own intrinsics start from `__m512 y = y`; its warning about that is no news.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

namespace pyfast::knn::PYFAST_ISA_NAMESPACE {
namespace {

struct V {
  static constexpr int W = 16, NV = 2, MAX_MR = 12;
  using Vec = __m512;
  static Vec zero() { return _mm512_setzero_ps(); }
  static Vec set1(float x) { return _mm512_set1_ps(x); }
  static Vec load(const float* p) { return _mm512_loadu_ps(p); }
  static Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
  static Vec sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
  static Vec mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
  static float reduce_add(Vec a) { return _mm512_reduce_add_ps(a); }
  static Vec max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
  static float reduce_max(Vec a) { return _mm512_reduce_max_ps(a); }
  static bool any_ge(Vec a, Vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ) != 0; }
#if defined(PYFAST_BF16)
  static constexpr int PER_WORD = 2;
  using Words = __m512bh;
  static Words load_words(const uint32_t* p) { return (__m512bh)_mm512_loadu_si512(p); }
  static Words broadcast(const uint32_t* p) { return (__m512bh)_mm512_set1_epi32(static_cast<int>(*p)); }
  static Vec mul_add(Vec acc, Words x, Words y) { return _mm512_dpbf16_ps(acc, x, y); }
  static Vec store_rounded(Vec x, uint32_t* out, int64_t i) {
    const __m256i half = (__m256i)_mm512_cvtneps_pbh(x);  // to nearest even; denormals become zero
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i / 2), half);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
  }
#else
  static constexpr int PER_WORD = 1;
  using Words = __m512;
  static Words load_words(const uint32_t* p) { return _mm512_loadu_ps(reinterpret_cast<const float*>(p)); }
  static Words broadcast(const uint32_t* p) { return _mm512_set1_ps(*reinterpret_cast<const float*>(p)); }
  static Vec mul_add(Vec acc, Words x, Words y) { return _mm512_fmadd_ps(x, y, acc); }
  static Vec store_rounded(Vec x, uint32_t* out, int64_t i) {
    _mm512_storeu_ps(reinterpret_cast<float*>(out + i), x);
    return x;
  }
#endif

  // Writes whole vectors behind the kept lanes: the arrays have room for one panel more than their count.
  static int keep(Vec score, float least, float slack, uint32_t first_row, float* lower, float* upper, uint32_t* row) {
    const __mmask16 m = _mm512_cmp_ps_mask(score, set1(least), _CMP_GE_OQ);
    if (!m) return 0;
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i rows = _mm512_add_epi32(_mm512_set1_epi32(static_cast<int>(first_row)), lane);
    const Vec kept = _mm512_maskz_compress_ps(m, score);
    _mm512_storeu_ps(lower, _mm512_sub_ps(kept, set1(slack)));
    _mm512_storeu_ps(upper, _mm512_add_ps(kept, set1(slack)));
    _mm512_storeu_si512(row, _mm512_maskz_compress_epi32(m, rows));
    return __builtin_popcount(m);
  }

  static void transpose(const uint32_t* src, int rows, int64_t src_ld, uint32_t* dst, int64_t ld, int64_t width) {
    transpose_words(src, rows, src_ld, dst, ld, width);
  }

  static int64_t half_to_float(const uint16_t* x, int64_t d, float* out) {
    int64_t i = 0;
    for (; i + 16 <= d; i += 16)
      _mm512_storeu_ps(out + i, _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i))));
    return i;
  }
};

struct D8 {
  __m512d v;
  static D8 set1(double x) { return {_mm512_set1_pd(x)}; }
  static D8 load(const float* p) { return {_mm512_cvtps_pd(_mm256_loadu_ps(p))}; }
  static D8 load_tail(const float* p, int64_t n) {
    const __mmask8 m = static_cast<__mmask8>((1u << n) - 1);
    return {_mm512_cvtps_pd(_mm256_maskz_loadu_ps(m, p))};
  }
  static D8 sub(D8 a, D8 b) { return {_mm512_sub_pd(a.v, b.v)}; }
  static D8 fma(D8 a, D8 b, D8 c) { return {_mm512_fmadd_pd(a.v, b.v, c.v)}; }
  static double sum(D8 a) {
    const __m256d h = _mm256_add_pd(_mm512_castpd512_pd256(a.v), _mm512_extractf64x4_pd(a.v, 1));  // i + (i+4)
    const __m128d q = _mm_add_pd(_mm256_castpd256_pd128(h), _mm256_extractf128_pd(h, 1));
    return _mm_cvtsd_f64(q) + _mm_cvtsd_f64(_mm_unpackhi_pd(q, q));
  }
};

}  // namespace
}  // namespace pyfast::knn::PYFAST_ISA_NAMESPACE

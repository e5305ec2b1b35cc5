// float words, AVX2 + FMA + F16C. Emulated bfloat16 would gain no arithmetic here.
#include <immintrin.h>

#include "core/transpose_avx2.h"
#include "knn/kernels.h"

#define PYFAST_ISA_NAMESPACE avx2

namespace pyfast::knn::avx2 {
namespace {

struct V {
  static constexpr int W = 8, NV = 2, MAX_MR = 6, PER_WORD = 1;
  using Vec = __m256;
  using Words = __m256;
  static Vec zero() { return _mm256_setzero_ps(); }
  static Vec set1(float x) { return _mm256_set1_ps(x); }
  static Vec load(const float* p) { return _mm256_loadu_ps(p); }
  static Vec add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
  static Vec sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
  static Vec mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
  static float reduce_add(Vec a) {
    __m128 m = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    m = _mm_add_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_add_ss(m, _mm_shuffle_ps(m, m, 1)));
  }
  static Vec store_rounded(Vec x, uint32_t* out, int64_t i) {
    _mm256_storeu_ps(reinterpret_cast<float*>(out + i), x);
    return x;
  }
  static Vec max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
  static float reduce_max(Vec a) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_shuffle_ps(m, m, 1)));
  }
  static bool any_ge(Vec a, Vec b) { return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ)) != 0; }
  static Words load_words(const uint32_t* p) { return _mm256_loadu_ps(reinterpret_cast<const float*>(p)); }
  static Words broadcast(const uint32_t* p) { return _mm256_broadcast_ss(reinterpret_cast<const float*>(p)); }
  static Vec mul_add(Vec acc, Words x, Words y) { return _mm256_fmadd_ps(x, y, acc); }

  static int keep(Vec score, float least, float slack, uint32_t first_row, float* lower, float* upper, uint32_t* row) {
    alignas(32) float s[8];
    _mm256_store_ps(s, score);
    int mask = _mm256_movemask_ps(_mm256_cmp_ps(score, set1(least), _CMP_GE_OQ)), n = 0;
    for (; mask; mask &= mask - 1, ++n) {
      const int lane = __builtin_ctz(static_cast<unsigned>(mask));
      lower[n] = s[lane] - slack;
      upper[n] = s[lane] + slack;
      row[n] = first_row + static_cast<uint32_t>(lane);
    }
    return n;
  }

  static void transpose(const uint32_t* src, int rows, int64_t src_ld, uint32_t* dst, int64_t ld, int64_t width) {
    transpose_words(src, rows, src_ld, dst, ld, width);
  }

  static int64_t half_to_float(const uint16_t* x, int64_t d, float* out) {
    int64_t i = 0;
    for (; i + 8 <= d; i += 8)
      _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i))));
    return i;
  }
};

struct D8 {
  __m256d a, b;  // lanes 0-3 and 4-7
  static D8 set1(double x) { return {_mm256_set1_pd(x), _mm256_set1_pd(x)}; }
  static D8 load(const float* p) { return {_mm256_cvtps_pd(_mm_loadu_ps(p)), _mm256_cvtps_pd(_mm_loadu_ps(p + 4))}; }
  static D8 load_tail(const float* p, int64_t n) {
    float x[8] = {};
    for (int64_t i = 0; i < n; ++i) x[i] = p[i];
    return load(x);
  }
  static D8 sub(D8 x, D8 y) { return {_mm256_sub_pd(x.a, y.a), _mm256_sub_pd(x.b, y.b)}; }
  static D8 fma(D8 x, D8 y, D8 z) { return {_mm256_fmadd_pd(x.a, y.a, z.a), _mm256_fmadd_pd(x.b, y.b, z.b)}; }
  static double sum(D8 x) {
    const __m256d h = _mm256_add_pd(x.a, x.b);
    const __m128d q = _mm_add_pd(_mm256_castpd256_pd128(h), _mm256_extractf128_pd(h, 1));
    return _mm_cvtsd_f64(q) + _mm_cvtsd_f64(_mm_unpackhi_pd(q, q));
  }
};

}  // namespace
}  // namespace pyfast::knn::avx2

#include "knn/kernels_impl.h"

namespace pyfast::knn::avx2 {
const Kernels& table() {
  static constexpr Kernels kernels = make_table("avx2");
  return kernels;
}
}  // namespace pyfast::knn::avx2

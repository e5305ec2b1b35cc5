// 6 × 16 tiles, AVX2 + FMA + F16C.
#include <immintrin.h>

#include "core/transpose_avx2.h"
#include "fisher/kernels.h"

#define PYFAST_ISA_NAMESPACE avx2

namespace pyfast::fisher::avx2 {
namespace {

struct V {
  static constexpr int W = 8, NV = 2, MR = 6, STEP = 2, T = 8;
  using Vec = __m256;
  static Vec zero() { return _mm256_setzero_ps(); }
  static Vec set1(float x) { return _mm256_set1_ps(x); }
  static Vec load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, Vec x) { _mm256_storeu_ps(p, x); }
  static Vec load_part(const float* p, int64_t n) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lane));
  }
  // In halves: a masked store costs far more than these on some processors.
  static void store_part(float* p, Vec x, int64_t n) {
    __m128 rest = _mm256_castps256_ps128(x);
    if (n & 4) {
      _mm_storeu_ps(p, rest);
      p += 4;
      rest = _mm256_extractf128_ps(x, 1);
    }
    if (n & 2) {
      _mm_storel_pi(reinterpret_cast<__m64*>(p), rest);
      p += 2;
      rest = _mm_movehl_ps(rest, rest);
    }
    if (n & 1) _mm_store_ss(p, rest);
  }
  static Vec add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
  static Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
  static Vec abs(Vec a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
  static Vec load_bf16(const uint16_t* p) {
    const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
  }
  static Vec load_half(const uint16_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }

  static void transpose(const float* src, int rows, int64_t src_ld, float* dst, int64_t ld, int64_t width) {
    transpose_words(reinterpret_cast<const uint32_t*>(src), rows, src_ld, reinterpret_cast<uint32_t*>(dst), ld, width);
  }
};

struct D8 {
  __m256d a, b;  // lanes 0-3 and 4-7
  static D8 zero() { return {_mm256_setzero_pd(), _mm256_setzero_pd()}; }
  static D8 load(const float* p) { return {_mm256_cvtps_pd(_mm_loadu_ps(p)), _mm256_cvtps_pd(_mm_loadu_ps(p + 4))}; }
  static D8 fma(D8 x, D8 y, D8 z) { return {_mm256_fmadd_pd(x.a, y.a, z.a), _mm256_fmadd_pd(x.b, y.b, z.b)}; }
  static double sum(D8 x) {
    const __m256d h = _mm256_add_pd(x.a, x.b);
    const __m128d q = _mm_add_pd(_mm256_castpd256_pd128(h), _mm256_extractf128_pd(h, 1));
    return _mm_cvtsd_f64(q) + _mm_cvtsd_f64(_mm_unpackhi_pd(q, q));
  }
};

}  // namespace
}  // namespace pyfast::fisher::avx2

#include "fisher/kernels_impl.h"

namespace pyfast::fisher::avx2 {
const Kernels& table() {
  static constexpr Kernels kernels = make_table("avx2");
  return kernels;
}
}  // namespace pyfast::fisher::avx2

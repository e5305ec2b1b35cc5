// 12 × 32 tiles: 24 of the 32 registers hold a sample's product.
#include <immintrin.h>

#include "core/transpose_avx512.h"
#include "fisher/kernels.h"

#if defined(__GNUC__) && !defined(__clang__)
// GCC's own intrinsics start from `__m512 y = y`; its warning about that is no news.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#define PYFAST_ISA_NAMESPACE avx512

namespace pyfast::fisher::avx512 {
namespace {

struct V {
  static constexpr int W = 16, NV = 2, MR = 12, STEP = 4, T = 16;
  using Vec = __m512;
  static __mmask16 first(int64_t n) { return static_cast<__mmask16>((1u << n) - 1); }
  static Vec zero() { return _mm512_setzero_ps(); }
  static Vec set1(float x) { return _mm512_set1_ps(x); }
  static Vec load(const float* p) { return _mm512_loadu_ps(p); }
  static Vec load_part(const float* p, int64_t n) { return _mm512_maskz_loadu_ps(first(n), p); }
  static void store(float* p, Vec x) { _mm512_storeu_ps(p, x); }
  static void store_part(float* p, Vec x, int64_t n) { _mm512_mask_storeu_ps(p, first(n), x); }
  static Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
  static Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
  static Vec abs(Vec a) { return _mm512_abs_ps(a); }
  static Vec load_bf16(const uint16_t* p) {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
  }
  static Vec load_half(const uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }

  static void transpose(const float* src, int rows, int64_t src_ld, float* dst, int64_t ld, int64_t width) {
    transpose_words(reinterpret_cast<const uint32_t*>(src), rows, src_ld, reinterpret_cast<uint32_t*>(dst), ld, width);
  }
};

struct D8 {
  __m512d v;
  static D8 zero() { return {_mm512_setzero_pd()}; }
  static D8 load(const float* p) { return {_mm512_cvtps_pd(_mm256_loadu_ps(p))}; }
  static D8 fma(D8 a, D8 b, D8 c) { return {_mm512_fmadd_pd(a.v, b.v, c.v)}; }
  static double sum(D8 a) {
    const __m256d h = _mm256_add_pd(_mm512_castpd512_pd256(a.v), _mm512_extractf64x4_pd(a.v, 1));  // i + (i+4)
    const __m128d q = _mm_add_pd(_mm256_castpd256_pd128(h), _mm256_extractf128_pd(h, 1));
    return _mm_cvtsd_f64(q) + _mm_cvtsd_f64(_mm_unpackhi_pd(q, q));
  }
};

}  // namespace
}  // namespace pyfast::fisher::avx512

#include "fisher/kernels_impl.h"

namespace pyfast::fisher::avx512 {
const Kernels& table() {
  static constexpr Kernels kernels = make_table("avx512");
  return kernels;
}
}  // namespace pyfast::fisher::avx512

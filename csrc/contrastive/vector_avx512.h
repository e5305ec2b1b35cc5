// The vocabulary of kernels_impl.h in AVX-512. With PYFAST_BF16 a word is a pair of bfloat16, else one float.
#include <immintrin.h>

#include "contrastive/kernels.h"
#include "core/transpose_avx512.h"

#if defined(__GNUC__) && !defined(__clang__)
// GCC's own intrinsics start from `__m512 y = y`; its warning about that is no news.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

namespace pyfast::contrastive::PYFAST_ISA_NAMESPACE {
namespace {

struct V {
  static constexpr int W = 16, MR = 12;
  using Vec = __m512;
  static Vec zero() { return _mm512_setzero_ps(); }
  static Vec set1(float x) { return _mm512_set1_ps(x); }
  static Vec load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, Vec x) { _mm512_storeu_ps(p, x); }
  static Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
  static Vec sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
  static Vec mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
  static Vec div(Vec a, Vec b) { return _mm512_div_ps(a, b); }
  static Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
  static Vec max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
  static Vec min(Vec a, Vec b) { return _mm512_min_ps(a, b); }
  static Vec round(Vec a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static Vec times_power(Vec a, Vec n) { return _mm512_scalef_ps(a, n); }
  static float reduce_add(Vec a) { return _mm512_reduce_add_ps(a); }
  static float reduce_max(Vec a) { return _mm512_reduce_max_ps(a); }
  static bool all_ge(Vec a, Vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ) == 0xffff; }
  static Vec where_negative(Vec test, Vec yes, Vec no) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(test, zero(), _CMP_LT_OQ), no, yes);
  }
  static Vec zero_where_zero(Vec test, Vec x) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(test, zero(), _CMP_NEQ_UQ), x);
  }
  static bool any_equal(const int32_t* ids, int32_t id) {
    return _mm512_cmpeq_epi32_mask(_mm512_loadu_si512(ids), _mm512_set1_epi32(id)) != 0;
  }
  static Vec where_equal(const int32_t* ids, int32_t id, Vec x) {
    return _mm512_maskz_mov_ps(_mm512_cmpeq_epi32_mask(_mm512_loadu_si512(ids), _mm512_set1_epi32(id)), x);
  }
  static Vec load_half(const uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static void transpose(const uint32_t* src, int rows, int64_t src_ld, uint32_t* dst, int64_t ld, int64_t width) {
    transpose_words(src, rows, src_ld, dst, ld, width);
  }
  static Vec choose_equal(const int32_t* ids, int32_t id, Vec yes, Vec no) {
    return _mm512_mask_blend_ps(_mm512_cmpeq_epi32_mask(_mm512_loadu_si512(ids), _mm512_set1_epi32(id)), no, yes);
  }
#if defined(PYFAST_BF16)
  static constexpr int PER_WORD = 2;
  using Words = __m512bh;
  static Words load_words(const uint32_t* p) { return (__m512bh)_mm512_loadu_si512(p); }
  static Words broadcast(const uint32_t* p) { return (__m512bh)_mm512_set1_epi32(static_cast<int>(*p)); }
  static Vec mul_add(Vec acc, Words x, Words y) { return _mm512_dpbf16_ps(acc, x, y); }
#else
  static constexpr int PER_WORD = 1;
  using Words = __m512;
  static Words load_words(const uint32_t* p) { return _mm512_loadu_ps(reinterpret_cast<const float*>(p)); }
  static Words broadcast(const uint32_t* p) { return _mm512_set1_ps(*reinterpret_cast<const float*>(p)); }
  static Vec mul_add(Vec acc, Words x, Words y) { return _mm512_fmadd_ps(x, y, acc); }
#endif
};

}  // namespace
}  // namespace pyfast::contrastive::PYFAST_ISA_NAMESPACE

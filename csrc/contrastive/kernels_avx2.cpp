// float words, AVX2 + FMA + F16C. Emulated bfloat16 would gain no arithmetic here.
#include <immintrin.h>

#include "contrastive/kernels.h"
#include "core/transpose_avx2.h"

#define PYFAST_ISA_NAMESPACE avx2

namespace pyfast::contrastive::avx2 {
namespace {

struct V {
  static constexpr int W = 8, MR = 6, PER_WORD = 1;
  using Vec = __m256;
  using Words = __m256;
  static Vec zero() { return _mm256_setzero_ps(); }
  static Vec set1(float x) { return _mm256_set1_ps(x); }
  static Vec load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, Vec x) { _mm256_storeu_ps(p, x); }
  static Vec add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
  static Vec sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
  static Vec mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
  static Vec div(Vec a, Vec b) { return _mm256_div_ps(a, b); }
  static Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
  static Vec max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
  static Vec min(Vec a, Vec b) { return _mm256_min_ps(a, b); }
  static Vec round(Vec a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  // In two steps, each a normal power of two, so that results below 2^-126 keep their digits.
  static Vec times_power(Vec a, Vec n) {
    const __m256i whole = _mm256_cvtps_epi32(n);
    const __m256i half = _mm256_srai_epi32(whole, 1);
    return mul(mul(a, power(half)), power(_mm256_sub_epi32(whole, half)));
  }
  static Vec power(__m256i n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
  }
  static float reduce_add(Vec a) {
    __m128 m = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    m = _mm_add_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_add_ss(m, _mm_shuffle_ps(m, m, 1)));
  }
  static float reduce_max(Vec a) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_shuffle_ps(m, m, 1)));
  }
  static bool all_ge(Vec a, Vec b) { return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ)) == 0xff; }
  static Vec where_negative(Vec test, Vec yes, Vec no) {
    return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(test, zero(), _CMP_LT_OQ));
  }
  static Vec zero_where_zero(Vec test, Vec x) { return _mm256_and_ps(_mm256_cmp_ps(test, zero(), _CMP_NEQ_UQ), x); }
  static __m256i equal(const int32_t* ids, int32_t id) {
    return _mm256_cmpeq_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(ids)), _mm256_set1_epi32(id));
  }
  static bool any_equal(const int32_t* ids, int32_t id) { return _mm256_movemask_epi8(equal(ids, id)) != 0; }
  static Vec where_equal(const int32_t* ids, int32_t id, Vec x) {
    return _mm256_and_ps(_mm256_castsi256_ps(equal(ids, id)), x);
  }
  static Vec load_half(const uint16_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static void transpose(const uint32_t* src, int rows, int64_t src_ld, uint32_t* dst, int64_t ld, int64_t width) {
    transpose_words(src, rows, src_ld, dst, ld, width);
  }
  static Vec choose_equal(const int32_t* ids, int32_t id, Vec yes, Vec no) {
    return _mm256_blendv_ps(no, yes, _mm256_castsi256_ps(equal(ids, id)));
  }
  static Words load_words(const uint32_t* p) { return _mm256_loadu_ps(reinterpret_cast<const float*>(p)); }
  static Words broadcast(const uint32_t* p) { return _mm256_broadcast_ss(reinterpret_cast<const float*>(p)); }
  static Vec mul_add(Vec acc, Words x, Words y) { return _mm256_fmadd_ps(x, y, acc); }
};

}  // namespace
}  // namespace pyfast::contrastive::avx2

#include "contrastive/kernels_impl.h"

namespace pyfast::contrastive::avx2 {
const Kernels& table() {
  static constexpr Kernels kernels = make_table("avx2");
  return kernels;
}
}  // namespace pyfast::contrastive::avx2

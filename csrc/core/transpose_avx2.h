// Interleaving rows of 32-bit words with AVX2. `static`, so that every translation unit keeps its own copy.
#pragma once
#include <immintrin.h>

#include <cstdint>

namespace pyfast {

static inline void transpose8(const uint32_t* src, int rows, int64_t src_ld, uint32_t* dst, int64_t ld, int count) {
  __m256 a[8], b[8];
  for (int r = 0; r < 8; ++r)
    a[r] = r < rows ? _mm256_loadu_ps(reinterpret_cast<const float*>(src + r * src_ld)) : _mm256_setzero_ps();
  for (int r = 0; r < 8; r += 2) {
    b[r] = _mm256_unpacklo_ps(a[r], a[r + 1]);
    b[r + 1] = _mm256_unpackhi_ps(a[r], a[r + 1]);
  }
  for (int r = 0; r < 8; r += 4) {
    a[r] = _mm256_shuffle_ps(b[r], b[r + 2], 0x44);
    a[r + 1] = _mm256_shuffle_ps(b[r], b[r + 2], 0xee);
    a[r + 2] = _mm256_shuffle_ps(b[r + 1], b[r + 3], 0x44);
    a[r + 3] = _mm256_shuffle_ps(b[r + 1], b[r + 3], 0xee);
  }
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(rows), lane);
  for (int w = 0; w < count; ++w) {
    const __m256 left = a[w & 3], right = a[(w & 3) + 4];
    const __m256 out = w < 4 ? _mm256_permute2f128_ps(left, right, 0x20) : _mm256_permute2f128_ps(left, right, 0x31);
    _mm256_maskstore_ps(reinterpret_cast<float*>(dst + w * ld), mask, out);
  }
}

// dst[w * ld + r] = src[r * src_ld + w] for r < rows <= 16, w < width; reads whole vectors of 8 words from src.
static inline void transpose_words(const uint32_t* src, int rows, int64_t src_ld, uint32_t* dst, int64_t ld,
                                   int64_t width) {
  for (int first = 0; first < rows; first += 8)
    for (int64_t w = 0; w < width; w += 8)
      transpose8(src + first * src_ld + w, rows - first, src_ld, dst + w * ld + first, ld,
                 static_cast<int>(width - w < 8 ? width - w : 8));
}

}  // namespace pyfast

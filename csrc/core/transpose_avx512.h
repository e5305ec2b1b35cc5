// Interleaving rows of 32-bit words with AVX-512. `static`, so that every translation unit keeps its own copy.
#pragma once
#include <immintrin.h>

#include <cstdint>

namespace pyfast {

// dst[w * ld + r] = src[r * src_ld + w] for r < rows <= 16, w < width; reads whole vectors of 16 words from src.
static inline void transpose_words(const uint32_t* src, int rows, int64_t src_ld, uint32_t* dst, int64_t ld,
                                   int64_t width) {
  const __mmask16 lanes = static_cast<__mmask16>((1u << rows) - 1);
  for (int64_t w = 0; w < width; w += 16) {
    __m512i a[16], b[16];
    for (int r = 0; r < 16; ++r) a[r] = r < rows ? _mm512_loadu_si512(src + r * src_ld + w) : _mm512_setzero_si512();
    for (int r = 0; r < 16; r += 2) {
      b[r] = _mm512_unpacklo_epi32(a[r], a[r + 1]);
      b[r + 1] = _mm512_unpackhi_epi32(a[r], a[r + 1]);
    }
    for (int r = 0; r < 16; r += 4) {
      a[r] = _mm512_unpacklo_epi64(b[r], b[r + 2]);
      a[r + 1] = _mm512_unpackhi_epi64(b[r], b[r + 2]);
      a[r + 2] = _mm512_unpacklo_epi64(b[r + 1], b[r + 3]);
      a[r + 3] = _mm512_unpackhi_epi64(b[r + 1], b[r + 3]);
    }
    for (int r = 0; r < 4; ++r) {  // a[r + 4 i] holds words r, r+4, r+8, r+12 of rows 4 i .. 4 i + 3
      b[r] = _mm512_shuffle_i32x4(a[r], a[r + 4], 0x88);
      b[r + 4] = _mm512_shuffle_i32x4(a[r + 8], a[r + 12], 0x88);
      b[r + 8] = _mm512_shuffle_i32x4(a[r], a[r + 4], 0xdd);
      b[r + 12] = _mm512_shuffle_i32x4(a[r + 8], a[r + 12], 0xdd);
    }
    const int count = static_cast<int>(width - w < 16 ? width - w : 16);
    for (int r = 0; r < 4; ++r) {
      const __m512i out[4] = {
          _mm512_shuffle_i32x4(b[r], b[r + 4], 0x88), _mm512_shuffle_i32x4(b[r + 8], b[r + 12], 0x88),
          _mm512_shuffle_i32x4(b[r], b[r + 4], 0xdd), _mm512_shuffle_i32x4(b[r + 8], b[r + 12], 0xdd)};
      for (int j = 0; j < 4; ++j)
        if (r + 4 * j < count) _mm512_mask_storeu_epi32(dst + (w + r + 4 * j) * ld, lanes, out[j]);
    }
  }
}

}  // namespace pyfast

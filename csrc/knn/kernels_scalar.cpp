// Plain C++ for every other processor; the compiler may use the platform's baseline vectors.
#include <cstdint>
#include <cstring>

#include "knn/kernels.h"

#define PYFAST_ISA_NAMESPACE scalar

namespace pyfast::knn::scalar {
namespace {

struct V {
  static constexpr int W = 4, NV = 2, MAX_MR = 4, PER_WORD = 1;
  struct Vec {
    float v[W];
  };
  using Words = Vec;
  template <class F>
  static Vec each(F f) {
    Vec out;
    for (int i = 0; i < W; ++i) out.v[i] = f(i);
    return out;
  }
  static Vec zero() { return Vec{}; }
  static Vec set1(float x) {
    return each([&](int) { return x; });
  }
  static Vec load(const float* p) {
    return each([&](int i) { return p[i]; });
  }
  static Vec add(Vec a, Vec b) {
    return each([&](int i) { return a.v[i] + b.v[i]; });
  }
  static Vec sub(Vec a, Vec b) {
    return each([&](int i) { return a.v[i] - b.v[i]; });
  }
  static Vec mul(Vec a, Vec b) {
    return each([&](int i) { return a.v[i] * b.v[i]; });
  }
  static float reduce_add(Vec a) { return (a.v[0] + a.v[1]) + (a.v[2] + a.v[3]); }
  static Vec store_rounded(Vec x, uint32_t* out, int64_t i) {
    std::memcpy(out + i, x.v, sizeof x.v);
    return x;
  }
  static Vec max(Vec a, Vec b) {
    return each([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
  }
  static float reduce_max(Vec a) {
    float m = a.v[0];
    for (int i = 1; i < W; ++i) m = a.v[i] > m ? a.v[i] : m;
    return m;
  }
  static bool any_ge(Vec a, Vec b) {
    bool any = false;
    for (int i = 0; i < W; ++i) any |= a.v[i] >= b.v[i];
    return any;
  }
  static Words load_words(const uint32_t* p) {
    Words w;
    std::memcpy(w.v, p, sizeof w.v);
    return w;
  }
  static Words broadcast(const uint32_t* p) {
    float x;
    std::memcpy(&x, p, 4);
    return set1(x);
  }
  static Vec mul_add(Vec acc, Words x, Words y) {
    return each([&](int i) { return acc.v[i] + x.v[i] * y.v[i]; });
  }

  static int keep(Vec score, float least, float slack, uint32_t first_row, float* lower, float* upper, uint32_t* row) {
    int n = 0;
    for (int i = 0; i < W; ++i) {
      if (!(score.v[i] >= least)) continue;
      lower[n] = score.v[i] - slack;
      upper[n] = score.v[i] + slack;
      row[n++] = first_row + static_cast<uint32_t>(i);
    }
    return n;
  }

  static void transpose(const uint32_t* src, int rows, int64_t src_ld, uint32_t* dst, int64_t ld, int64_t width) {
    for (int64_t w = 0; w < width; ++w)
      for (int r = 0; r < rows; ++r) dst[w * ld + r] = src[r * src_ld + w];
  }

  static int64_t half_to_float(const uint16_t*, int64_t, float*) { return 0; }
};

struct D8 {
  double v[8];
  template <class F>
  static D8 each(F f) {
    D8 out;
    for (int i = 0; i < 8; ++i) out.v[i] = f(i);
    return out;
  }
  static D8 set1(double x) {
    return each([&](int) { return x; });
  }
  static D8 load(const float* p) {
    return each([&](int i) { return static_cast<double>(p[i]); });
  }
  static D8 load_tail(const float* p, int64_t n) {
    return each([&](int i) { return i < n ? static_cast<double>(p[i]) : 0.0; });
  }
  static D8 sub(D8 x, D8 y) {
    return each([&](int i) { return x.v[i] - y.v[i]; });
  }
  static D8 fma(D8 x, D8 y, D8 z) {
    return each([&](int i) { return __builtin_fma(x.v[i], y.v[i], z.v[i]); });
  }
  static double sum(D8 x) { return ((x.v[0] + x.v[4]) + (x.v[2] + x.v[6])) + ((x.v[1] + x.v[5]) + (x.v[3] + x.v[7])); }
};

}  // namespace
}  // namespace pyfast::knn::scalar

#include "knn/kernels_impl.h"

namespace pyfast::knn::scalar {
const Kernels& table() {
  static constexpr Kernels kernels = make_table("scalar");
  return kernels;
}
}  // namespace pyfast::knn::scalar

// Plain C++ for every other processor; the compiler may use the platform's baseline vectors.
#include <cmath>
#include <cstdint>

#include "fisher/kernels.h"

#define PYFAST_ISA_NAMESPACE scalar

namespace pyfast::fisher::scalar {
namespace {

struct V {
  static constexpr int W = 4, NV = 2, MR = 6, STEP = 2, T = 8;
  struct Vec {
    float v[W];
  };
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
  static Vec load_part(const float* p, int64_t n) {
    return each([&](int i) { return i < n ? p[i] : 0.0f; });
  }
  static void store(float* p, Vec x) {
    for (int i = 0; i < W; ++i) p[i] = x.v[i];
  }
  static void store_part(float* p, Vec x, int64_t n) {
    for (int i = 0; i < n; ++i) p[i] = x.v[i];
  }
  static Vec add(Vec a, Vec b) {
    return each([&](int i) { return a.v[i] + b.v[i]; });
  }
  static Vec fma(Vec a, Vec b, Vec c) {  // rounded twice: a library call per lane would cost a hundred times more
    return each([&](int i) { return a.v[i] * b.v[i] + c.v[i]; });
  }
  static Vec abs(Vec a) {
    return each([&](int i) { return __builtin_fabsf(a.v[i]); });
  }
  static Vec load_bf16(const uint16_t* p);
  static Vec load_half(const uint16_t* p);

  static void transpose(const float* src, int rows, int64_t src_ld, float* dst, int64_t ld, int64_t width) {
    for (int64_t w = 0; w < width; ++w)
      for (int r = 0; r < rows; ++r) dst[w * ld + r] = src[r * src_ld + w];
  }
};

struct D8 {
  double v[8];
  template <class F>
  static D8 each(F f) {
    D8 out;
    for (int i = 0; i < 8; ++i) out.v[i] = f(i);
    return out;
  }
  static D8 zero() {
    return each([](int) { return 0.0; });
  }
  static D8 load(const float* p) {
    return each([&](int i) { return static_cast<double>(p[i]); });
  }
  // The product of two floats is exact in double, so that this rounds once, as the fused form does.
  static D8 fma(D8 x, D8 y, D8 z) {
    return each([&](int i) { return x.v[i] * y.v[i] + z.v[i]; });
  }
  static double sum(D8 x) { return ((x.v[0] + x.v[4]) + (x.v[2] + x.v[6])) + ((x.v[1] + x.v[5]) + (x.v[3] + x.v[7])); }
};

}  // namespace
}  // namespace pyfast::fisher::scalar

#include "fisher/kernels_impl.h"

namespace pyfast::fisher::scalar {
namespace {

V::Vec V::load_bf16(const uint16_t* p) {
  return each([&](int i) { return BF16::value(p[i]); });
}

V::Vec V::load_half(const uint16_t* p) {
  return each([&](int i) { return F16::value(p[i]); });
}

}  // namespace

const Kernels& table() {
  static constexpr Kernels kernels = make_table("scalar");
  return kernels;
}
}  // namespace pyfast::fisher::scalar

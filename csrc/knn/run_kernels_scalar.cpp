// k-means runs in plain C++ for every other processor.
#include <cstdint>
#include <cstring>

#define PYFAST_ISA_NAMESPACE scalar

namespace pyfast::knn::scalar {
namespace {

constexpr int ROWS1 = 2, ROWS2 = 1;

struct F16 {
  float v[16];
  template <class F>
  static F16 each(F f) {
    F16 out;
    for (int i = 0; i < 16; ++i) out.v[i] = f(i);
    return out;
  }
  static F16 zero() { return F16{}; }
  static F16 set1(float x) {
    return each([&](int) { return x; });
  }
  static F16 load(const float* p) {
    return each([&](int i) { return p[i]; });
  }
  static F16 load_tail(const float* p, int64_t n) {
    return each([&](int i) { return i < n ? p[i] : 0.0f; });
  }
  void store(float* p) const { std::memcpy(p, v, sizeof v); }
  static F16 add(F16 a, F16 b) {
    return each([&](int i) { return a.v[i] + b.v[i]; });
  }
  static F16 sub(F16 a, F16 b) {
    return each([&](int i) { return a.v[i] - b.v[i]; });
  }
  static F16 mul(F16 a, F16 b) {
    return each([&](int i) { return a.v[i] * b.v[i]; });
  }
  static F16 fma(F16 a, F16 b, F16 c) {
    return each([&](int i) { return __builtin_fmaf(a.v[i], b.v[i], c.v[i]); });
  }
  // Without the instruction a fused multiply-add takes a call.
  static F16 mul_add(F16 a, F16 b, F16 c) { return add(mul(a, b), c); }
  static F16 max(F16 a, F16 b) {
    return each([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
  }
  static F16 sqrt(F16 a) {
    return each([&](int i) { return __builtin_sqrtf(a.v[i]); });
  }
  static float reduce_min(F16 a) {
    float m = a.v[0];
    for (int i = 1; i < 16; ++i) m = a.v[i] < m ? a.v[i] : m;
    return m;
  }
  static unsigned mask_le(F16 a, F16 b) {
    unsigned mask = 0;
    for (int i = 0; i < 16; ++i) mask |= static_cast<unsigned>(a.v[i] <= b.v[i]) << i;
    return mask;
  }
  static float sum(F16 a) {
    for (int half = 8; half; half /= 2)
      for (int i = 0; i < half; ++i) a.v[i] += a.v[i + half];
    return a.v[0];
  }
};

}  // namespace
}  // namespace pyfast::knn::scalar

#include "knn/run_kernels_impl.h"

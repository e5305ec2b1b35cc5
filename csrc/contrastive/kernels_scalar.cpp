// Plain C++ for every other processor; the compiler may use the platform's baseline vectors.
#include <cmath>
#include <cstdint>
#include <cstring>

#include "contrastive/kernels.h"
#include "core/half.h"

#define PYFAST_ISA_NAMESPACE scalar

namespace pyfast::contrastive::scalar {
namespace {

struct V {
  static constexpr int W = 4, MR = 4, PER_WORD = 1;
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
  static void store(float* p, Vec x) { std::memcpy(p, x.v, sizeof x.v); }
  static Vec add(Vec a, Vec b) {
    return each([&](int i) { return a.v[i] + b.v[i]; });
  }
  static Vec sub(Vec a, Vec b) {
    return each([&](int i) { return a.v[i] - b.v[i]; });
  }
  static Vec mul(Vec a, Vec b) {
    return each([&](int i) { return a.v[i] * b.v[i]; });
  }
  static Vec div(Vec a, Vec b) {
    return each([&](int i) { return a.v[i] / b.v[i]; });
  }
  static Vec fma(Vec a, Vec b, Vec c) {
    return each([&](int i) { return a.v[i] * b.v[i] + c.v[i]; });
  }
  static Vec max(Vec a, Vec b) {
    return each([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
  }
  static Vec min(Vec a, Vec b) {
    return each([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
  }
  static Vec round(Vec a) {
    return each([&](int i) { return std::nearbyint(a.v[i]); });
  }
  static Vec times_power(Vec a, Vec n) {
    return each([&](int i) { return std::isnan(n.v[i]) ? n.v[i] : std::ldexp(a.v[i], static_cast<int>(n.v[i])); });
  }
  static float reduce_add(Vec a) { return (a.v[0] + a.v[1]) + (a.v[2] + a.v[3]); }
  static float reduce_max(Vec a) {
    float m = a.v[0];
    for (int i = 1; i < W; ++i) m = a.v[i] > m ? a.v[i] : m;
    return m;
  }
  static bool all_ge(Vec a, Vec b) {
    bool all = true;
    for (int i = 0; i < W; ++i) all &= a.v[i] >= b.v[i];
    return all;
  }
  static Vec where_negative(Vec test, Vec yes, Vec no) {
    return each([&](int i) { return test.v[i] < 0 ? yes.v[i] : no.v[i]; });
  }
  static Vec zero_where_zero(Vec test, Vec x) {
    return each([&](int i) { return test.v[i] == 0 ? 0.0f : x.v[i]; });
  }
  static bool any_equal(const int32_t* ids, int32_t id) {
    bool any = false;
    for (int i = 0; i < W; ++i) any |= ids[i] == id;
    return any;
  }
  static Vec where_equal(const int32_t* ids, int32_t id, Vec x) {
    return each([&](int i) { return ids[i] == id ? x.v[i] : 0.0f; });
  }
  static Vec load_half(const uint16_t* p) {
    return each([&](int i) { return half_value(p[i]); });
  }
  static void transpose(const uint32_t* src, int rows, int64_t src_ld, uint32_t* dst, int64_t ld, int64_t width) {
    for (int64_t w = 0; w < width; ++w)
      for (int r = 0; r < rows; ++r) dst[w * ld + r] = src[r * src_ld + w];
  }
  static Vec choose_equal(const int32_t* ids, int32_t id, Vec yes, Vec no) {
    return each([&](int i) { return ids[i] == id ? yes.v[i] : no.v[i]; });
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
};

}  // namespace
}  // namespace pyfast::contrastive::scalar

#include "contrastive/kernels_impl.h"

namespace pyfast::contrastive::scalar {
const Kernels& table() {
  static constexpr Kernels kernels = make_table("scalar");
  return kernels;
}
}  // namespace pyfast::contrastive::scalar

// Plain C++ for every other processor; the compiler may use the platform's baseline vectors.
#include <cstring>

#include "core/half.h"
#include "sampling/kernels.h"

#define PYFAST_ISA_NAMESPACE scalar

namespace pyfast::sampling::scalar {
namespace {

inline int count_le(const double* line, double r) {
  int count = 0;
  for (int i = 0; i < 16; ++i) count += line[i] <= r;
  return count;
}

constexpr int R = 2;

float bf16_value(uint16_t word) {
  const uint32_t bits = static_cast<uint32_t>(word) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

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
  static D8 load(const double* p) {
    return each([&](int i) { return p[i]; });
  }
  static D8 load(const float* p) {
    return each([&](int i) { return static_cast<double>(p[i]); });
  }
  static D8 load_half(const uint16_t* p) {
    return each([&](int i) { return static_cast<double>(half_value(p[i])); });
  }
  static D8 load_bf16(const uint16_t* p) {
    return each([&](int i) { return static_cast<double>(bf16_value(p[i])); });
  }
  static void store(double* p, D8 x) {
    for (int i = 0; i < 8; ++i) p[i] = x.v[i];
  }
  static D8 add(D8 x, D8 y) {
    return each([&](int i) { return x.v[i] + y.v[i]; });
  }
  static D8 sub(D8 x, D8 y) {
    return each([&](int i) { return x.v[i] - y.v[i]; });
  }
  static D8 mul(D8 x, D8 y) {
    return each([&](int i) { return x.v[i] * y.v[i]; });
  }
  // Used where the product is exact, so that this rounds once, as the fused form does.
  static D8 fma(D8 x, D8 y, D8 z) {
    return each([&](int i) { return x.v[i] * y.v[i] + z.v[i]; });
  }
  static double sum(D8 x) { return ((x.v[0] + x.v[4]) + (x.v[2] + x.v[6])) + ((x.v[1] + x.v[5]) + (x.v[3] + x.v[7])); }
};

}  // namespace
}  // namespace pyfast::sampling::scalar

#include "sampling/draw_impl.h"
#include "sampling/rows_impl.h"

namespace pyfast::sampling::scalar {
const Kernels& table() {
  static constexpr Kernels kernels = {"scalar", draw, hash_keys, reduce, add_rows};
  return kernels;
}
}  // namespace pyfast::sampling::scalar

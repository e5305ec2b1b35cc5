// Plain C++ for every other processor; the compiler may use the platform's baseline vectors.
#include "sampling/kernels.h"

#define PYFAST_ISA_NAMESPACE scalar

namespace pyfast::sampling::scalar {
namespace {

inline int count_le(const double* line, double r) {
  int count = 0;
  for (int i = 0; i < 16; ++i) count += line[i] <= r;
  return count;
}

}  // namespace
}  // namespace pyfast::sampling::scalar

#include "sampling/draw_impl.h"

namespace pyfast::sampling::scalar {
const Kernels& table() {
  static constexpr Kernels kernels = {"scalar", draw, hash_keys};
  return kernels;
}
}  // namespace pyfast::sampling::scalar

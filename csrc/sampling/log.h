// A logarithm of exactly rounded operations alone: the same bits on every machine, which a library's would not give.
#pragma once
#include <cstdint>
#include <cstring>

#include "sampling/hash.h"

namespace pyfast::sampling {

// log(x) of a positive normal x, to about 4 units in the last place: x = m 2^e with m in (0.707, 1.414], then the
// series of 2 atanh((m - 1) / (m + 1)), whose first missing term is below 2^-55.
static inline double portable_log(double x) {
  uint64_t bits;
  std::memcpy(&bits, &x, 8);
  double e = static_cast<double>(static_cast<int64_t>(bits >> 52) - 1023);
  bits = (bits & 0x000FFFFFFFFFFFFFu) | 0x3FF0000000000000u;
  double m;
  std::memcpy(&m, &bits, 8);
  if (m > 1.4142135623730951) {
    m *= 0.5;
    e += 1;
  }
  const double s = (m - 1) / (m + 1), z = s * s;
  constexpr double series[] = {1.0 / 19, 1.0 / 17, 1.0 / 15, 1.0 / 13, 1.0 / 11, 1.0 / 9, 1.0 / 7, 1.0 / 5, 1.0 / 3, 1};
  double p = 1.0 / 21;
  for (double c : series) p = p * z + c;
  return e * 0.6931471805599453 + (2 * s) * p;
}

}  // namespace pyfast::sampling

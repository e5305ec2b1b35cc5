// float16 to float without hardware help. `static`, so that every translation unit keeps its own copy.
#pragma once
#include <cstdint>
#include <cstring>

namespace pyfast {

static inline float half_value(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16;
  const uint32_t exponent = (h >> 10) & 31, fraction = h & 0x3ff;
  if (exponent == 0) {  // zero or denormal: fraction * 2^-24 is exact
    const float value = static_cast<float>(fraction) * 0x1p-24f;
    return sign ? -value : value;
  }
  const uint32_t bits = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | (fraction << 13);
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

}  // namespace pyfast

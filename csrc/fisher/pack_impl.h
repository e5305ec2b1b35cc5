// Packing: a strided matrix [steps, lanes] of any float type becomes a panel of floats. Included by kernels_impl.h.
// No standard-library templates here: see kernels.h.
#include <cstring>

#include "core/half.h"
#include "fisher/kernels.h"

namespace pyfast::fisher::PYFAST_ISA_NAMESPACE {
namespace {

struct F32 {
  using Type = float;
  static V::Vec load(const float* p) { return V::load(p); }
  static float value(float x) { return x; }
};

struct BF16 {
  using Type = uint16_t;
  static V::Vec load(const uint16_t* p) { return V::load_bf16(p); }
  static float value(uint16_t x) {
    const uint32_t bits = static_cast<uint32_t>(x) << 16;
    float out;
    std::memcpy(&out, &bits, 4);
    return out;
  }
};

struct F16 {
  using Type = uint16_t;
  static V::Vec load(const uint16_t* p) { return V::load_half(p); }
  static float value(uint16_t x) { return half_value(x); }
};

// The lanes of a step lie side by side.
template <class T>
void pack_rows(const Source& src, int64_t steps, int64_t lanes, int64_t width, float* dst) {
  const auto* row = reinterpret_cast<const typename T::Type*>(src.data);
  for (int64_t s = 0; s < steps; ++s, row += src.step_stride, dst += width) {
    int64_t l = 0;
    for (; l + V::W <= lanes; l += V::W) V::store(dst + l, T::load(row + l));
    if constexpr (sizeof(typename T::Type) == 4) {
      if (l < lanes) V::store_part(dst + l, V::load_part(row + l, lanes - l), lanes - l), l = lanes;
    }
    for (; l < lanes; ++l) dst[l] = T::value(row[l]);
    for (; l < width; ++l) dst[l] = 0;
  }
}

// Copies up to 64 steps of up to V::T lanes, whose steps lie side by side, to rows [lane][64] of floats.
template <class T>
void gather_rows(const typename T::Type* src, int64_t lane_stride, int64_t steps, int lanes, float* rows) {
  for (int l = 0; l < lanes; ++l) {
    const auto* x = src + l * lane_stride;
    float* row = rows + l * 64;
    int64_t s = 0;
    for (; s + V::W <= steps; s += V::W) V::store(row + s, T::load(x + s));
    for (; s < steps; ++s) row[s] = T::value(x[s]);
  }
}

// The steps of a lane lie side by side: squares of V::T × V::T are transposed in registers.
template <class T>
void pack_columns(const Source& src, int64_t steps, int64_t lanes, int64_t width, float* dst) {
  const auto* x = reinterpret_cast<const typename T::Type*>(src.data);
  alignas(64) float rows[V::T * 64];
  for (int64_t l = 0; l < lanes; l += V::T) {
    const int count = static_cast<int>(lanes - l < V::T ? lanes - l : V::T);
    for (int64_t s = 0; s < steps; s += 64) {
      const int64_t part = steps - s < 64 ? steps - s : 64;
      gather_rows<T>(x + l * src.lane_stride + s, src.lane_stride, part, count, rows);
      V::transpose(rows, count, 64, dst + s * width + l, width, part);
    }
  }
  if (lanes == width) return;
  for (int64_t s = 0; s < steps; ++s)
    for (int64_t l = lanes; l < width; ++l) dst[s * width + l] = 0;
}

template <class T>
void pack_any(const Source& src, int64_t steps, int64_t lanes, int64_t width, float* dst) {
  if (src.lane_stride == 1 || lanes <= 1) return pack_rows<T>(src, steps, lanes, width, dst);
  if (src.step_stride == 1) return pack_columns<T>(src, steps, lanes, width, dst);
  const auto* x = reinterpret_cast<const typename T::Type*>(src.data);
  for (int64_t s = 0; s < steps; ++s) {
    for (int64_t l = 0; l < lanes; ++l) dst[s * width + l] = T::value(x[s * src.step_stride + l * src.lane_stride]);
    for (int64_t l = lanes; l < width; ++l) dst[s * width + l] = 0;
  }
}

void pack(const Source& src, int64_t steps, int64_t lanes, int64_t width, Map map, float* dst) {
  switch (src.dtype) {
    case DType::bf16: pack_any<BF16>(src, steps, lanes, width, dst); break;
    case DType::f16: pack_any<F16>(src, steps, lanes, width, dst); break;
    default: pack_any<F32>(src, steps, lanes, width, dst); break;
  }
  if (map == Map::none) return;
  for (int64_t i = 0; i < steps * width; ++i) dst[i] = map == Map::square ? dst[i] * dst[i] : __builtin_fabsf(dst[i]);
}

void unfold(const float* src, const int64_t* starts, int64_t steps, const Piece* pieces, int64_t count, int64_t live,
            float* dst) {
  constexpr int64_t width = V::W * V::NV;
  for (int64_t s = 0; s < steps; ++s, dst += width) {
    const float* pixel = src + starts[s];
    for (int64_t p = 0; p < count; ++p) {
      const float* from = pixel + pieces[p].from;
      float* to = dst + pieces[p].lane;
      int64_t left = pieces[p].count;
      for (; left >= V::W; left -= V::W, from += V::W, to += V::W) V::store(to, V::load(from));
      if (left > 0) V::store_part(to, V::load_part(from, left), left);
    }
    for (int64_t l = live; l < width; ++l) dst[l] = 0;
  }
}

}  // namespace
}  // namespace pyfast::fisher::PYFAST_ISA_NAMESPACE

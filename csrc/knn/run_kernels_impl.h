// The hot loops of k-means runs, written once. The including file defines PYFAST_ISA_NAMESPACE and, inside it,
//   `struct F16`, sixteen float lanes with zero, set1, load, load_tail, store, add, sub, mul, fma, max, sqrt,
//   mul_add (fused or not), reduce_min, mask_le and sum (lanes i + 8, i + 4, i + 2, i + 1);
//   ROWS1 and ROWS2, rows of a tile for one panel and for two: the second divides the first.
// No standard-library templates here: see kernels.h.
#include "knn/run_kernels.h"

namespace pyfast::knn::PYFAST_ISA_NAMESPACE {
namespace {

constexpr float more = 1.0f + 0x1p-22f, less = 1.0f - 0x1p-22f;
constexpr float proof = 1.0f + 0x1p-20f;  // bounds this far apart decide; float64 would say the same
constexpr float norm_error = 0x1p-21f;    // of the squared norms and their sum, relative
constexpr float smallest = 0x1p-119f;     // products below float's normal range

// Products of R rows with P panels of centres.
template <int R, int P>
inline void products(const float* const* x, const float* const* c, int64_t d, F16 (&total)[R][P]) {
  for (int r = 0; r < R; ++r)
    for (int p = 0; p < P; ++p) total[r][p] = F16::zero();
  for (int64_t start = 0; start < d; start += chain) {
    const int64_t end = start + chain < d ? start + chain : d;
    F16 acc[R][P];
    for (int r = 0; r < R; ++r)
      for (int p = 0; p < P; ++p) acc[r][p] = F16::zero();
    for (int64_t i = start; i < end; ++i) {
      F16 y[P];
      for (int p = 0; p < P; ++p) y[p] = F16::load(c[p] + i * panel);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const F16 v = F16::set1(x[r][i]);
        for (int p = 0; p < P; ++p) acc[r][p] = F16::mul_add(v, y[p], acc[r][p]);
      }
    }
    for (int r = 0; r < R; ++r)
      for (int p = 0; p < P; ++p) total[r][p] = F16::add(total[r][p], acc[r][p]);
  }
}

// One row against panels from the p-th on: lower bounds, and the least upper bound with its centre.
template <int P>
inline void bound(const RunRows& rows, const CenterPanels& centers, int64_t row, int64_t p, const F16* dot, float& best,
                  int32_t& label) {
  const F16 own2 = F16::set1(rows.norm2[row]), slope = F16::set1(rows.norm[row] * centers.product_error * more);
  for (int j = 0; j < P; ++j) {
    const int64_t at = (p + j) * panel;
    const F16 sum = F16::add(own2, F16::load(centers.norm2 + at));
    const F16 d2 = F16::fma(F16::set1(-2), dot[j], sum);
    const F16 error =
        F16::fma(slope, F16::load(centers.norm + at), F16::fma(F16::set1(norm_error), sum, F16::set1(smallest)));
    const F16 low = F16::max(F16::sub(d2, error), F16::zero());
    F16::mul(F16::sqrt(low), F16::set1(less)).store(rows.lower + row * centers.panels * panel + at);
    const F16 high = F16::add(d2, error);
    const float least = F16::reduce_min(high);
    if (least < best) {
      best = least;
      label = static_cast<int32_t>(at + __builtin_ctz(F16::mask_le(high, F16::set1(least))));
    }
  }
}

bool another_reaches(const float* lower, int64_t panels, float limit, int32_t label) {
  for (int64_t p = 0; p < panels; ++p) {
    unsigned mask = F16::mask_le(F16::load(lower + p * panel), F16::set1(limit));
    if (label / panel == p) mask &= ~(1u << (label % panel));
    if (mask) return true;
  }
  return false;
}

template <int R, int P>
void tile(const RunRows& rows, const CenterPanels& centers, int64_t p, const float* const* x, const int64_t* number,
          float* best, int32_t* label) {
  const float* c[P];
  for (int j = 0; j < P; ++j) c[j] = centers.words + (p + j) * rows.d * panel;
  F16 dot[R][P];
  products<R, P>(x, c, rows.d, dot);
  for (int r = 0; r < R; ++r) bound<P>(rows, centers, number[r], p, dot[r], best[r], label[r]);
}

// R rows against all panels: two at a time, in tiles that leave room for twice the accumulators.
template <int R>
void nearest_rows(const RunRows& rows, const CenterPanels& centers, const int64_t* index, int64_t count,
                  uint8_t* doubtful) {
  const float* x[R];
  int64_t number[R];
  float best[R];
  int32_t label[R];
  for (int r = 0; r < R; ++r) {
    number[r] = index[r < count ? r : count - 1];
    x[r] = rows.x + number[r] * rows.stride;
    best[r] = 0x1p127f;
    label[r] = 0;
  }
  int64_t p = 0;
  for (; p + 2 <= centers.panels; p += 2)
    for (int r = 0; r < R; r += ROWS2) tile<ROWS2, 2>(rows, centers, p, x + r, number + r, best + r, label + r);
  if (p < centers.panels) tile<R, 1>(rows, centers, p, x, number, best, label);
  for (int r = 0; r < R && r < count; ++r) {
    const int64_t i = number[r];
    const float upper = __builtin_sqrtf(best[r] > 0 ? best[r] : 0) * more;
    rows.upper[i] = upper;
    rows.label[i] = label[r];
    doubtful[r] = another_reaches(rows.lower + i * centers.panels * panel, centers.panels, upper * proof, label[r]);
  }
}

void nearest(const RunRows& rows, const CenterPanels& centers, const int64_t* index, int64_t count, uint8_t* doubtful) {
  int64_t i = 0;
  for (; count - i > ROWS2; i += ROWS1) nearest_rows<ROWS1>(rows, centers, index + i, count - i, doubtful + i);
  for (; i < count; i += ROWS2) nearest_rows<ROWS2>(rows, centers, index + i, count - i, doubtful + i);
}

int64_t loosen(const RunRows& rows, int64_t panels, const float* drift, int64_t first, int64_t last, int64_t* index) {
  int64_t count = 0;
  for (int64_t i = first; i < last; ++i) {
    const float upper = (rows.upper[i] + drift[rows.label[i]]) * more;
    rows.upper[i] = upper;
    const F16 limit = F16::set1(upper * proof);
    float* lower = rows.lower + i * panels * panel;
    unsigned reached = 0;
    for (int64_t p = 0; p < panels; ++p) {
      const F16 now = F16::mul(F16::sub(F16::load(lower + p * panel), F16::load(drift + p * panel)), F16::set1(less));
      now.store(lower + p * panel);
      reached |= F16::mask_le(now, limit);
    }
    index[count] = i;
    count += reached != 0;
  }
  return count;
}

template <int C>
void distances_of(const float* x, const float* const* c, int64_t d, float* out) {
  F16 acc[C];
  for (int j = 0; j < C; ++j) acc[j] = F16::zero();
  int64_t i = 0;
  for (; i + 16 <= d; i += 16) {
    const F16 y = F16::load(x + i);
    for (int j = 0; j < C; ++j) {
      const F16 t = F16::sub(y, F16::load(c[j] + i));
      acc[j] = F16::fma(t, t, acc[j]);
    }
  }
  if (i < d) {
    const F16 y = F16::load_tail(x + i, d - i);
    for (int j = 0; j < C; ++j) {
      const F16 t = F16::sub(y, F16::load_tail(c[j] + i, d - i));
      acc[j] = F16::fma(t, t, acc[j]);
    }
  }
  for (int j = 0; j < C; ++j) out[j] = F16::sum(acc[j]);
}

void distances(const float* x, int64_t stride, int64_t rows, const float* const* c, int count, int64_t d, float* out) {
  for (int64_t i = 0; i < rows; ++i) {
    const float* y = x + i * stride;
    float* to = out + i * count;
    int j = 0;
    for (; j + 4 <= count; j += 4) distances_of<4>(y, c + j, d, to + j);
    switch (count - j) {
      case 3: distances_of<3>(y, c + j, d, to + j); break;
      case 2: distances_of<2>(y, c + j, d, to + j); break;
      case 1: distances_of<1>(y, c + j, d, to + j); break;
    }
  }
}

}  // namespace

const RunKernels& run_table() {
  static constexpr RunKernels kernels = {nearest, loosen, distances};
  return kernels;
}

}  // namespace pyfast::knn::PYFAST_ISA_NAMESPACE

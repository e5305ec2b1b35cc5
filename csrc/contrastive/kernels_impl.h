// The hot loops, written once over a small vector vocabulary and compiled once per instruction set.
// The including file defines PYFAST_ISA_NAMESPACE and, inside that namespace, `struct V` with
//   W lanes, MR tile rows (at most W), PER_WORD; Vec, Words; zero, set1, load, store, add, sub, mul, div, fma(a,b,c) =
//   a b + c, max and min (the second operand where one is NaN), round, times_power(a, n) = a 2^n, reduce_add,
//   reduce_max, all_ge, where_negative, zero_where_zero, any_equal, where_equal, choose_equal; load_words, broadcast,
//   mul_add(acc, x, y); load_half: W float16 values; transpose: interleave up to 16 rows of words.
// No standard-library templates here: see kernels.h.
#include <cfloat>
#include <cstring>

#include "contrastive/kernels.h"
#include "core/half.h"

namespace pyfast::contrastive::PYFAST_ISA_NAMESPACE {
namespace {

using Vec = V::Vec;
constexpr int MR = V::MR, W = V::W, NV = 2, NR = NV * W;

// Tile sums below this share of the tile's largest term may have lost terms to underflow: they are formed again from
// their own maxima. Together with `far` it bounds what the gradient can lose to e^-36 (docs/kernels.md).
constexpr float least_share = 0x1p-30f;
constexpr float far = 30.0f;

// e^x within 1 ulp of float: x = n ln 2 + r, |r| <= ln 2 / 2, a polynomial in r. 0 below e^-150, NaN stays NaN.
inline Vec exp(Vec x) {
  x = V::min(V::set1(88.72f), V::max(V::set1(-150.0f), x));
  const Vec n = V::round(V::mul(x, V::set1(1.44269504f)));
  const Vec r = V::fma(n, V::set1(-1.42860677e-6f), V::fma(n, V::set1(-0.693145752f), x));
  Vec p = V::fma(V::set1(1.98527617e-4f), r, V::set1(1.39304355e-3f));
  p = V::fma(p, r, V::set1(8.33336077e-3f));
  p = V::fma(p, r, V::set1(4.16664854e-2f));
  p = V::fma(p, r, V::set1(1.66666672e-1f));
  p = V::fma(p, r, V::set1(0.5f));
  p = V::add(V::fma(V::mul(r, r), p, r), V::set1(1.0f));
  return V::times_power(p, n);
}

// log(1 + e) for 0 <= e <= 1 without forming 1 + e: 2 atanh(z), z = e / (2 + e) <= 1/3, by its series.
inline Vec log1p(Vec e) {
  const Vec z = V::div(e, V::add(e, V::set1(2.0f)));
  const Vec z2 = V::mul(z, z);
  Vec p = V::fma(V::set1(1.0f / 15), z2, V::set1(1.0f / 13));
  p = V::fma(p, z2, V::set1(1.0f / 11));
  p = V::fma(p, z2, V::set1(1.0f / 9));
  p = V::fma(p, z2, V::set1(1.0f / 7));
  p = V::fma(p, z2, V::set1(1.0f / 5));
  p = V::fma(p, z2, V::set1(1.0f / 3));
  const Vec twice = V::add(z, z);
  return V::fma(V::mul(twice, z2), p, twice);
}

struct Accumulators {
  Vec v[MR][NV];
};

inline __attribute__((always_inline)) void multiply(const uint32_t* a, const uint32_t* b, int64_t words,
                                                    Accumulators& out) {
  Vec acc[MR][NV];
  for (int r = 0; r < MR; ++r)
    for (int v = 0; v < NV; ++v) acc[r][v] = V::zero();
  for (int64_t w = 0; w < words; ++w, a += MR, b += NR) {
    V::Words x[NV];
    for (int v = 0; v < NV; ++v) x[v] = V::load_words(b + v * W);
#pragma GCC unroll 12
    for (int r = 0; r < MR; ++r) {
      const V::Words y = V::broadcast(a + r);
      for (int v = 0; v < NV; ++v) acc[r][v] = V::mul_add(acc[r][v], x[v], y);
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < MR; ++r)
    for (int v = 0; v < NV; ++v) out.v[r][v] = acc[r][v];
}

void product(const uint32_t* a, const uint32_t* b, int64_t words, float scale, float bias, float* tile) {
  Accumulators acc;
  multiply(a, b, words, acc);
  const Vec s = V::set1(scale), t = V::set1(bias);
#pragma GCC unroll 12
  for (int r = 0; r < MR; ++r)
    for (int v = 0; v < NV; ++v) V::store(tile + r * NR + v * W, V::fma(acc.v[r][v], s, t));
}

void product_add(const uint32_t* a, const uint32_t* b, int64_t words, float* out, int64_t ld, int rows, int cols) {
  Accumulators acc;
  multiply(a, b, words, acc);
  if (rows == MR && cols == NR) {
#pragma GCC unroll 12
    for (int r = 0; r < MR; ++r)
      for (int v = 0; v < NV; ++v) {
        float* p = out + r * ld + v * W;
        V::store(p, V::add(V::load(p), acc.v[r][v]));
      }
    return;
  }
  alignas(64) float tile[MR * NR];
  for (int r = 0; r < MR; ++r)
    for (int v = 0; v < NV; ++v) V::store(tile + r * NR + v * W, acc.v[r][v]);
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < cols; ++c) out[r * ld + c] += tile[r * NR + c];
}

void product_add_transposed(const uint32_t* a, const uint32_t* b, int64_t words, float* out, int64_t ld, int rows,
                            int cols) {
  Accumulators acc;
  multiply(a, b, words, acc);
  alignas(64) float tile[MR * NR];
#pragma GCC unroll 12
  for (int r = 0; r < MR; ++r)
    for (int v = 0; v < NV; ++v) V::store(tile + r * NR + v * W, acc.v[r][v]);
  for (int c = 0; c < cols; ++c)
    for (int r = 0; r < rows; ++r) out[c * ld + r] += tile[r * NR + c];
}

// One side's partial sums relative to `top` [count], merged into the running ones.
inline void merge(const Running& run, int at, Vec top, Vec sum, Vec cross) {
  const Vec before = V::load(run.max + at);
  const Vec now = V::max(V::max(before, top), V::set1(-FLT_MAX));
  const Vec keep = exp(V::sub(before, now)), take = exp(V::sub(top, now));
  V::store(run.max + at, now);
  V::store(run.sum + at, V::fma(V::load(run.sum + at), keep, V::mul(sum, take)));
  if (run.cross) V::store(run.cross + at, V::fma(V::load(run.cross + at), keep, V::mul(cross, take)));
}

// e (s - other), 0 where e is 0: there s may be -inf on both sides.
inline Vec crossed(Vec e, const float* s, const float* other) {
  return V::zero_where_zero(e, V::mul(e, V::sub(V::load(s), V::load(other))));
}

struct Partial {
  alignas(64) float row_sum[max_mr], row_cross[max_mr], col_sum[max_nr], col_cross[max_nr];
};

// Row and column sums of exp(s - top) from one exponential per element; false where one is too small to be trusted.
template <bool cross>
inline bool tile_sums(const SoftTile& t, Vec top, Partial& out) {
  Vec col[NV], col_cross[NV];
  for (int v = 0; v < NV; ++v) col[v] = col_cross[v] = V::zero();
  for (int r = 0; r < MR; ++r) {
    Vec row = V::zero(), row_cross = V::zero();
    for (int v = 0; v < NV; ++v) {
      const int at = r * NR + v * W;
      const Vec e = exp(V::sub(V::load(t.s + at), top));
      row = V::add(row, e);
      col[v] = V::add(col[v], e);
      if (cross) {
        const Vec x = crossed(e, t.s + at, t.other + at);
        row_cross = V::add(row_cross, x);
        col_cross[v] = V::add(col_cross[v], x);
      }
    }
    out.row_sum[r] = V::reduce_add(row);
    if (cross) out.row_cross[r] = V::reduce_add(row_cross);
  }
  bool trusted = true;
  for (int v = 0; v < NV; ++v) {
    V::store(out.col_sum + v * W, col[v]);
    if (cross) V::store(out.col_cross + v * W, col_cross[v]);
    if (t.cols.max) trusted &= V::all_ge(col[v], V::set1(least_share));
  }
  if (t.rows.max)
    for (int r = 0; r < MR; ++r) trusted &= out.row_sum[r] >= least_share;
  return trusted;
}

template <bool cross>
__attribute__((noinline)) void careful_rows(const SoftTile& t) {
  alignas(64) float top[max_mr], sum[max_mr], crosses[max_mr];
  for (int r = 0; r < max_mr; ++r) top[r] = -FLT_MAX, sum[r] = crosses[r] = 0;
  for (int r = 0; r < MR; ++r) {
    Vec m = V::set1(-FLT_MAX);
    for (int v = 0; v < NV; ++v) m = V::max(V::load(t.s + r * NR + v * W), m);
    top[r] = V::reduce_max(m);
    Vec s = V::zero(), x = V::zero();
    for (int v = 0; v < NV; ++v) {
      const int at = r * NR + v * W;
      const Vec e = exp(V::sub(V::load(t.s + at), V::set1(top[r])));
      s = V::add(s, e);
      if (cross) x = V::add(x, crossed(e, t.s + at, t.other + at));
    }
    sum[r] = V::reduce_add(s);
    if (cross) crosses[r] = V::reduce_add(x);
  }
  merge(t.rows, 0, V::load(top), V::load(sum), V::load(crosses));
}

template <bool cross>
__attribute__((noinline)) void careful_cols(const SoftTile& t) {
  for (int v = 0; v < NV; ++v) {
    Vec top = V::set1(-FLT_MAX), sum = V::zero(), x = V::zero();
    for (int r = 0; r < MR; ++r) top = V::max(V::load(t.s + r * NR + v * W), top);
    for (int r = 0; r < MR; ++r) {
      const int at = r * NR + v * W;
      const Vec e = exp(V::sub(V::load(t.s + at), top));
      sum = V::add(sum, e);
      if (cross) x = V::add(x, crossed(e, t.s + at, t.other + at));
    }
    merge(t.cols, v * W, top, sum, x);
  }
}

template <bool cross>
inline void soft_stats_of(const SoftTile& t) {
  Vec top = V::set1(-FLT_MAX);
  for (int i = 0; i < MR * NR; i += W) top = V::max(V::load(t.s + i), top);
  const float m = V::reduce_max(top);
  Partial p;
  const bool trusted = tile_sums<cross>(t, V::set1(m), p);
  if (!trusted) {
    if (t.rows.max) careful_rows<cross>(t);
    if (t.cols.max) careful_cols<cross>(t);
    return;
  }
  for (int r = MR; r < W; ++r) p.row_sum[r] = p.row_cross[r] = 0;
  if (!cross) {
    for (int r = 0; r < W; ++r) p.row_cross[r] = 0;
    for (int c = 0; c < NR; ++c) p.col_cross[c] = 0;
  }
  if (t.rows.max) merge(t.rows, 0, V::set1(m), V::load(p.row_sum), V::load(p.row_cross));
  if (t.cols.max)
    for (int v = 0; v < NV; ++v)
      merge(t.cols, v * W, V::set1(m), V::load(p.col_sum + v * W), V::load(p.col_cross + v * W));
}

void merge_running(const Running& into, const Running& from, int64_t count) {
  for (int64_t i = 0; i < count; i += W) {
    const Running at = {into.max + i, into.sum + i, into.cross ? into.cross + i : nullptr};
    merge(at, 0, V::load(from.max + i), V::load(from.sum + i), from.cross ? V::load(from.cross + i) : V::zero());
  }
}

void soft_stats(const SoftTile& t) { t.other ? soft_stats_of<true>(t) : soft_stats_of<false>(t); }

inline void put(float* out, bool add, Vec x) { V::store(out, add ? V::add(V::load(out), x) : x); }

// Both softmaxes from one exponential: exp(s - max_r) = exp(s - c) exp(c - max_r), c the tile's largest row maximum.
void pull_both(const PullTile& t) {
  alignas(64) float row[max_mr], col[max_nr];
  const Vec c0 = V::set1(t.rows.top);
  V::store(row, V::mul(V::load(t.rows.coef), exp(V::sub(c0, V::load(t.rows.max)))));
  for (int v = 0; v < NV; ++v)
    V::store(col + v * W, V::mul(V::load(t.cols.coef + v * W), exp(V::sub(c0, V::load(t.cols.max + v * W)))));
  for (int r = 0; r < MR; ++r) {
    const Vec mine = V::set1(row[r]);
    for (int v = 0; v < NV; ++v) {
      const int at = r * NR + v * W;
      const Vec e = exp(V::sub(V::load(t.s + at), c0));
      put(t.out + at, t.add, V::mul(e, V::add(mine, V::load(col + v * W))));
    }
  }
}

void pull_each(const PullTile& t) {
  for (int r = 0; r < MR; ++r) {
    for (int v = 0; v < NV; ++v) {
      const int at = r * NR + v * W;
      const Vec s = V::load(t.s + at);
      Vec out = V::zero();
      if (t.rows.max) out = V::mul(V::set1(t.rows.coef[r]), exp(V::sub(s, V::set1(t.rows.max[r]))));
      if (t.cols.max) out = V::fma(V::load(t.cols.coef + v * W), exp(V::sub(s, V::load(t.cols.max + v * W))), out);
      put(t.out + at, t.add, out);
    }
  }
}

void soft_pull(const PullTile& t) {
  const bool near = t.rows.max && t.cols.max && t.rows.top - t.rows.low <= far && t.rows.top - t.cols.low <= far;
  near ? pull_both(t) : pull_each(t);
}

void positive_sums(const float* s, const IdTile& ids, double* row_sum, double* col_sum) {
  for (int r = 0; r < MR; ++r) {
    const int32_t id = ids.row_id[r];
    for (int v = 0; v < NV; ++v) {
      if (!V::any_equal(ids.col_id + v * W, id)) continue;
      const Vec kept = V::where_equal(ids.col_id + v * W, id, V::load(s + r * NR + v * W));
      if (row_sum) row_sum[r] += static_cast<double>(V::reduce_add(kept));
      if (!col_sum) continue;
      alignas(64) float each[W];
      V::store(each, kept);
      for (int i = 0; i < W; ++i) col_sum[v * W + i] += static_cast<double>(each[i]);
    }
  }
}

void positive_pull(const IdTile& ids, const float* row_coef, const float* col_coef, float* out) {
  for (int r = 0; r < MR; ++r) {
    const int32_t id = ids.row_id[r];
    const Vec mine = V::set1(row_coef ? row_coef[r] : 0.0f);
    for (int v = 0; v < NV; ++v) {
      if (!V::any_equal(ids.col_id + v * W, id)) continue;
      const Vec both = col_coef ? V::add(mine, V::load(col_coef + v * W)) : mine;
      float* p = out + r * NR + v * W;
      V::store(p, V::sub(V::load(p), V::where_equal(ids.col_id + v * W, id, both)));
    }
  }
}

SigmoidSums sigmoid(float* s, const IdTile& ids) {
  Vec loss = V::zero(), slopes = V::zero(), moment = V::zero();
  const Vec one = V::set1(1.0f);
  for (int r = 0; r < MR; ++r) {
    for (int v = 0; v < NV; ++v) {
      float* p = s + r * NR + v * W;
      const int32_t* col = ids.col_id + v * W;
      const Vec x = V::load(p);
      const Vec size = V::max(V::sub(V::zero(), x), x);  // |x|, NaN stays
      const Vec e = exp(V::sub(V::zero(), size));
      const Vec share = V::div(one, V::add(one, e));
      Vec slope = V::where_negative(x, V::mul(e, share), share);
      Vec term = V::add(V::max(V::zero(), x), log1p(e));
      if (V::any_equal(col, ids.row_id[r])) {
        // softplus(x) - x = softplus(-x) and sigmoid(x) - 1 = -sigmoid(-x): no cancellation where x is far above 0
        const Vec minus = V::sub(V::zero(), x);
        const Vec flipped_term = V::add(V::max(V::zero(), minus), log1p(e));
        const Vec flipped_slope = V::sub(V::zero(), V::where_negative(x, share, V::mul(e, share)));
        term = V::choose_equal(col, ids.row_id[r], flipped_term, term);
        slope = V::choose_equal(col, ids.row_id[r], flipped_slope, slope);
      }
      loss = V::add(loss, term);
      slopes = V::add(slopes, slope);
      moment = V::add(moment, V::zero_where_zero(slope, V::mul(slope, x)));  // padding: 0 times -inf
      V::store(p, slope);
    }
  }
  return {static_cast<double>(V::reduce_add(loss)), static_cast<double>(V::reduce_add(slopes)),
          static_cast<double>(V::reduce_add(moment))};
}

void true_max(const float* s, float* row_max, float* col_max) {
  Vec col[NV];
  for (int v = 0; v < NV; ++v) col[v] = col_max ? V::load(col_max + v * W) : V::zero();
  for (int r = 0; r < MR; ++r) {
    Vec row = V::set1(-FLT_MAX);
    for (int v = 0; v < NV; ++v) {
      const Vec x = V::load(s + r * NR + v * W);
      row = V::max(x, row);
      col[v] = V::max(x, col[v]);
    }
    if (!row_max) continue;
    const float m = V::reduce_max(row);
    row_max[r] = m > row_max[r] ? m : row_max[r];
  }
  if (col_max)
    for (int v = 0; v < NV; ++v) V::store(col_max + v * W, col[v]);
}

inline uint32_t bits_of(float x) {
  uint32_t u;
  std::memcpy(&u, &x, 4);
  return u;
}

// bfloat16 in the low half, to nearest even; NaN keeps a digit, so that it does not round to infinity.
inline uint32_t bfloat16_bits(float x) {
  const uint32_t u = bits_of(x);
  const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  return (u & 0x7fffffffu) > 0x7f800000u ? (u >> 16) | 0x40u : rounded;
}

void store_float(const float* tile, uint32_t* by_row, uint32_t* by_col) {
  if (by_row) std::memcpy(by_row, tile, sizeof(float) * MR * NR);
  if (by_col) V::transpose(reinterpret_cast<const uint32_t*>(tile), MR, NR, by_col, MR, NR);
}

void store_bfloat16(const float* tile, uint32_t* by_row, uint32_t* by_col) {
  alignas(64) uint32_t bits[MR * NR];
  for (int i = 0; i < MR * NR; ++i) bits[i] = bfloat16_bits(tile[i]);
  if (by_row) {
    for (int r = 0; r + 1 < MR; r += 2)
      for (int c = 0; c < NR; ++c) by_row[r / 2 * NR + c] = bits[r * NR + c] | bits[(r + 1) * NR + c] << 16;
  }
  if (!by_col) return;
  alignas(64) uint32_t pairs[MR * NR / 2];
  for (int i = 0; i < MR * NR / 2; ++i) pairs[i] = bits[2 * i] | bits[2 * i + 1] << 16;
  V::transpose(pairs, MR, NR / 2, by_col, MR, NR / 2);
}

void store(const float* tile, uint32_t* by_row, uint32_t* by_col) {
  V::PER_WORD == 2 ? store_bfloat16(tile, by_row, by_col) : store_float(tile, by_row, by_col);
}

void pack_features(const float* x0, const float* x1, int64_t d, int width, uint32_t* out, int64_t panel_stride) {
  for (int64_t first = 0; first < d; first += width, out += panel_stride) {
    const int count = static_cast<int>(d - first < width ? d - first : width);
    if (V::PER_WORD == 2) {
      for (int f = 0; f < count; ++f) out[f] = bfloat16_bits(x0[first + f]) | bfloat16_bits(x1[first + f]) << 16;
    } else {
      std::memcpy(out, x0 + first, sizeof(float) * count);
    }
    for (int f = count; f < width; ++f) out[f] = 0;
  }
}

void to_float(const void* src, DType dtype, int64_t stride, int64_t d, float* dst) {
  if (dtype == DType::f32) {
    const float* x = static_cast<const float*>(src);
    for (int64_t i = 0; i < d; ++i) dst[i] = x[i * stride];
    return;
  }
  const uint16_t* x = static_cast<const uint16_t*>(src);
  if (dtype == DType::bf16) {
    uint32_t* out = reinterpret_cast<uint32_t*>(dst);
    for (int64_t i = 0; i < d; ++i) out[i] = static_cast<uint32_t>(x[i * stride]) << 16;
    return;
  }
  int64_t i = 0;
  if (stride == 1)
    for (; i + W <= d; i += W) V::store(dst + i, V::load_half(x + i));
  for (; i < d; ++i) dst[i] = half_value(x[i * stride]);
}

void to_words(const float* x, int64_t d, uint32_t* out, int64_t width) {
  if (V::PER_WORD == 1) {
    std::memcpy(out, x, static_cast<size_t>(d) * 4);
    std::memset(out + d, 0, static_cast<size_t>(width - d) * 4);
    return;
  }
  int64_t w = 0;
  for (; 2 * w + 1 < d; ++w) out[w] = bfloat16_bits(x[2 * w]) | bfloat16_bits(x[2 * w + 1]) << 16;
  if (2 * w < d) out[w] = bfloat16_bits(x[2 * w]), ++w;
  std::memset(out + w, 0, static_cast<size_t>(width - w) * 4);
}

void interleave(const uint32_t* src, int rows, int64_t src_ld, uint32_t* dst, int64_t ld, int64_t width) {
  V::transpose(src, rows, src_ld, dst, ld, width);
}

double dot_and_scale(const float* x, float* g, int64_t d, float scale) {
  double sum[8] = {};  // eight chains, so that additions need not wait for each other
  int64_t i = 0;
  for (; i + 8 <= d; i += 8)
    for (int l = 0; l < 8; ++l) sum[l] += static_cast<double>(x[i + l]) * static_cast<double>(g[i + l]);
  for (int l = 0; i < d; ++i, ++l) sum[l] += static_cast<double>(x[i]) * static_cast<double>(g[i]);
  for (int64_t f = 0; f < d; ++f) g[f] *= scale;
  return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

constexpr Kernels make_table(const char* name) {
  return {name,
          MR,
          NR,
          V::PER_WORD,
          product,
          product_add,
          product_add_transposed,
          soft_stats,
          soft_pull,
          merge_running,
          positive_sums,
          positive_pull,
          sigmoid,
          true_max,
          store,
          to_float,
          to_words,
          interleave,
          dot_and_scale,
          pack_features};
}

}  // namespace
}  // namespace pyfast::contrastive::PYFAST_ISA_NAMESPACE

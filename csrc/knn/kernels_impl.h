// The hot loops, written once over a small vector vocabulary and compiled once per instruction set.
// The including file defines PYFAST_ISA_NAMESPACE and, inside that namespace, `struct V` with
//   W lanes, NV vectors per panel row, PER_WORD, MAX_MR; Vec, Words; zero, set1, load, add, sub, mul, max, reduce_add,
//   reduce_max, any_ge; store_rounded(x, out, i): round to the stored precision, store, and return what was stored;
//   load_words, broadcast, mul_add(acc, x, y): acc += x * y;  keep(...): append the lanes that reach a threshold;
//   transpose(...): interleave up to 16 rows;  half_to_float(...): what it can of a float16 row;
//   and `struct D8`: eight double lanes with load, load_tail, set1, sub, fma, sum.
// No standard-library templates here: see kernels.h.
#include <sched.h>

#include <cfloat>
#include <cstring>

#include "core/half.h"
#include "knn/kernels.h"

namespace pyfast::knn::PYFAST_ISA_NAMESPACE {
namespace {

constexpr int NR = V::W * V::NV;
constexpr float up = 1.0f + 0x1p-20f;

inline float load_limit(const float* p) {
  uint32_t bits = __atomic_load_n(reinterpret_cast<const uint32_t*>(p), __ATOMIC_RELAXED);
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

inline void raise_limit(float* p, float value) {
  // Only the holder of the slot's lock raises its limit; readers without the lock may see the older, lower one.
  if (value <= load_limit(p)) return;
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  __atomic_store_n(reinterpret_cast<uint32_t*>(p), bits, __ATOMIC_RELAXED);
}

inline void lock(Slot& slot) {
  int spins = 0;
  while (__atomic_exchange_n(&slot.lock, 1, __ATOMIC_ACQUIRE)) {
    if (++spins > 64) sched_yield();  // the holder may have been descheduled
  }
}

// Released also when ranking runs out of memory: a lock that stays held would stop every other thread.
struct Unlock {
  Slot& slot;
  ~Unlock() { __atomic_store_n(&slot.lock, 0, __ATOMIC_RELEASE); }
};

// Appends the rows of one panel whose screened score reaches the limit of query r.
__attribute__((noinline)) void append(const ScanArgs& args, const Tile& tile, int r, const V::Vec* score, float slack,
                                      uint32_t first_row) {
  Slot& slot = tile.slots[r];
  lock(slot);
  const Unlock at_end{slot};
  float limit = load_limit(tile.limit + r);
  if (args.top1) {
    V::Vec best = score[0];
    for (int v = 1; v < V::NV; ++v) best = V::max(best, score[v]);
    const float lower = V::reduce_max(best) - slack;
    if (lower > limit) raise_limit(tile.limit + r, limit = lower);
  }
  float least = limit - slack;
  if (!(least > -FLT_MAX)) least = -FLT_MAX;
  for (int v = 0; v < V::NV; ++v) {
    slot.count += V::keep(score[v], least, slack, first_row + v * V::W, slot.lower + slot.count,
                          slot.upper + slot.count, slot.row + slot.count);
  }
  if (slot.count > slot.trigger) args.full(args.context, &slot, tile.limit + r);
}

// Asks for the part of the next tile's queries that belongs to panel i of count, ahead of their use.
inline void prefetch_part(const Tile* next, int64_t width, int64_t i, int64_t count) {
  if (!next) return;
  const int64_t lines = (width * next->mr + 15) / 16;
  for (int64_t l = lines * i / count; l < lines * (i + 1) / count; ++l) __builtin_prefetch(next->packed + l * 16, 0, 2);
}

template <int MR>
void scan_tile(const ScanArgs& args, const Tile& tile, const Tile* next) {
  const Panels& p = args.panels;
  alignas(64) float limit[max_tile], least[max_tile], slack[max_tile];
  for (int64_t i = 0; i < p.count; ++i) {
    prefetch_part(next, p.width, i, p.count);
    const uint32_t* words = p.words + i * p.width * NR;
    const uint32_t* query = tile.packed;
    V::Vec acc[MR][V::NV];
    for (int r = 0; r < MR; ++r)
      for (int v = 0; v < V::NV; ++v) acc[r][v] = V::zero();
    for (int64_t w = 0; w < p.width; ++w, words += NR, query += MR) {
      V::Words x[V::NV];
      for (int v = 0; v < V::NV; ++v) x[v] = V::load_words(words + v * V::W);
#pragma GCC unroll 12
      for (int r = 0; r < MR; ++r) {
        const V::Words y = V::broadcast(query + r);
        for (int v = 0; v < V::NV; ++v) acc[r][v] = V::mul_add(acc[r][v], x[v], y);
      }
    }
    const float fixed = p.bias_max[i];
    for (int r = 0; r < max_tile; ++r) limit[r] = load_limit(tile.limit + r);
    for (int r = 0; r < max_tile; ++r) {
      const float e = (tile.alpha[r] * p.rho_max[i] + tile.beta[r] * p.norm_max[i] + fixed + tile.eta[r]) * up;
      const float t = limit[r] - e - 0x1p-22f * (limit[r] < 0 ? -limit[r] : limit[r]);
      slack[r] = e;
      least[r] = t > -FLT_MAX ? t : -FLT_MAX;
    }
    V::Vec bias[V::NV];
    for (int v = 0; v < V::NV; ++v) bias[v] = V::load(p.bias + i * NR + v * V::W);
    unsigned hits = 0;
#pragma GCC unroll 12
    for (int r = 0; r < MR; ++r) {
      const V::Vec t = V::set1(least[r]);
      for (int v = 0; v < V::NV; ++v) {
        acc[r][v] = V::add(acc[r][v], bias[v]);
        hits |= static_cast<unsigned>(V::any_ge(acc[r][v], t)) << r;
      }
    }
    hits &= (1u << tile.rows) - 1;  // padding has no slot
    if (__builtin_expect(hits == 0, 1)) continue;
    // A copy, made once: were the address of acc itself passed on, every accumulator would live in memory.
    V::Vec score[MR][V::NV];
#pragma GCC unroll 12
    for (int r = 0; r < MR; ++r)
      for (int v = 0; v < V::NV; ++v) score[r][v] = acc[r][v];
    for (; hits; hits &= hits - 1) {
      const int r = __builtin_ctz(hits);
      append(args, tile, r, score[r], slack[r], p.first_row + static_cast<uint32_t>(i * NR));
    }
  }
}

void scan(const ScanArgs& args) {
  for (int64_t t = 0; t < args.tile_count; ++t) {
    const Tile& tile = args.tiles[t];
    const Tile* next = t + 1 < args.tile_count ? &args.tiles[t + 1] : nullptr;
    switch (tile.mr) {
      case 1: scan_tile<1>(args, tile, next); break;
      case 2: scan_tile<2>(args, tile, next); break;
      case 4: scan_tile<4>(args, tile, next); break;
      case 6:
        if constexpr (V::MAX_MR == 6) scan_tile<6>(args, tile, next);
        break;
      case 8:
        if constexpr (V::MAX_MR == 12) scan_tile<8>(args, tile, next);
        break;
      case 12:
        if constexpr (V::MAX_MR == 12) scan_tile<12>(args, tile, next);
        break;
    }
  }
}

int tile_rows(int64_t left) {
  if (left >= V::MAX_MR) return V::MAX_MR;
  for (int mr : {1, 2, 4, 6, 8})
    if (mr >= left && (mr != 6 || V::MAX_MR == 6) && (mr != 8 || V::MAX_MR == 12)) return mr;
  return V::MAX_MR;
}

float kth_bound(const float* x, int32_t n, int32_t k) {
  float low = x[0], high = x[0];
  for (int32_t i = 1; i < n; ++i) {
    low = x[i] < low ? x[i] : low;
    high = x[i] > high ? x[i] : high;
  }
  // Bisection on the value: n is a few hundred, so 20 branch-free counting sweeps beat a selection.
  for (int step = 0; step < 20; ++step) {
    const float middle = low + 0.5f * (high - low);
    if (!(middle > low) || !(middle < FLT_MAX)) break;
    int32_t above = 0;
    for (int32_t i = 0; i < n; ++i) above += x[i] >= middle;
    if (above >= k)
      low = middle;
    else
      high = middle;
    if (above == k) break;
  }
  return low;
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
  if (stride == 1) i = V::half_to_float(x, d, dst);
  for (; i < d; ++i) dst[i] = half_value(x[i * stride]);
}

RowMeta transform(const float* x, int64_t d, float scale, const float* mean, uint32_t* out, int64_t out_width) {
  V::Vec norm2 = V::zero(), rho2 = V::zero();
  const V::Vec s = V::set1(scale);
  int64_t i = 0;
  for (; i < d; i += V::W) {
    V::Vec raw;
    if (i + V::W <= d) {
      raw = V::load(x + i);
    } else {
      float tail[V::W] = {};
      for (int64_t j = i; j < d; ++j) tail[j - i] = x[j];
      raw = V::load(tail);
    }
    const V::Vec t = V::sub(V::mul(raw, s), V::load(mean + i));
    const V::Vec lost = V::sub(t, V::store_rounded(t, out, i));
    norm2 = V::add(norm2, V::mul(t, t));
    rho2 = V::add(rho2, V::mul(lost, lost));
  }
  const int64_t written = i / V::PER_WORD;
  std::memset(out + written, 0, static_cast<size_t>(out_width - written) * 4);
  return {V::reduce_add(norm2), V::reduce_add(rho2)};
}

void interleave(const uint32_t* src, int rows, int64_t width, uint32_t* dst, int64_t ld, int64_t words) {
  V::transpose(src, rows, width, dst, ld, words);
}

template <int N>
void squared_distance_n(const float* q, const float* const* rows, int64_t d, double* out) {
  D8 acc[N];
  for (int j = 0; j < N; ++j) acc[j] = D8::set1(0);
  for (int64_t i = 0; i < d; i += 8) {
    const bool full = i + 8 <= d;
    const D8 y = full ? D8::load(q + i) : D8::load_tail(q + i, d - i);
    for (int j = 0; j < N; ++j) {
      const D8 t = D8::sub(y, full ? D8::load(rows[j] + i) : D8::load_tail(rows[j] + i, d - i));
      acc[j] = D8::fma(t, t, acc[j]);
    }
  }
  for (int j = 0; j < N; ++j) out[j] = D8::sum(acc[j]);
}

template <int N>
void product_n(const float* q, const float* const* rows, int64_t d, double* dot, double* norm2) {
  D8 acc[N], own[N];
  for (int j = 0; j < N; ++j) acc[j] = own[j] = D8::set1(0);
  for (int64_t i = 0; i < d; i += 8) {
    const bool full = i + 8 <= d;
    const D8 y = full ? D8::load(q + i) : D8::load_tail(q + i, d - i);
    for (int j = 0; j < N; ++j) {
      const D8 x = full ? D8::load(rows[j] + i) : D8::load_tail(rows[j] + i, d - i);
      acc[j] = D8::fma(y, x, acc[j]);
      own[j] = D8::fma(x, x, own[j]);
    }
  }
  for (int j = 0; j < N; ++j) dot[j] = D8::sum(acc[j]), norm2[j] = D8::sum(own[j]);
}

void squared_distance(const float* q, const float* const* rows, int count, int64_t d, double* out) {
  int j = 0;
  for (; j + 4 <= count; j += 4) squared_distance_n<4>(q, rows + j, d, out + j);
  switch (count - j) {  // the sums of one row wait on each other, those of several rows do not
    case 3: squared_distance_n<3>(q, rows + j, d, out + j); break;
    case 2: squared_distance_n<2>(q, rows + j, d, out + j); break;
    case 1: squared_distance_n<1>(q, rows + j, d, out + j); break;
  }
}

void product(const float* q, const float* const* rows, int count, int64_t d, double* dot, double* norm2) {
  int j = 0;
  for (; j + 4 <= count; j += 4) product_n<4>(q, rows + j, d, dot + j, norm2 + j);
  switch (count - j) {  // the sums of one row wait on each other, those of several rows do not
    case 3: product_n<3>(q, rows + j, d, dot + j, norm2 + j); break;
    case 2: product_n<2>(q, rows + j, d, dot + j, norm2 + j); break;
    case 1: product_n<1>(q, rows + j, d, dot + j, norm2 + j); break;
  }
}

// Four rows per sweep over the sum: the order of addition is that of one row after the other.
void add_rows(double* sum, const float* const* rows, const double* scale, int count, int64_t d) {
  int r = 0;
  for (; r + 4 <= count; r += 4) {
    const float *a = rows[r], *b = rows[r + 1], *c = rows[r + 2], *e = rows[r + 3];
    const double s0 = scale[r], s1 = scale[r + 1], s2 = scale[r + 2], s3 = scale[r + 3];
    for (int64_t i = 0; i < d; ++i) sum[i] = (((sum[i] + s0 * a[i]) + s1 * b[i]) + s2 * c[i]) + s3 * e[i];
  }
  for (; r < count; ++r)
    for (int64_t i = 0; i < d; ++i) sum[i] += scale[r] * rows[r][i];
}

constexpr Kernels make_table(const char* name) {
  return {name,       NR,   V::MAX_MR, V::PER_WORD,      tile_rows, to_float, transform,
          interleave, scan, kth_bound, squared_distance, product,   add_rows};
}

}  // namespace
}  // namespace pyfast::knn::PYFAST_ISA_NAMESPACE

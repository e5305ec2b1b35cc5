// The hot loops, written once over a small vector vocabulary and compiled once per instruction set.
// The including file defines PYFAST_ISA_NAMESPACE and, inside that namespace, `struct V` with
//   W lanes, NV vectors per tile row, MR tile rows (a multiple of STEP), T side of the squares it transposes; Vec;
//   zero, set1, load, load_part (zeros behind), store, store_part, mul, add, fma(x, y, z) = x * y + z, abs;
//   load_bf16, load_half; transpose(src, rows, src_ld, dst, ld, width): dst[w * ld + r] = src[r * src_ld + w] for
//   up to T rows, free to read src up to the next multiple of 16;
//   and `struct D8`: eight double lanes with zero, load (of floats), fma, sum.
#include "fisher/pack_impl.h"

namespace pyfast::fisher::PYFAST_ISA_NAMESPACE {
namespace {

constexpr int NR = V::W * V::NV;

// Where one tile reads and writes; `live` lanes of it exist.
struct Tile {
  const float *g, *a;
  float *out, *state;
  int64_t out_stride, state_stride;
  int rows, live;
};

inline V::Vec load_lanes(const float* p, int lanes) { return lanes >= V::W ? V::load(p) : V::load_part(p, lanes); }

inline void store_lanes(float* p, V::Vec x, int lanes) {
  if (lanes >= V::W)
    V::store(p, x);
  else
    V::store_part(p, x, lanes);
}

// AT: where step s of `a` starts.
template <int ROWS, int NV, class AT>
inline void add_products_at(const float* g, const float* a, int64_t steps, AT at, V::Vec (&sum)[ROWS][NV]) {
  for (int64_t s = 0; s < steps; ++s, g += V::MR) {
    const float* step = a + at(s);
    V::Vec x[NV];
    for (int v = 0; v < NV; ++v) x[v] = V::load(step + v * V::W);
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; ++r) {
      const V::Vec y = V::set1(g[r]);
      for (int v = 0; v < NV; ++v) sum[r][v] = V::fma(x[v], y, sum[r][v]);
    }
  }
}

template <int ROWS, int NV>
inline void add_products(const BlockArgs& args, const float* g, const float* a, V::Vec (&sum)[ROWS][NV]) {
  const int64_t* offsets = args.step_offsets;
  if (offsets)
    add_products_at<ROWS, NV>(g, a, args.steps, [offsets](int64_t s) { return offsets[s]; }, sum);
  else
    add_products_at<ROWS, NV>(g, a, args.steps, [](int64_t s) { return s * NR; }, sum);
}

// p[r][l] = op(p[r][l], sum[r][l]) for the lanes that exist.
template <int ROWS, int NV, class OP>
inline void update(float* p, int64_t stride, const Tile& tile, const V::Vec (&sum)[ROWS][NV], OP op) {
  if (tile.rows == ROWS && tile.live == NV * V::W) {
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; ++r)
      for (int v = 0; v < NV; ++v) {
        float* to = p + r * stride + v * V::W;
        V::store(to, op(V::load(to), sum[r][v]));
      }
    return;
  }
#pragma GCC unroll 12
  for (int r = 0; r < ROWS; ++r) {
    if (r >= tile.rows) break;
    for (int v = 0; v < NV; ++v) {
      const int lanes = tile.live - v * V::W;
      if (lanes <= 0) break;
      float* to = p + r * stride + v * V::W;
      store_lanes(to, op(load_lanes(to, lanes), sum[r][v]), lanes);
    }
  }
}

inline V::Vec plus(V::Vec x, V::Vec y) { return V::add(x, y); }
inline V::Vec plus_absolute(V::Vec x, V::Vec y) { return V::add(x, V::abs(y)); }
inline V::Vec plus_square(V::Vec x, V::Vec y) { return V::fma(y, y, x); }
inline V::Vec second(V::Vec, V::Vec y) { return y; }

// A sample's product in registers, then its square into the output.
template <int ROWS, int NV>
void long_tile(const BlockArgs& args, const Tile& tile) {
  V::Vec sum[ROWS][NV];
  for (int r = 0; r < ROWS; ++r)
    for (int v = 0; v < NV; ++v) sum[r][v] = V::zero();
  add_products<ROWS, NV>(args, tile.g, tile.a, sum);
  if (args.resume) {  // the parts of a long sample are summed on their own: shorter chains of rounding
    for (int r = 0; r < ROWS; ++r)
      for (int v = 0; v < NV; ++v) {
        const int lanes = tile.live - v * V::W;
        if (r < tile.rows && lanes > 0)
          sum[r][v] = V::add(sum[r][v], load_lanes(tile.state + r * tile.state_stride + v * V::W, lanes));
      }
  }
  switch (args.finish) {
    case Finish::square: update<ROWS, NV>(tile.out, tile.out_stride, tile, sum, plus_square); break;
    case Finish::absolute: update<ROWS, NV>(tile.out, tile.out_stride, tile, sum, plus_absolute); break;
    case Finish::add: update<ROWS, NV>(tile.out, tile.out_stride, tile, sum, plus); break;
    case Finish::keep: update<ROWS, NV>(tile.state, tile.state_stride, tile, sum, second); break;
  }
}

// Many short samples: the output stays in registers beside the product, so half the rows at a time.
template <int ROWS, int NV, class OP>
void short_tile(const BlockArgs& args, const Tile& tile, OP op) {
  V::Vec total[ROWS][NV];
  for (int r = 0; r < ROWS; ++r)
    for (int v = 0; v < NV; ++v) total[r][v] = V::zero();
  const float *g = tile.g, *a = tile.a;
  for (int64_t n = 0; n < args.samples; ++n, g += args.steps * V::MR, a += args.a_sample) {
    V::Vec sum[ROWS][NV];
    for (int r = 0; r < ROWS; ++r)
      for (int v = 0; v < NV; ++v) sum[r][v] = V::zero();
    add_products<ROWS, NV>(args, g, a, sum);
    for (int r = 0; r < ROWS; ++r)
      for (int v = 0; v < NV; ++v) total[r][v] = op(total[r][v], sum[r][v]);
  }
  update<ROWS, NV>(tile.out, tile.out_stride, tile, total, plus);
}

template <int NV>
void run_tile(const BlockArgs& args, Tile tile) {
  if (args.samples > 1) {
    constexpr int half = V::MR / 2;
    const int rows = tile.rows;
    for (int first = 0; first < rows; first += half) {
      tile.rows = rows - first < half ? rows - first : half;
      if (args.finish == Finish::square)
        short_tile<half, NV>(args, tile, plus_square);
      else
        short_tile<half, NV>(args, tile, plus_absolute);
      tile.g += half;
      tile.out += half * tile.out_stride;
    }
    return;
  }
  if (tile.rows > 2 * V::STEP) return long_tile<V::MR, NV>(args, tile);
  if (tile.rows > V::STEP) return long_tile<2 * V::STEP, NV>(args, tile);
  long_tile<V::STEP, NV>(args, tile);
}

void block(const BlockArgs& args) {
  for (int64_t l = 0; l < args.lanes; l += NR) {
    const int live = static_cast<int>(args.lanes - l < NR ? args.lanes - l : NR);
    for (int64_t r = 0; r < args.rows; r += V::MR) {
      Tile tile;
      tile.g = args.g + r / V::MR * args.g_stride;
      tile.a = args.a + (args.panel_offsets ? args.panel_offsets[l / NR] : l / NR * args.a_stride);
      tile.out = args.out + r * args.out_stride + l;
      tile.state = args.state ? args.state + r * args.state_stride + l : nullptr;
      tile.out_stride = args.out_stride;
      tile.state_stride = args.state_stride;
      tile.rows = static_cast<int>(args.rows - r < V::MR ? args.rows - r : V::MR);
      tile.live = live;
      if (live <= V::W)
        run_tile<1>(args, tile);
      else
        run_tile<V::NV>(args, tile);
    }
  }
}

template <class T>
double quadratic_of(const Quadratic& q) {
  const auto* theta = reinterpret_cast<const typename T::Type*>(q.theta);
  D8 total = D8::zero();
  alignas(64) float gap[64], pull[64];
  for (int64_t i = 0; i < q.count; i += 64) {
    const int64_t n = q.count - i < 64 ? q.count - i : 64;
    if (n < 64) std::memset(gap, 0, sizeof gap), std::memset(pull, 0, sizeof pull);
    for (int64_t j = 0; j < n; ++j) {
      gap[j] = T::value(theta[i + j]) - q.anchor[i + j];
      pull[j] = q.weight[i + j] * gap[j];
    }
    if (q.grad)
      for (int64_t j = 0; j < n; ++j) q.grad[i + j] = q.scale * pull[j];
    for (int j = 0; j < 64; j += 8) total = D8::fma(D8::load(gap + j), D8::load(pull + j), total);
  }
  return D8::sum(total);
}

double quadratic(const Quadratic& q) {
  switch (q.dtype) {
    case DType::bf16: return quadratic_of<BF16>(q);
    case DType::f16: return quadratic_of<F16>(q);
    default: return quadratic_of<F32>(q);
  }
}

constexpr Kernels make_table(const char* name) { return {name, V::MR, NR, pack, unfold, block, quadratic}; }

}  // namespace
}  // namespace pyfast::fisher::PYFAST_ISA_NAMESPACE

// The hot loops, written once over a small vector vocabulary and compiled once per instruction set.
// The including file defines PYFAST_ISA_NAMESPACE and, inside that namespace, `struct V` with
//   W lanes, NV vectors per tile row, MR tile rows (a multiple of STEP), T side of the squares it transposes; Vec;
//   zero, set1, load, load_part (zeros behind), store, store_part, mul, add, fma(x, y, z) = x * y + z, abs;
//   load_bf16, load_half; transpose(src, rows, src_ld, dst, ld, width): dst[w * ld + r] = src[r * src_ld + w],
//   free to read src up to the next multiple of T;
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

template <int ROWS, int NV>
inline void add_products(const float* g, const float* a, int64_t steps, V::Vec (&sum)[ROWS][NV]) {
  for (int64_t s = 0; s < steps; ++s, g += V::MR, a += NR) {
    V::Vec x[NV];
    for (int v = 0; v < NV; ++v) x[v] = V::load(a + v * V::W);
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; ++r) {
      const V::Vec y = V::set1(g[r]);
      for (int v = 0; v < NV; ++v) sum[r][v] = V::fma(x[v], y, sum[r][v]);
    }
  }
}

inline V::Vec finished(V::Vec out, V::Vec sum, Finish finish) {
  if (finish == Finish::square) return V::fma(sum, sum, out);
  return V::add(out, finish == Finish::absolute ? V::abs(sum) : sum);
}

// A sample's product in registers, then its square into the output.
template <int ROWS, int NV>
void long_tile(const BlockArgs& args, const Tile& tile) {
  V::Vec sum[ROWS][NV];
  for (int r = 0; r < ROWS; ++r)
    for (int v = 0; v < NV; ++v) sum[r][v] = V::zero();
  add_products<ROWS, NV>(tile.g, tile.a, args.steps, sum);
#pragma GCC unroll 12
  for (int r = 0; r < ROWS; ++r) {
    if (r >= tile.rows) break;
    for (int v = 0; v < NV; ++v) {
      const int lanes = tile.live - v * V::W;
      if (lanes <= 0) break;
      // The parts of a long sample are summed on their own: shorter chains of rounding.
      float* state = tile.state ? tile.state + r * tile.state_stride + v * V::W : nullptr;
      float* out = tile.out + r * tile.out_stride + v * V::W;
      V::Vec value = args.resume ? V::add(load_lanes(state, lanes), sum[r][v]) : sum[r][v];
      if (args.finish != Finish::keep) value = finished(load_lanes(out, lanes), value, args.finish);
      store_lanes(args.finish == Finish::keep ? state : out, value, lanes);
    }
  }
}

// Many short samples: the output stays in registers beside the product, so half the rows at a time.
template <int ROWS, int NV>
void short_tile(const BlockArgs& args, const Tile& tile) {
  V::Vec total[ROWS][NV];
  for (int r = 0; r < ROWS; ++r)
    for (int v = 0; v < NV; ++v) total[r][v] = V::zero();
  const float *g = tile.g, *a = tile.a;
  for (int64_t n = 0; n < args.samples; ++n, g += args.steps * V::MR, a += args.steps * NR) {
    V::Vec sum[ROWS][NV];
    for (int r = 0; r < ROWS; ++r)
      for (int v = 0; v < NV; ++v) sum[r][v] = V::zero();
    add_products<ROWS, NV>(g, a, args.steps, sum);
    for (int r = 0; r < ROWS; ++r)
      for (int v = 0; v < NV; ++v) total[r][v] = finished(total[r][v], sum[r][v], args.finish);
  }
#pragma GCC unroll 6
  for (int r = 0; r < ROWS; ++r) {
    if (r >= tile.rows) break;
    for (int v = 0; v < NV; ++v) {
      const int lanes = tile.live - v * V::W;
      if (lanes <= 0) break;
      float* p = tile.out + r * tile.out_stride + v * V::W;
      store_lanes(p, V::add(load_lanes(p, lanes), total[r][v]), lanes);
    }
  }
}

template <int NV>
void run_tile(const BlockArgs& args, Tile tile) {
  if (args.samples > 1) {
    constexpr int half = V::MR / 2;
    const int rows = tile.rows;
    for (int first = 0; first < rows; first += half) {
      tile.rows = rows - first < half ? rows - first : half;
      short_tile<half, NV>(args, tile);
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
      tile.a = args.a + l / NR * args.a_stride;
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

constexpr Kernels make_table(const char* name) { return {name, V::MR, NR, pack, block, quadratic}; }

}  // namespace
}  // namespace pyfast::fisher::PYFAST_ISA_NAMESPACE

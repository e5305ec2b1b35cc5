// Sums over rows of features, compiled once per instruction set. The including file defines PYFAST_ISA_NAMESPACE and,
// in it, `struct D8`: eight doubles with zero, load of eight floats or doubles, load_bf16, load_half, store, add, sub,
// mul, fma(x, y, z) = x * y + z rounded once, sum; and R, the rows that are summed side by side.
#include <cstdint>
#include <cstring>

namespace pyfast::sampling::PYFAST_ISA_NAMESPACE {
namespace {

struct F32 {
  using Type = float;
  static constexpr bool exact = true;  // products of two fit a double
  static D8 load(const Type* p) { return D8::load(p); }
};
struct F64 {
  using Type = double;
  static constexpr bool exact = false;
  static D8 load(const Type* p) { return D8::load(p); }
};
struct F16 {
  using Type = uint16_t;
  static constexpr bool exact = true;
  static D8 load(const Type* p) { return D8::load_half(p); }
};
struct BF16 {
  using Type = uint16_t;
  static constexpr bool exact = true;
  static D8 load(const Type* p) { return D8::load_bf16(p); }
};

template <class T>
inline D8 load_part(const typename T::Type* p, int64_t n) {
  typename T::Type lanes[8] = {};
  std::memcpy(lanes, p, static_cast<size_t>(n) * sizeof(typename T::Type));
  return T::load(lanes);
}

template <Reduce what, bool exact>
inline D8 step(D8 sum, D8 x, const double* y) {
  if (what == Reduce::square) return exact ? D8::fma(x, x, sum) : D8::add(sum, D8::mul(x, x));
  if (what == Reduce::dot) return D8::add(sum, D8::mul(x, D8::load(y)));
  if (what == Reduce::product) return exact ? D8::fma(x, D8::load(y), sum) : D8::add(sum, D8::mul(x, D8::load(y)));
  const D8 gap = D8::sub(x, D8::load(y));
  return D8::add(sum, D8::mul(gap, gap));
}

template <class T, Reduce what, int ROWS>
inline void reduce_some(const Features& f, const int64_t* rows, const double* y, double* out) {
  const typename T::Type* x[ROWS];
  D8 sum[ROWS];
  for (int r = 0; r < ROWS; ++r) {
    x[r] = reinterpret_cast<const typename T::Type*>(f.data) + rows[r] * f.d;
    sum[r] = D8::zero();
  }
  int64_t i = 0;
  for (; i + 8 <= f.d; i += 8)
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r) sum[r] = step<what, T::exact>(sum[r], T::load(x[r] + i), y + i);
  if (i < f.d)
    for (int r = 0; r < ROWS; ++r) sum[r] = step<what, T::exact>(sum[r], load_part<T>(x[r] + i, f.d - i), y + i);
  for (int r = 0; r < ROWS; ++r) out[r] = D8::sum(sum[r]);
}

template <class T, Reduce what>
void reduce_rows(const Features& f, const int64_t* rows, int64_t count, const double* y, double* out) {
  int64_t i = 0;
  for (; i + R <= count; i += R) reduce_some<T, what, R>(f, rows + i, y, out + i);
  for (; i < count; ++i) reduce_some<T, what, 1>(f, rows + i, y, out + i);
}

template <class T>
void reduce_as(Reduce what, const Features& f, const int64_t* rows, int64_t count, const double* y, double* out) {
  switch (what) {
    case Reduce::dot: return reduce_rows<T, Reduce::dot>(f, rows, count, y, out);
    case Reduce::product: return reduce_rows<T, Reduce::product>(f, rows, count, y, out);
    case Reduce::square: return reduce_rows<T, Reduce::square>(f, rows, count, y, out);
    case Reduce::distance: return reduce_rows<T, Reduce::distance>(f, rows, count, y, out);
  }
}

void reduce(Reduce what, const Features& f, const int64_t* rows, int64_t count, const double* y, double* out) {
  switch (f.dtype) {
    case DType::f16: return reduce_as<F16>(what, f, rows, count, y, out);
    case DType::bf16: return reduce_as<BF16>(what, f, rows, count, y, out);
    case DType::f64: return reduce_as<F64>(what, f, rows, count, y, out);
    default: return reduce_as<F32>(what, f, rows, count, y, out);
  }
}

template <class T>
void add_rows_as(const Features& f, const int64_t* rows, int64_t count, int64_t from, int64_t to, double* sum) {
  for (int64_t i = 0; i < count; ++i) {
    const typename T::Type* x = reinterpret_cast<const typename T::Type*>(f.data) + (rows ? rows[i] : i) * f.d;
    int64_t c = from;
    for (; c + 8 <= to; c += 8) D8::store(sum + c, D8::add(D8::load(sum + c), T::load(x + c)));
    if (c == to) continue;
    double lanes[8];
    D8::store(lanes, load_part<T>(x + c, to - c));
    for (int64_t l = 0; l < to - c; ++l) sum[c + l] += lanes[l];
  }
}

void add_rows(const Features& f, const int64_t* rows, int64_t count, int64_t from, int64_t to, double* sum) {
  switch (f.dtype) {
    case DType::f16: return add_rows_as<F16>(f, rows, count, from, to, sum);
    case DType::bf16: return add_rows_as<BF16>(f, rows, count, from, to, sum);
    case DType::f64: return add_rows_as<F64>(f, rows, count, from, to, sum);
    default: return add_rows_as<F32>(f, rows, count, from, to, sum);
  }
}

}  // namespace
}  // namespace pyfast::sampling::PYFAST_ISA_NAMESPACE

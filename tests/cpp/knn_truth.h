// Data sets and the brute-force truth of the kNN tests: every pair in float64, ties by smaller index, NaN last.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "core/philox.h"
#include "knn/search.h"

namespace truth {

using pyfast::DType;
using pyfast::knn::Metric;
using pyfast::knn::Rows;

// Rows on the heap, exactly as long as they are: the sanitizer sees any read past the end.
struct Matrix {
  int64_t rows, d;
  std::vector<float> values;
  Matrix(int64_t rows, int64_t d) : rows(rows), d(d), values(static_cast<size_t>(rows * d)) {}
  float* row(int64_t i) { return values.data() + i * d; }
  const float* row(int64_t i) const { return values.data() + i * d; }
  Rows view() const {
    Rows r;
    r.data = reinterpret_cast<const char*>(values.data());
    r.rows = r.count = rows;
    r.d = r.row_stride = d;
    return r;
  }
};

inline double normal(pyfast::Philox& random) {
  const double u = pyfast::uniform_open(random.next64()), v = pyfast::uniform_double(random.next64());
  return std::sqrt(-2 * std::log(u)) * std::cos(6.283185307179586 * v);
}

// "grid": small integers, so that float64 is exact and ties abound; "normal"; "offset": near-duplicates far from zero;
// "wide": norms from 1e-30 to 1e30; "bad": some rows with NaN or infinity.
inline Matrix make(const std::string& kind, int64_t rows, int64_t d, uint64_t stream) {
  pyfast::Philox random(7, stream);
  Matrix m(rows, d);
  for (int64_t i = 0; i < rows; ++i) {
    const double size = kind == "wide" ? std::pow(10.0, 60 * pyfast::uniform_double(random.next64()) - 30) : 1;
    for (int64_t j = 0; j < d; ++j) {
      double v = kind == "grid" ? static_cast<double>(random.next() % 3) - 1 : normal(random) * size;
      if (kind == "offset") v = 1e4 + static_cast<double>(j % 7) + 1e-2 * v;
      m.row(i)[j] = static_cast<float>(v);
    }
    if (kind == "bad" && i % 5 == 1) {
      m.row(i)[random.next() % d] = i % 2 ? std::numeric_limits<float>::quiet_NaN() : HUGE_VALF;
    }
  }
  return m;
}

// Larger is better.
inline double score(Metric metric, const float* q, const float* x, int64_t d) {
  double sum = 0, qq = 0, xx = 0;
  for (int64_t j = 0; j < d; ++j) {
    const double a = q[j], b = x[j];
    sum += metric == Metric::l2 ? -(a - b) * (a - b) : a * b;
    qq += a * a;
    xx += b * b;
  }
  if (metric != Metric::cosine) return sum;
  const double norms = std::sqrt(qq) * std::sqrt(xx);
  return std::isnan(norms) ? norms : (norms == 0 ? 0.0 : sum / norms);
}

inline std::vector<int64_t> ranking(const std::vector<double>& scores, const std::vector<int64_t>& candidates) {
  std::vector<int64_t> order = candidates;
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    const bool a_nan = std::isnan(scores[a]), b_nan = std::isnan(scores[b]);
    return a_nan || b_nan ? !a_nan && b_nan : scores[a] > scores[b];
  });
  return order;
}

// Why `got` is not the ranking, or an empty text. Two rows may be swapped only where their scores agree to `slack`,
// the rounding of float64 sums in another order; no slack where they are exact.
inline std::string complaint(const std::vector<double>& scores, const std::vector<int64_t>& expected,
                             const int64_t* got, int64_t k, double slack) {
  std::vector<bool> seen(scores.size());
  for (int64_t place = 0; place < k; ++place) {
    const bool real = place < static_cast<int64_t>(expected.size());
    const int64_t want = real ? expected[place] : -1, have = got[place];
    const std::string where = "place " + std::to_string(place) + ": " + std::to_string(have);
    if (have < 0 || have >= static_cast<int64_t>(scores.size())) {
      if (have != want) return where + " is no row";
      continue;
    }
    if (!real) return where + " past the last row";
    if (seen[have]) return where + " twice";
    seen[have] = true;
    if (have == want) continue;
    if (!(slack > 0 && std::abs(scores[have] - scores[want]) <= slack))
      return where + " instead of " + std::to_string(want);
  }
  return "";
}

// Whether `value` is the float nearest to the score, give or take the slack of the float64 sum.
inline bool same_distance(double score, float value, double slack) {
  const float rounded = static_cast<float>(score);
  if (std::isnan(rounded)) return std::isnan(value);
  if (std::isinf(rounded)) return value == rounded;
  return std::abs(value - score) <= 6e-8 * std::abs(score) + slack + 1e-45;
}

}  // namespace truth

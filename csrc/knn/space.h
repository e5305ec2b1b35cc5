// The space in which rows are screened, and the rigorous bound on the screening error.
//
// A row x is stored as words of  x~ = scale * x - mean  (cosine: x / |x| - mean), a query as
//   l2: q~ = scale * q - mean,   ip: q~ = 2^e * q,   cosine: q~ = q / |q|,
// and the score is h(q, x) = <q~, x~> + b_x with b_x = -|x~|^2 / 2 for l2, 0 else. A larger h is exactly a smaller
// distance (l2: |q~ - x~|^2 = |q~|^2 - 2 h) or a larger similarity: shifts by the mean move every row of a query alike.
#pragma once
#include <cstdint>
#include <vector>

#include "knn/kernels.h"
#include "knn/rows.h"

namespace pyfast::knn {

enum class Metric : int { l2 = 0, ip = 1, cosine = 2 };

// Transformed norms beyond this leave float's safe range; such rows and queries are ranked in float64 only.
constexpr double norm_limit = 0x1p60;

struct Space {
  Metric metric = Metric::l2;
  int64_t d = 0;
  float scale = 1;              // power of two: typical rows get norm near 1
  std::vector<float> mean;      // in scaled units, d rounded up to 16
  std::vector<float> raw_mean;  // mean / scale, exactly: what is subtracted from the caller's rows; zeros under cosine
  std::vector<float> zeros;     // as long as mean
  double mean_norm = 0;         // 0 when rows are not shifted
  bool fixed = false;           // false until rows have been seen

  int64_t width(const Kernels& k) const { return (d + k.per_word - 1) / k.per_word; }
  int64_t scratch_width(const Kernels& k) const { return (width(k) + 15) / 16 * 16; }

  // Chooses scale and mean from up to 256 strided rows. A mean is used only where it shortens the rows noticeably,
  // so that rows which are exact in the stored precision stay exact.
  void fit(Metric metric, const Rows& rows, const Kernels& kernels);

  // What x is multiplied with before the mean is subtracted; 0 for a zero row under cosine.
  float row_scale(const float* x, const Kernels& kernels) const;

  // Relative rounding of the transformed values; 0 where x * scale is exact.
  double rounding() const { return metric == Metric::cosine || mean_norm > 0 ? 0x1p-22 : 0; }
};

// Metadata of a stored row, rounded so that the bound holds in float.
struct Bounds {
  float bias, rho, norm;
  float bias_error;  // bound on the error of bias
  bool special;      // NaN, infinity or beyond norm_limit: stored as zeros with bias -inf
};

// Stores row x as out [scratch_width] words.
Bounds store_row(const Space& space, const Kernels& kernels, const float* x, uint32_t* out);

struct QueryBounds {
  float alpha, beta, eta;  // see Tile
  double mean_dot;         // ip, cosine: <q~, mean>, by which all scores of this query are shifted
  double scale;            // what q was multiplied with
  bool special;
};

QueryBounds store_query(const Space& space, const Kernels& kernels, const float* q, uint32_t* out);

}  // namespace pyfast::knn

#include "knn/space.h"

#include <cmath>
#include <cstring>
#include <limits>

namespace pyfast::knn {
namespace {

constexpr double up = 1 + 0x1p-20;  // covers the rounding of a bound to float

double squared_norm(const float* x, int64_t d, const Kernels& kernels) {
  double dot, norm2;
  kernels.product(x, &x, 1, d, &dot, &norm2);
  return norm2;
}

double power_of_two_near_inverse(double norm) {
  return norm > 0 && std::isfinite(norm) ? std::ldexp(1.0, -std::ilogb(norm)) : 1.0;
}

// Relative drift of a float64 sum over D terms, generously: it only has to stay far below the stored precision.
double drift(const Space& space) { return static_cast<double>(space.d + 64) * 0x1p-51; }

// Unit roundoff bound of a D-term float sum of exact products, in any order of addition (Higham 2002, ch. 3).
double gamma(const Space& space) { return static_cast<double>(space.d + 2) * 0x1p-24 + 0x1p-22; }

}  // namespace

double Space::row_scale(const float* x, const Kernels& kernels) const {
  if (metric != Metric::cosine) return scale;
  const double norm2 = squared_norm(x, d, kernels);
  return norm2 > 0 ? 1 / std::sqrt(norm2) : (std::isnan(norm2) ? norm2 : 0.0);
}

void Space::fit(Metric metric_, const Rows& rows, const Kernels& kernels) {
  metric = metric_;
  d = rows.d;
  mean.assign(static_cast<size_t>((d + 7) / 8 * 8), 0.0);
  mean_norm = 0;
  scale = 1;
  fixed = rows.count > 0;
  std::vector<float> scratch(static_cast<size_t>(d));
  const int64_t sample = rows.count < 256 ? rows.count : 256;
  double power = 0;
  int64_t used = 0;
  for (int64_t i = 0; i < sample; ++i) {
    const float* x = rows.get(rows.count * i / sample, scratch.data(), kernels);
    const double norm2 = squared_norm(x, d, kernels);
    if (!std::isfinite(norm2) || norm2 == 0) continue;
    const double s = metric == Metric::cosine ? 1 / std::sqrt(norm2) : 1.0;
    for (int64_t j = 0; j < d; ++j) mean[j] += s * x[j];
    power += s * s * norm2;
    ++used;
  }
  if (used == 0) return;
  double mean2 = 0;
  for (double& m : mean) m /= static_cast<double>(used), mean2 += m * m;
  power /= static_cast<double>(used);
  if (metric != Metric::cosine) scale = power_of_two_near_inverse(std::sqrt(power));
  // Worth it only beyond what the mean of random signs would show.
  const bool centred = mean2 > (0.05 + 2.0 / static_cast<double>(used)) * power;
  for (double& m : mean) m = centred ? m * scale : 0.0;
  mean_norm = centred ? std::sqrt(mean2) * scale * up : 0.0;
  if (centred && metric == Metric::l2) {
    // Distances to the mean are what matters now: a second power of two brings them near 1.
    const double spread = std::sqrt(power - mean2 > 0 ? power - mean2 : 0.0) * scale;
    const double again = spread > 0x1p-40 ? power_of_two_near_inverse(spread) : 1.0;
    scale *= again;
    mean_norm *= again;
    for (double& m : mean) m *= again;
  }
}

Bounds store_row(const Space& space, const Kernels& kernels, const float* x, uint32_t* out) {
  const int64_t width = space.scratch_width(kernels);
  const RowMeta meta =
      kernels.transform(x, space.d, space.row_scale(x, kernels), space.mean.data(), out, width);
  const double norm = std::sqrt(meta.norm2);
  if (!(norm <= norm_limit)) {
    std::memset(out, 0, static_cast<size_t>(width) * 4);
    return {-std::numeric_limits<float>::infinity(), 0, 0, true};
  }
  // The drift covers the float64 rounding of x~ itself, also where the mean cancels most of it.
  const double rho = std::sqrt(meta.rho2) + drift(space) * (norm + space.mean_norm);
  const double bias = space.metric == Metric::l2 ? -0.5 * meta.norm2 : 0.0;
  return {static_cast<float>(bias), static_cast<float>(rho * up), static_cast<float>(norm * up), false};
}

QueryBounds store_query(const Space& space, const Kernels& kernels, const float* q, uint32_t* out) {
  const int64_t width = space.scratch_width(kernels);
  std::vector<double> zeros;
  const double* mean = space.mean.data();
  double scale = space.scale, shift = space.mean_norm;
  if (space.metric != Metric::l2) {
    const double norm2 = squared_norm(q, space.d, kernels);
    scale = space.metric == Metric::cosine ? (norm2 > 0 ? 1 / std::sqrt(norm2) : (norm2 == 0 ? 0.0 : norm2))
                                           : power_of_two_near_inverse(std::sqrt(norm2));
    zeros.assign(space.mean.size(), 0.0);
    mean = zeros.data();
    shift = 0;
  }
  const RowMeta meta = kernels.transform(q, space.d, scale, mean, out, width);
  const double norm = std::sqrt(meta.norm2);
  if (!(norm <= norm_limit)) {
    std::memset(out, 0, static_cast<size_t>(width) * 4);
    return {0, 0, 0, 0, scale, true};
  }
  const double rho = std::sqrt(meta.rho2) + drift(space) * (norm + shift);
  const double stored = norm + rho, g = gamma(space);
  // eta: products below the smallest normal number, and the float64 rounding of the ranking the screen must not cut.
  const double eta =
      static_cast<double>(space.d) * 0x1p-125 + (0x1p-40 + drift(space)) * norm * (norm + space.mean_norm);
  return {static_cast<float>(stored * (1 + g) * up), static_cast<float>((rho + g * stored) * up),
          static_cast<float>(eta * up), meta.norm2, scale, false};
}

}  // namespace pyfast::knn

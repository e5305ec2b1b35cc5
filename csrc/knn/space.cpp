#include "knn/space.h"

#include <cfloat>
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

float power_of_two_near_inverse(double norm) {
  if (!(norm > 0) || !std::isfinite(norm)) return 1;
  const int e = -std::ilogb(norm);
  return std::ldexp(1.0f, e < -120 ? -120 : e > 120 ? 120 : e);
}

// Unit roundoff bound of a D-term float sum of exact products, in any order of addition (Higham 2002, ch. 3).
double gamma(const Space& space) { return static_cast<double>(space.d + 2) * 0x1p-24 + 0x1p-22; }

// Bound on a norm whose square was summed in float.
double norm_bound(float norm2, int64_t d) {
  return std::sqrt(static_cast<double>(norm2) * (1 + (static_cast<double>(d) / 4 + 8) * 0x1p-23));
}

// 1 / |x| as a float. Zero rows stay zero; NaN, and norms whose inverse is too small for a normal float, give NaN:
// such rows are ranked in float64.
float unit_scale(double norm2) {
  if (norm2 == 0) return 0;
  const double s = 1 / std::sqrt(norm2);
  return s >= FLT_MIN ? static_cast<float>(s) : std::numeric_limits<float>::quiet_NaN();
}

constexpr double tiny = 0x1p-60;  // values and squares below float's range; typical rows have norm 1

}  // namespace

float Space::row_scale(const float* x, const Kernels& kernels) const {
  if (metric != Metric::cosine) return scale;
  return unit_scale(squared_norm(x, d, kernels));
}

void Space::fit(Metric metric_, const Rows& rows, const Kernels& kernels) {
  metric = metric_;
  d = rows.d;
  const size_t padded = static_cast<size_t>((d + 15) / 16 * 16);
  mean.assign(padded, 0.0f);
  raw_mean = zeros = mean;
  mean_norm = 0;
  scale = 1;
  fixed = rows.count > 0;
  std::vector<float> scratch(static_cast<size_t>(d));
  std::vector<double> centre(padded, 0.0);
  const int64_t sample = rows.count < 256 ? rows.count : 256;
  double power = 0;
  int64_t used = 0;
  for (int64_t i = 0; i < sample; ++i) {
    const float* x = rows.get(rows.count * i / sample, scratch.data(), kernels);
    const double norm2 = squared_norm(x, d, kernels);
    if (!std::isfinite(norm2) || norm2 == 0) continue;
    const double s = metric == Metric::cosine ? 1 / std::sqrt(norm2) : 1.0;
    for (int64_t j = 0; j < d; ++j) centre[static_cast<size_t>(j)] += s * x[j];
    power += s * s * norm2;
    ++used;
  }
  if (used == 0) return;
  double mean2 = 0;
  for (double& m : centre) m /= static_cast<double>(used), mean2 += m * m;
  power /= static_cast<double>(used);
  // Worth it only beyond what the mean of random signs would show.
  const bool centred = mean2 > (0.05 + 2.0 / static_cast<double>(used)) * power;
  const double spread = std::sqrt(power - (centred ? mean2 : 0) > 0 ? power - (centred ? mean2 : 0) : 0.0);
  const double typical = spread > 0x1p-40 * std::sqrt(power) ? spread : std::sqrt(power);
  if (metric != Metric::cosine) scale = power_of_two_near_inverse(typical);
  if (!centred) return;
  double size2 = 0;
  for (size_t j = 0; j < padded; ++j) {
    raw_mean[j] = static_cast<float>(centre[j]);
    mean[j] = raw_mean[j] * scale;
    if (mean[j] / scale != raw_mean[j]) mean[j] = raw_mean[j] = 0;  // below float's range: leave that feature alone
    size2 += static_cast<double>(mean[j]) * mean[j];
  }
  mean_norm = std::sqrt(size2) * up;
  if (metric == Metric::cosine) raw_mean = zeros;
}

Bounds store_row(const Space& space, const Kernels& kernels, const float* x, uint32_t* out) {
  const int64_t width = space.scratch_width(kernels);
  const RowMeta meta = kernels.transform(x, space.d, space.row_scale(x, kernels), space.mean.data(), out, width);
  const double norm = norm_bound(meta.norm2, space.d);
  if (!(norm <= norm_limit)) {
    std::memset(out, 0, static_cast<size_t>(width) * 4);
    return {-std::numeric_limits<float>::infinity(), 0, 0, 0, true};
  }
  const double rho = norm_bound(meta.rho2, space.d) + space.rounding() * (norm + space.mean_norm) + tiny;
  const bool l2 = space.metric == Metric::l2;
  const float bias = l2 ? -0.5f * meta.norm2 : 0.0f;
  // In double: enlarged by D it could leave float's range, and an infinite bound would let every lane pass.
  const double bias_error = -static_cast<double>(bias) * (static_cast<double>(space.d) / 8 + 8) * 0x1p-22;
  return {bias, static_cast<float>(rho * up), static_cast<float>((norm + tiny) * up),
          static_cast<float>(bias_error * up), false};
}

QueryBounds store_query(const Space& space, const Kernels& kernels, const float* q, uint32_t* out) {
  const int64_t width = space.scratch_width(kernels);
  const bool l2 = space.metric == Metric::l2;
  double norm2 = 0, mean_dot = 0, unused;
  if (!l2) norm2 = squared_norm(q, space.d, kernels);
  float scale = space.scale;
  if (space.metric == Metric::ip) scale = power_of_two_near_inverse(std::sqrt(norm2));
  if (space.metric == Metric::cosine) scale = unit_scale(norm2);
  // The mean of ip and cosine is not subtracted from queries: their rankings ignore it.
  const float* mean = l2 ? space.mean.data() : space.zeros.data();
  const RowMeta meta = kernels.transform(q, space.d, scale, mean, out, width);
  const double norm = norm_bound(meta.norm2, space.d);
  if (!(norm <= norm_limit)) {
    std::memset(out, 0, static_cast<size_t>(width) * 4);
    return {0, 0, 0, 0, scale, true};
  }
  if (!l2 && space.mean_norm > 0) {
    const float* m = space.mean.data();
    kernels.product(q, &m, 1, space.d, &mean_dot, &unused);
  }
  const double rho =
      norm_bound(meta.rho2, space.d) + (l2 ? space.rounding() * (norm + space.mean_norm) : 0x1p-22 * norm) + tiny;
  const double stored = norm + rho, g = gamma(space);
  // eta: products below the smallest normal number, and the float64 rounding of the ranking the screen must not cut.
  const double drift = 0x1p-40 + static_cast<double>(space.d + 64) * 0x1p-51;
  const double eta = static_cast<double>(space.d) * 0x1p-125 + drift * norm * (norm + space.mean_norm);
  const double s = scale;
  return {static_cast<float>(stored * (1 + g) * up),
          static_cast<float>((rho + g * stored) * up),
          static_cast<float>(eta * up),
          s * mean_dot,
          s,
          false};
}

}  // namespace pyfast::knn

#include "knn/candidates.h"

#include <algorithm>
#include <cfloat>
#include <cmath>

namespace pyfast::knn {
namespace {

constexpr int batch = 4;

void prefetch(const float* x, int64_t d) {
  for (int64_t i = 0; i < d; i += 16) __builtin_prefetch(x + i);
}

// A lower bound on the screening score of a row, from its exact float64 ranking value.
float screening_lower(const Space& space, const Query& query, double key, double x_norm) {
  const QueryBounds& b = query.bounds;
  double h, size;
  if (space.metric == Metric::l2) {
    const double d2 = -key * b.scale * b.scale;
    h = 0.5 * (query.shifted2 - d2);
    size = query.shifted2 + d2;
  } else if (space.metric == Metric::ip) {
    h = key * b.scale * space.scale - b.mean_dot;
    size = b.scale * query.norm * (space.scale * x_norm + space.mean_norm);
  } else {
    h = key - b.mean_dot;
    size = 1 + space.mean_norm;
  }
  const double drift = 0x1p-40 + static_cast<double>(space.d) * 0x1p-50;
  const double lower = h - drift * size - 0x1p-22 * std::fabs(h) - DBL_MIN;
  return lower > -FLT_MAX ? static_cast<float>(lower) : -FLT_MAX;  // false for NaN too
}

}  // namespace

Ranker::Ranker(const Space& space, const Source& source, const Kernels& kernels, int64_t k)
    : space_(space), source_(source), kernels_(kernels), k_(k), scratch_(static_cast<size_t>(batch * space.d)) {}

void Ranker::score(const Query& query, const uint32_t* rows, int count) {
  const float* x[batch];
  double key[batch], norm2[batch] = {};
  for (int j = 0; j < count; ++j) x[j] = source_.get(rows[j], scratch_.data() + j * space_.d, kernels_);
  if (space_.metric == Metric::l2) {
    kernels_.squared_distance(query.q, x, count, space_.d, key);
  } else {
    kernels_.product(query.q, x, count, space_.d, key, norm2);
  }
  for (int j = 0; j < count; ++j) {
    const double x_norm = std::sqrt(norm2[j]);
    if (space_.metric == Metric::l2) key[j] = -key[j];
    if (space_.metric == Metric::cosine && key[j] == key[j]) {
      const double norms = query.norm * x_norm;
      key[j] = norms == 0 ? 0.0 : key[j] / norms;
    }
    key[j] += 0.0;  // -0 and 0 are one distance
    found_.push_back({key[j], rows[j], bounded_ ? screening_lower(space_, query, key[j], x_norm) : -FLT_MAX});
  }
}

void Ranker::offer(Query& query, const uint32_t* rows, int64_t count) {
  found_.assign(query.best, query.best + query.best_count);
  uint32_t group[batch];
  int filled = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (i + batch < count && source_.segments.size() == 1) {
      const Rows& r = source_.segments[0];
      if (r.dtype == DType::f32 && r.column_stride == 1) prefetch(r.get(rows[i + batch], nullptr, kernels_), space_.d);
    }
    if (static_cast<int64_t>(rows[i]) == query.self) continue;
    group[filled++] = rows[i];
    if (filled == batch) score(query, group, filled), filled = 0;
  }
  if (filled) score(query, group, filled);
  const int64_t kept = std::min<int64_t>(k_, static_cast<int64_t>(found_.size()));
  if (kept < static_cast<int64_t>(found_.size())) {
    std::nth_element(found_.begin(), found_.begin() + (kept - 1), found_.end(), before);
  }
  std::copy_n(found_.begin(), kept, query.best);
  query.best_count = kept;
}

void Ranker::offer_bounded(Query& query, const uint32_t* rows, int64_t count) {
  if (space_.metric == Metric::l2 && query.shifted2 < 0) {
    const float* mean = space_.raw_mean.data();
    kernels_.squared_distance(query.q, &mean, 1, space_.d, &query.shifted2);
    query.shifted2 *= static_cast<double>(space_.scale) * space_.scale;
  }
  bounded_ = true;
  offer(query, rows, count);
  bounded_ = false;
}

void Ranker::offer_range(Query& query, int64_t first, int64_t last) {
  std::vector<uint32_t> rows;
  for (int64_t start = first; start < last; start += 4096) {
    rows.clear();
    for (int64_t i = start; i < std::min(last, start + 4096); ++i) rows.push_back(static_cast<uint32_t>(i));
    offer(query, rows.data(), static_cast<int64_t>(rows.size()));
  }
}

float Ranker::bound(const Query& query) const {
  if (query.best_count < k_) return -FLT_MAX;
  float lowest = FLT_MAX;
  for (int64_t i = 0; i < query.best_count; ++i) lowest = std::min(lowest, query.best[i].lower);
  return lowest;
}

}  // namespace pyfast::knn

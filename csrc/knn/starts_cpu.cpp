// First centres of k-means runs.
#include <algorithm>
#include <utility>

#include "core/parallel.h"
#include "knn/run_blocks.h"
#include "knn/runs.h"

namespace pyfast::knn {
namespace {

// The first row at which the running sum of cost * weight exceeds each mark; never one without mass.
void find(const float* cost, const double* weights, int64_t n, const double* uniforms, int64_t count, double total,
          int64_t* found) {
  std::vector<std::pair<double, int64_t>> marks;
  for (int64_t t = 0; t < count; ++t) marks.emplace_back(uniforms[t] * total, t);
  std::sort(marks.begin(), marks.end());
  double running = 0;
  int64_t last = 0;
  size_t next = 0;
  for (int64_t i = 0; i < n && next < marks.size(); ++i) {
    const double mass = static_cast<double>(cost ? cost[i] : 1.0f) * (weights ? weights[i] : 1.0);
    if (mass <= 0) continue;
    running += mass;
    last = i;
    while (next < marks.size() && running > marks[next].first) found[marks[next++].second] = i;
  }
  while (next < marks.size()) found[marks[next++].second] = last;  // rounding left the mark at the very end
}

}  // namespace

int64_t Runs::draw(const double* weights, const double* uniforms, int64_t k, int64_t trials, int64_t* chosen,
                   int threads) {
  std::vector<float> cost(static_cast<size_t>(n_)), fresh(static_cast<size_t>(n_ * trials));
  std::vector<int64_t> candidates(static_cast<size_t>(trials));
  const auto weight = [&](int64_t i) { return weights ? weights[i] : 1.0; };
  double total = 0;
  for (int64_t i = 0; i < n_; ++i) total += weight(i);
  find(nullptr, weights, n_, uniforms, 1, total, candidates.data());
  for (int64_t done = 0; done < k; ++done) {
    const int64_t count = done ? trials : 1;
    if (done) {
      if (total <= 0) return done;
      find(cost.data(), weights, n_, uniforms + 1 + (done - 1) * trials, trials, total, candidates.data());
    }
    std::vector<const float*> c;
    for (int64_t t = 0; t < count; ++t) c.push_back(row(candidates[static_cast<size_t>(t)]));
    parallel_for(run_blocks(n_), threads, [&](int64_t b, int) {
      const int64_t first = b * run_block, rows = std::min(run_block, n_ - first);
      float* out = fresh.data() + first * count;
      run_kernels_.distances(row(first), stride_, rows, c.data(), static_cast<int>(count), d_, out);
      for (int64_t i = 0; done && i < rows; ++i)
        for (float* to = out + i * count; to < out + (i + 1) * count; ++to)
          *to = std::min(*to, cost[static_cast<size_t>(first + i)]);
    });
    // The candidate that leaves the least cost; the first of equals.
    std::vector<double> left(static_cast<size_t>(count), 0.0);
    for (int64_t i = 0; i < n_; ++i)
      for (int64_t t = 0; t < count; ++t)
        left[static_cast<size_t>(t)] += static_cast<double>(fresh[static_cast<size_t>(i * count + t)]) * weight(i);
    const int64_t best = std::min_element(left.begin(), left.end()) - left.begin();
    for (int64_t i = 0; i < n_; ++i) cost[static_cast<size_t>(i)] = fresh[static_cast<size_t>(i * count + best)];
    chosen[done] = candidates[static_cast<size_t>(best)];
    total = left[static_cast<size_t>(best)];
  }
  return k;
}

}  // namespace pyfast::knn

#include "knn/lloyd.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/parallel.h"
#include "knn/search.h"

namespace pyfast::knn {
namespace {

// Rows of one pass, grouped by label; within a label they keep their order.
struct Groups {
  std::vector<int64_t> rows, starts, labels;

  void sort(const int64_t* label, int64_t first, int64_t count) {
    rows.resize(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) rows[static_cast<size_t>(i)] = first + i;
    std::stable_sort(rows.begin(), rows.end(), [&](int64_t a, int64_t b) { return label[a] < label[b]; });
    starts.clear();
    labels.clear();
    for (int64_t i = 0; i < count; ++i) {
      const int64_t l = label[rows[static_cast<size_t>(i)]];
      if (labels.empty() || labels.back() != l) labels.push_back(l), starts.push_back(i);
    }
    starts.push_back(count);
  }
};

double unit_scale(const float* x, int64_t d, const Kernels& kernels) {
  double dot, norm2;
  kernels.product(x, &x, 1, d, &dot, &norm2);
  return norm2 > 0 ? 1 / std::sqrt(norm2) : 0.0;
}

void add_rows(const LloydArgs& args, const Groups& groups) {
  const int64_t d = args.x.d;
  const bool cosine = args.metric == Metric::cosine;
  parallel_for(static_cast<int64_t>(groups.labels.size()), args.threads, [&](int64_t g, int) {
    std::vector<float> scratch(static_cast<size_t>(d));
    const int64_t label = groups.labels[static_cast<size_t>(g)];
    double* sum = args.sums + label * d;
    const int64_t begin = groups.starts[static_cast<size_t>(g)], end = groups.starts[static_cast<size_t>(g) + 1];
    for (int64_t i = begin; i < end; ++i) {
      const float* x = args.x.get(groups.rows[static_cast<size_t>(i)], scratch.data(), *args.kernels);
      args.kernels->add_row(sum, x, cosine ? unit_scale(x, d, *args.kernels) : 1.0, d);
    }
    args.counts[label] += end - begin;
  });
}

}  // namespace

void lloyd_cpu(const LloydArgs& args) {
  std::fill_n(args.sums, args.centers.count * args.x.d, 0.0);
  std::fill_n(args.counts, args.centers.count, int64_t{0});
  Groups groups;
  SearchArgs run;
  run.queries = args.x;
  run.database = args.centers;
  run.metric = args.metric;
  run.threads = args.threads;
  run.kernels = args.kernels;
  run.max_pass = 4096;  // the rows of a pass are still in the third-level cache when they are added up
  run.done = [&](int64_t row, const Scored* best, int64_t) {
    args.labels[row] = best[0].row;
    args.costs[row] = args.metric == Metric::l2 ? -best[0].key : 1 - best[0].key;
  };
  run.pass_done = [&](int64_t first, int64_t count) {
    groups.sort(args.labels, first, count);
    add_rows(args, groups);
  };
  search(run);
}

}  // namespace pyfast::knn

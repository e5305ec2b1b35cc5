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
  std::vector<int64_t> rows, starts, labels, place;

  void sort(const int64_t* label, int64_t first, int64_t count, int64_t clusters) {
    place.assign(static_cast<size_t>(clusters), 0);
    for (int64_t i = 0; i < count; ++i) ++place[static_cast<size_t>(label[first + i])];
    labels.clear();
    starts.clear();
    int64_t start = 0;
    for (int64_t l = 0; l < clusters; ++l) {
      int64_t& size = place[static_cast<size_t>(l)];
      if (size) labels.push_back(l), starts.push_back(start);
      start += size;
      size = start - size;  // from here on: where the label's next row goes
    }
    starts.push_back(start);
    rows.resize(static_cast<size_t>(count));
    for (int64_t i = first; i < first + count; ++i)
      rows[static_cast<size_t>(place[static_cast<size_t>(label[i])]++)] = i;
  }
};

double unit_scale(const float* x, int64_t d, const Kernels& kernels) {
  double dot, norm2;
  kernels.product(x, &x, 1, d, &dot, &norm2);
  return norm2 > 0 ? 1 / std::sqrt(norm2) : 0.0;
}

void add_group(const LloydArgs& args, const Groups& groups, int64_t g) {
  constexpr int batch = 16;
  const int64_t d = args.x.d;
  const int64_t begin = groups.starts[static_cast<size_t>(g)], end = groups.starts[static_cast<size_t>(g) + 1];
  const int64_t label = groups.labels[static_cast<size_t>(g)];
  std::vector<float> scratch(static_cast<size_t>(batch * d));
  const float* rows[batch];
  double scale[batch];
  for (int64_t i = begin; i < end; i += batch) {
    const int count = static_cast<int>(std::min<int64_t>(batch, end - i));
    for (int r = 0; r < count; ++r) {
      rows[r] = args.x.get(groups.rows[static_cast<size_t>(i + r)], scratch.data() + r * d, *args.kernels);
      scale[r] = args.metric == Metric::cosine ? unit_scale(rows[r], d, *args.kernels) : 1.0;
    }
    args.kernels->add_rows(args.sums + label * d, rows, scale, count, d);
  }
  args.counts[label] += end - begin;
}

void add_groups(const LloydArgs& args, const Groups& groups) {
  parallel_for(static_cast<int64_t>(groups.labels.size()), args.threads,
               [&](int64_t g, int) { add_group(args, groups, g); });
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
  run.max_pass = 2048;  // the rows of a pass are still in the third-level cache when they are added up
  run.done = [&](int64_t row, const Scored* best, int64_t) {
    args.labels[row] = best[0].row;
    args.costs[row] = args.metric == Metric::l2 ? -best[0].key : 1 - best[0].key;
  };
  run.pass_done = [&](int64_t first, int64_t count) {
    groups.sort(args.labels, first, count, args.centers.count);
    add_groups(args, groups);
  };
  search(run);
}

}  // namespace pyfast::knn

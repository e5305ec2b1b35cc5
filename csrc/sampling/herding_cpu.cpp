#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

#include "core/parallel.h"
#include "sampling/rows.h"
#include "sampling/subsets.h"

namespace pyfast::sampling {
namespace {

// The rows of one group that are not picked yet, side by side in arrays.
struct Left {
  std::vector<int64_t> rows, places;  // rows of the features, places within the group
  std::vector<double> square, b, v, score;
  double slack = 0;  // per pick

  int64_t size() const { return static_cast<int64_t>(rows.size()); }

  void remove(int64_t at) {
    for (auto* list : {&rows, &places}) {
      (*list)[static_cast<size_t>(at)] = list->back();
      list->pop_back();
    }
    for (auto* list : {&square, &b, &v, &score}) {
      (*list)[static_cast<size_t>(at)] = list->back();
      list->pop_back();
    }
  }
};

Left start(const HerdingArgs& args, const int64_t* rows, int64_t n, int threads) {
  Left left;
  const size_t size = static_cast<size_t>(n);
  left.places.resize(size);
  std::iota(left.places.begin(), left.places.end(), int64_t{0});
  left.rows = rows ? std::vector<int64_t>(rows, rows + n) : left.places;
  left.square.resize(size);
  left.b.resize(size);
  left.v.assign(size, 0.0);
  left.score.resize(size);
  const Kernels& kernels = *args.kernels;
  reduce_all(Reduce::square, args.features, left.rows.data(), n, nullptr, left.square.data(), threads, kernels);
  check_finite(left.square.data(), left.rows.data(), n);
  left.slack = 0x1p-44 * static_cast<double>(n) * *std::max_element(left.square.begin(), left.square.end());
  const std::vector<double> sum = sum_rows(args.features, left.rows.data(), n, threads, kernels);
  reduce_all(Reduce::dot, args.features, left.rows.data(), n, sum.data(), left.b.data(), threads, kernels);
  return left;
}

// Scores of pick k for one block of the rows that are left; returns the smallest.
double score_block(Left& left, int64_t from, int64_t to, double n, double k) {
  double low = std::numeric_limits<double>::infinity();
  for (size_t i = static_cast<size_t>(from); i < static_cast<size_t>(to); ++i) {
    left.score[i] = n * left.square[i] + 2 * (n * left.v[i] - k * left.b[i]);
    low = std::min(low, left.score[i]);
  }
  return low;
}

// Finds pick k in one pass over the features that adds the products with the row picked before to v.
int64_t pick(const HerdingArgs& args, Left& left, const std::vector<double>& before, double n, double k, int threads) {
  const int64_t size = left.size();
  std::vector<double> lows(static_cast<size_t>((size + block_rows - 1) / block_rows));
  const int64_t blocks = static_cast<int64_t>(lows.size());
  parallel_for(blocks, threads_for(size * args.features.d, threads), [&](int64_t block, int) {
    const int64_t from = block * block_rows, to = std::min(size, from + block_rows);
    if (!before.empty()) {
      double products[block_rows];
      args.kernels->reduce(Reduce::product, args.features, left.rows.data() + from, to - from, before.data(), products);
      for (int64_t i = from; i < to; ++i) left.v[static_cast<size_t>(i)] += products[i - from];
    }
    lows[static_cast<size_t>(block)] = score_block(left, from, to, n, k);
  });
  return best_place(left.score, lows, left.slack * k, left.places);
}

void herd_group(const HerdingArgs& args, const int64_t* rows, int64_t n, int64_t* order, int threads) {
  const int64_t picks = std::min(args.m, n);
  std::fill(order + picks, order + args.m, int64_t{-1});
  if (picks == 0) return;
  Left left = start(args, rows, n, threads);
  std::vector<double> before;  // the row picked last
  for (int64_t k = 1; k <= picks; ++k) {
    const int64_t at = pick(args, left, before, static_cast<double>(n), static_cast<double>(k), threads);
    order[k - 1] = left.rows[static_cast<size_t>(at)];
    left.remove(at);
    widen_row(args.features, order[k - 1], *args.kernels, before);
  }
}

}  // namespace

void herding_cpu(const HerdingArgs& args) {
  const auto group = [&](int64_t g, int threads) {
    const int64_t from = args.offsets ? args.offsets[g] : 0;
    const int64_t to = args.offsets ? args.offsets[g + 1] : args.features.n;
    if (args.rows) return herd_group(args, args.rows + from, to - from, args.order + g * args.m, threads);
    std::vector<int64_t> rows(static_cast<size_t>(to - from));
    std::iota(rows.begin(), rows.end(), from);
    herd_group(args, rows.data(), to - from, args.order + g * args.m, threads);
  };
  if (args.groups >= args.threads) {  // one group per thread: no waiting for each other at every pick
    parallel_for(args.groups, args.threads, [&](int64_t g, int) { group(g, 1); });
  } else {
    for (int64_t g = 0; g < args.groups; ++g) group(g, args.threads);
  }
}

}  // namespace pyfast::sampling

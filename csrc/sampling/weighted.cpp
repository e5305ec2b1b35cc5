#include "sampling/weighted.h"

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"

namespace pyfast::sampling {
namespace {

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr int64_t part_rows = 1 << 15;  // what one thread ranks at a time

struct Runner {
  double time;  // smaller is earlier
  int64_t row;
  bool operator<(const Runner& other) const { return time != other.time ? time < other.time : row < other.row; }
};

void check_log_weights(const double* weights, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    if (weights[i] < inf) continue;
    throw Error("weights: expected logarithms below infinity, got " + std::to_string(weights[i]) + " at position " +
                std::to_string(i));
  }
}

double arrival(const TopKArgs& args, const Hash& hash, int64_t i) {
  const double wait = -portable_log(hash_open(hash.key(static_cast<uint64_t>(i))));
  return args.log ? portable_log(wait) - args.weights[i] : wait / args.weights[i];
}

// The first k of one part of the rows, in any order.
std::vector<Runner> first_of(const TopKArgs& args, int64_t from, int64_t to) {
  const Hash hash(args.seed);
  const size_t k = static_cast<size_t>(args.k);
  std::vector<Runner> best;
  best.reserve(std::min(2 * k, static_cast<size_t>(to - from)));
  Runner last = {inf, std::numeric_limits<int64_t>::max()};  // whoever comes after it has lost
  for (int64_t i = from; i < to; ++i) {
    const Runner runner = {arrival(args, hash, i), i};
    if (!(runner < last)) continue;
    best.push_back(runner);
    if (best.size() < 2 * k) continue;
    std::nth_element(best.begin(), best.begin() + static_cast<int64_t>(k) - 1, best.end());
    best.resize(k);
    last = best.back();
  }
  return best;
}

}  // namespace

void check_weights(const double* weights, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    if (weights[i] >= 0 && weights[i] < inf) continue;
    throw Error("weights: expected finite numbers of at least 0, got " + std::to_string(weights[i]) + " at position " +
                std::to_string(i));
  }
}

void gumbel_top_k(const TopKArgs& args) {
  require(args.k >= 0 && args.k <= args.n,
          "k: expected 0 to " + std::to_string(args.n) + ", got " + std::to_string(args.k));
  if (args.log)
    check_log_weights(args.weights, args.n);
  else
    check_weights(args.weights, args.n);
  if (args.k == 0) return;
  const int64_t parts = (args.n + part_rows - 1) / part_rows;
  std::vector<std::vector<Runner>> firsts(static_cast<size_t>(parts));
  parallel_for(parts, args.threads, [&](int64_t p, int) {
    firsts[static_cast<size_t>(p)] = first_of(args, p * part_rows, std::min(args.n, (p + 1) * part_rows));
  });
  std::vector<Runner> all;
  for (const auto& some : firsts) all.insert(all.end(), some.begin(), some.end());
  std::partial_sort(all.begin(), all.begin() + args.k, all.end());
  for (int64_t i = 0; i < args.k; ++i) args.chosen[i] = all[static_cast<size_t>(i)].row;
}

}  // namespace pyfast::sampling

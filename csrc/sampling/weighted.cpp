#include "sampling/weighted.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"

namespace pyfast::sampling {
namespace {

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr int64_t part_rows = 1 << 15;  // what one thread looks at, at a time
constexpr int64_t sample_rows = 4096;

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

// A time that about 1.25 k rows beat, guessed from rows spread over all of them; inf where a guess is not worth it.
double guess(const TopKArgs& args, const Hash& hash) {
  if (args.n < 4 * sample_rows) return inf;
  const int64_t step = args.n / sample_rows;
  std::vector<double> times;
  for (int64_t i = 0; i < sample_rows; ++i) times.push_back(arrival(args, hash, i * step));
  const double share = static_cast<double>(args.k) * sample_rows / static_cast<double>(args.n);
  const int64_t rank = static_cast<int64_t>(1.25 * share + 4 * std::sqrt(share) + 4);
  if (rank >= sample_rows) return inf;
  std::nth_element(times.begin(), times.begin() + rank, times.end());
  return times[static_cast<size_t>(rank)];
}

// Rows of one part that arrive by `last`. Weights: -log(V) >= 1 - V, so that most rows cost no logarithm; the factor
// covers the rounding of both sides.
std::vector<Runner> arrived(const TopKArgs& args, const Hash& hash, int64_t from, int64_t to, double last) {
  std::vector<Runner> some;
  const double reach = args.log ? inf : last * (1 + 0x1p-40);
  for (int64_t i = from; i < to; ++i) {
    if (reach < inf && 1 - hash_open(hash.key(static_cast<uint64_t>(i))) > reach * args.weights[i]) continue;
    const Runner runner = {arrival(args, hash, i), i};
    if (runner.time <= last) some.push_back(runner);
  }
  return some;
}

std::vector<Runner> all_arrived(const TopKArgs& args, const Hash& hash, double last) {
  const int64_t parts = (args.n + part_rows - 1) / part_rows;
  std::vector<std::vector<Runner>> some(static_cast<size_t>(parts));
  parallel_for(parts, args.threads, [&](int64_t p, int) {
    some[static_cast<size_t>(p)] = arrived(args, hash, p * part_rows, std::min(args.n, (p + 1) * part_rows), last);
  });
  std::vector<Runner> all;
  for (const auto& part : some) all.insert(all.end(), part.begin(), part.end());
  return all;
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
  const Hash hash(args.seed);
  std::vector<Runner> all = all_arrived(args, hash, guess(args, hash));
  if (static_cast<int64_t>(all.size()) < args.k) all = all_arrived(args, hash, inf);  // a bad guess costs time alone
  std::nth_element(all.begin(), all.begin() + args.k - 1, all.end());
  std::sort(all.begin(), all.begin() + args.k);
  for (int64_t i = 0; i < args.k; ++i) args.chosen[i] = all[static_cast<size_t>(i)].row;
}

}  // namespace pyfast::sampling

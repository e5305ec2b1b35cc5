#include "knn/seeding.h"

#include <algorithm>
#include <vector>

#include "core/parallel.h"

namespace pyfast::knn {
namespace {

// One part; the memory of a thread that draws in one part after the other.
class Part {
 public:
  explicit Part(const SeedingArgs& args) : args_(args) {}

  void run(int64_t part) {
    first_ = args_.starts[part];
    count_ = args_.starts[part + 1] - first_;
    running_.resize(static_cast<size_t>(count_));
    cost_.resize(static_cast<size_t>(count_));
    best_.resize(static_cast<size_t>(count_));
    rows_.resize(static_cast<size_t>(count_));
    for (int64_t i = 0; i < count_; ++i) rows_[static_cast<size_t>(i)] = args_.x + (first_ + i) * args_.d;
    for (int64_t draw = args_.draws[part]; draw < args_.draws[part + 1]; ++draw)
      args_.chosen[draw] = choose(args_.uniform + draw * args_.trials);
  }

 private:
  // The drawn row that lowers the weighted cost most, the first of equals; -1 where no row has mass.
  int64_t choose(const double* uniform) {
    if (!add_up()) return -1;
    double most = -1;
    int64_t chosen = -1;
    for (int64_t t = 0; t < args_.trials; ++t) {
      const int64_t candidate = draw(uniform[t]);
      if (candidate == chosen) continue;
      const double gain = try_row(candidate);
      if (gain > most) {
        most = gain;
        chosen = candidate;
        std::swap(cost_, best_);
      }
    }
    std::copy(best_.begin(), best_.end(), args_.cost + first_);
    args_.cost[first_ + chosen] = 0;
    return first_ + chosen;
  }

  bool add_up() {
    double sum = 0;
    for (int64_t i = 0; i < count_; ++i) {
      sum += args_.cost[first_ + i] * args_.weights[first_ + i];
      running_[static_cast<size_t>(i)] = sum;
    }
    return sum > 0;
  }

  // A row with probability proportional to its mass, never one of mass 0.
  int64_t draw(double uniform) const {
    const auto found = std::upper_bound(running_.begin(), running_.end(), uniform * running_.back());
    const auto last = std::lower_bound(running_.begin(), running_.end(), running_.back());
    return std::min(found, last) - running_.begin();
  }

  // What all rows together gain by a centre at a row; their costs then are left in cost_.
  double try_row(int64_t candidate) {
    constexpr int64_t batch = 64;
    double distance[batch], gain = 0;
    for (int64_t i = 0; i < count_; i += batch) {
      const int64_t size = std::min(batch, count_ - i);
      args_.kernels->squared_distance(rows_[static_cast<size_t>(candidate)], rows_.data() + i, static_cast<int>(size),
                                      args_.d, distance);
      for (int64_t j = 0; j < size; ++j) {
        const double old = args_.cost[first_ + i + j], now = std::min(old, distance[j]);
        cost_[static_cast<size_t>(i + j)] = now;
        gain += (old - now) * args_.weights[first_ + i + j];
      }
    }
    return gain;
  }

  const SeedingArgs& args_;
  int64_t first_ = 0, count_ = 0;
  std::vector<double> running_, cost_, best_;
  std::vector<const float*> rows_;
};

}  // namespace

void seeding_cpu(const SeedingArgs& args) {
  std::vector<Part> workers(static_cast<size_t>(std::max(1, args.threads)), Part(args));
  parallel_for(args.parts, args.threads,
               [&](int64_t part, int worker) { workers[static_cast<size_t>(worker)].run(part); });
}

}  // namespace pyfast::knn

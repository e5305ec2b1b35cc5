#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "core/parallel.h"
#include "sampling/rows.h"
#include "sampling/subsets.h"

namespace pyfast::sampling {
namespace {

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double chosen = inf;  // the score of a row that must not be chosen again

class Cover {
 public:
  explicit Cover(const KCenterArgs& args) : args_(args), kernels_(*args.kernels), x_(args.features) {
    const size_t n = static_cast<size_t>(x_.n);
    every_.resize(n);
    std::iota(every_.begin(), every_.end(), int64_t{0});
    score_.assign(n, -inf);
    lows_.assign((n + static_cast<size_t>(block_rows) - 1) / static_cast<size_t>(block_rows), -inf);
    owner_.assign(n, 0);
    // Twice the distance skips a row; the factor covers the rounding of both distances and of the one not computed.
    slack_ = 4 * (1 + 16 * static_cast<double>(x_.d + 8) * 0x1p-53);
  }

  // Refuses rows that are not finite; norms and products with the sum choose the row nearest the mean.
  int64_t check_and_find_middle() {
    const int64_t n = x_.n;
    std::vector<double> square(static_cast<size_t>(n)), b(static_cast<size_t>(n));
    reduce_all(Reduce::square, x_, every_.data(), n, nullptr, square.data(), args_.threads, kernels_);
    check_finite(square.data(), every_.data(), n);
    check_centers();
    if (args_.first >= 0 || args_.centers.n > 0 || n == 0) return args_.first;
    const std::vector<double> sum = sum_rows(x_, every_.data(), n, args_.threads, kernels_);
    reduce_all(Reduce::dot, x_, every_.data(), n, sum.data(), b.data(), args_.threads, kernels_);
    std::vector<double> score(square.size());
    for (size_t i = 0; i < score.size(); ++i) score[i] = static_cast<double>(n) * square[i] + 2 * (0.0 - b[i]);
    const double slack = 0x1p-44 * static_cast<double>(n) * *std::max_element(square.begin(), square.end());
    std::vector<double> lows;
    for (size_t i = 0; i < score.size(); i += static_cast<size_t>(block_rows))
      lows.push_back(*std::min_element(score.begin() + i, score.begin() + std::min(score.size(), i + block_rows)));
    return best_place(score, lows, slack, every_);
  }

  // A new centre: distances and nearest centres are brought up to date in one pass.
  void add(const Features& from, int64_t row) {
    widen_row(from, row, kernels_, center_);
    const int64_t number = static_cast<int64_t>(centers_.size());
    between_.resize(centers_.size());
    for (size_t c = 0; c < centers_.size(); ++c)
      kernels_.reduce(Reduce::distance, *centers_[c].from, &centers_[c].row, 1, center_.data(), &between_[c]);
    centers_.push_back({&from, row});
    const int64_t blocks = (x_.n + block_rows - 1) / block_rows;
    lows_.resize(static_cast<size_t>(blocks));
    parallel_for(blocks, threads_for(x_.n * x_.d, args_.threads), [&](int64_t b, int) {
      const int64_t first = b * block_rows;
      lows_[static_cast<size_t>(b)] = relax(first, std::min(x_.n, first + block_rows), number);
    });
  }

  void choose(int64_t row) {
    score_[static_cast<size_t>(row)] = chosen;
    add(x_, row);
  }

  int64_t farthest() const { return best_place(score_, lows_, 0x1p-42 * -lowest(), every_); }
  double radius() const { return x_.n == 0 ? 0 : std::sqrt(std::max(0.0, -lowest())); }
  bool empty() const { return centers_.empty(); }

 private:
  struct Center {
    const Features* from;
    int64_t row;
  };

  void check_centers() const {
    for (int64_t c = 0; c < args_.centers.n; ++c) {
      double square;
      kernels_.reduce(Reduce::square, args_.centers, &c, 1, nullptr, &square);
      check_finite(&square, &c, 1);
    }
  }

  // By the triangle inequality, the new centre is no nearer than the old one. Tiny distances are not relied upon.
  bool skips(size_t row, int64_t number) const {
    if (number == 0) return false;
    const double apart = between_[static_cast<size_t>(owner_[row])];
    return score_[row] == chosen || (apart >= slack_ * -score_[row] && apart > 1e-280);
  }

  // Brings one block up to date; returns its smallest score.
  double relax(int64_t first, int64_t last, int64_t number) {
    int64_t near[block_rows] = {}, count = 0;
    double distance[block_rows];
    for (int64_t i = first; i < last; ++i)
      if (!skips(static_cast<size_t>(i), number)) near[count++] = i;
    kernels_.reduce(Reduce::distance, x_, near, count, center_.data(), distance);
    for (int64_t j = 0; j < count; ++j) {
      const size_t row = static_cast<size_t>(near[j]);
      if (score_[row] != chosen && distance[j] < -score_[row]) {
        score_[row] = -distance[j];
        owner_[row] = number;
      }
    }
    return *std::min_element(score_.begin() + first, score_.begin() + last);
  }

  double lowest() const { return *std::min_element(lows_.begin(), lows_.end()); }

  const KCenterArgs& args_;
  const Kernels& kernels_;
  const Features& x_;
  double slack_;
  std::vector<int64_t> every_, owner_;
  std::vector<double> score_;  // minus the squared distance to the nearest centre; `chosen` for a centre
  std::vector<double> lows_;   // smallest score of every block
  std::vector<double> center_, between_;
  std::vector<Center> centers_;
};

}  // namespace

double k_center_cpu(const KCenterArgs& args) {
  Cover cover(args);
  const int64_t first = cover.check_and_find_middle();
  for (int64_t c = 0; c < args.centers.n; ++c) cover.add(args.centers, c);
  for (int64_t i = 0; i < args.m; ++i) {
    args.chosen[i] = cover.empty() ? first : cover.farthest();
    cover.choose(args.chosen[i]);
  }
  return cover.radius();
}

}  // namespace pyfast::sampling

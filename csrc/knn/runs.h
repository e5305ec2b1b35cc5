// K-means runs over rows that stay in memory: norms once for all runs; in a run, bounds on the distances from every row
// to every centre, so that a step looks only at rows whose label might change, and sums that follow the labels.
// Reference: Elkan, Using the triangle inequality to accelerate k-means, ICML 2003.
#pragma once
#include <cstdint>
#include <functional>
#include <vector>

#include "knn/kernels.h"
#include "knn/rows.h"
#include "knn/run_kernels.h"

namespace pyfast::knn {

enum class RunEnd : int { out_of_steps = 0, labels_repeat = 1, centers_rest = 2, empty_cluster = 3 };

class Runs {
 public:
  // x: [N, D] float32 with adjacent features; the caller keeps it alive and unchanged.
  Runs(const Rows& x, const Kernels& kernels, const RunKernels& run_kernels, int threads);

  int64_t rows() const { return n_; }
  int64_t features() const { return d_; }
  int64_t clusters() const { return k_; }
  double power() const { return power_; }      // sum of the squared norms
  double scatter() const { return scatter_; }  // sum of the squared distances to the mean

  // Greedy k-means++: writes the rows drawn and returns how many there are, fewer than k where all rows coincide with
  // drawn ones. uniforms: 1 + (k - 1) * trials numbers in [0, 1). Reference: Arthur and Vassilvitskii, SODA 2007.
  int64_t draw(const double* weights, const double* uniforms, int64_t k, int64_t trials, int64_t* chosen, int threads);

  // Forgets labels and bounds.
  void begin(int64_t k);

  // Lloyd's steps from centers [K, D], which it moves: at most `steps`, ended earlier by labels that repeat, centres
  // that move by at most tol (squared, all together), or an empty cluster. But for repeated labels and an empty cluster
  // a last assignment follows, so that labels are those of the centres. Appends the inertia of every assignment.
  // `between` is called before every step and may throw, which leaves the centres of the step before.
  RunEnd advance(float* centers, double tol, int64_t steps, std::vector<double>& inertias, int threads,
                 const std::function<void()>& between);

  // Of the last assignment: sums float64 [K, D], counts [K], labels [N] and squared distances float64 [N].
  void give(double* sums, int64_t* counts, int64_t* labels, double* costs, int threads);

 private:
  struct Move {
    int64_t row;
    int32_t from, to;
  };

  bool assign(const float* centers, int threads);  // whether any label changed
  void assign_block(int64_t block, std::vector<int64_t>& index, std::vector<uint8_t>& doubtful);
  void decide(int64_t row);
  void pack(const float* centers);
  void measure_drift(const float* centers);
  void follow_moves(int threads);
  std::vector<int64_t> count_moves();
  bool must_recount(size_t k, int64_t moved) const;
  void list_entries(const std::vector<uint8_t>& anew);
  void clear(size_t k);
  void add_up(int64_t k);
  double inertia(int threads);
  void own_costs(double* costs, int threads) const;
  double move_centers(float* centers) const;
  const float* row(int64_t i) const { return x_ + i * stride_; }
  RunRows view() { return {x_, stride_, d_, norm2_.data(), norm_.data(), lower_.data(), upper_.data(), label_.data()}; }
  int64_t padded() const { return panels_ * panel; }

  const Kernels& kernels_;
  const RunKernels& run_kernels_;
  const float* x_;
  const int64_t n_, d_, stride_;
  std::vector<float> norm2_, norm_;  // [N]
  std::vector<double> exact_norm2_;  // [N]
  double power_ = 0, scatter_ = 0;

  int64_t k_ = 0, panels_ = 0;
  bool bounded_ = false;
  std::vector<float> lower_, upper_;  // [N, padded], [N]
  std::vector<int32_t> label_;        // [N], -1 before the first assignment
  std::vector<float> centers_;        // [K, D] of the last assignment
  std::vector<float> words_, center_norm2_, center_norm_, drift_;
  std::vector<std::vector<Move>> moves_;  // of every block of rows
  std::vector<int64_t> entries_;          // what is added to the sums: row, or ~row where it is taken away …
  std::vector<int64_t> entry_starts_;     // [K + 1] … by centre
  std::vector<double> sums_;              // [K, D]
  std::vector<int64_t> counts_;           // [K]
  std::vector<double> mass_, peak_;       // [K] squared norms of a cluster's rows, and their largest sum so far
};

}  // namespace pyfast::knn

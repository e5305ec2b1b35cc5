#include <algorithm>
#include <cmath>
#include <limits>

#include "core/parallel.h"
#include "knn/run_blocks.h"
#include "knn/runs.h"

namespace pyfast::knn {
namespace {

constexpr float nowhere = 0x1p120f;  // squared norm of the centres behind the last
constexpr float beyond = 0x1p60f;    // the distance to these
constexpr double up = 1 + 0x1p-20;   // covers the rounding of a bound to float

}  // namespace

Runs::Runs(const Rows& x, const Kernels& kernels, const RunKernels& run_kernels, int threads)
    : kernels_(kernels),
      run_kernels_(run_kernels),
      x_(reinterpret_cast<const float*>(x.data)),
      n_(x.count),
      d_(x.d),
      stride_(x.row_stride),
      norm2_(static_cast<size_t>(n_)),
      norm_(norm2_.size()),
      exact_norm2_(norm2_.size()) {
  std::vector<double> sums(static_cast<size_t>(run_blocks(n_) * d_), 0.0);
  parallel_for(run_blocks(n_), threads, [&](int64_t b, int) {
    const double ones[4] = {1, 1, 1, 1};
    double* sum = sums.data() + b * d_;
    for (int64_t i = b * run_block; i < std::min(n_, (b + 1) * run_block); i += 4) {
      const int count = static_cast<int>(std::min<int64_t>(4, n_ - i));
      const float* four[4];
      for (int r = 0; r < count; ++r) {
        four[r] = row(i + r);
        double dot, norm2;
        kernels_.product(four[r], four + r, 1, d_, &dot, &norm2);
        exact_norm2_[static_cast<size_t>(i + r)] = norm2;
        norm2_[static_cast<size_t>(i + r)] = static_cast<float>(norm2);
        norm_[static_cast<size_t>(i + r)] = static_cast<float>(std::sqrt(norm2) * up);
      }
      kernels_.add_rows(sum, four, ones, count, d_);
    }
  });
  power_ = sum_of(n_, [&](int64_t i) { return exact_norm2_[static_cast<size_t>(i)]; });
  for (int64_t b = 1; b < run_blocks(n_); ++b)
    for (int64_t j = 0; j < d_; ++j) sums[static_cast<size_t>(j)] += sums[static_cast<size_t>(b * d_ + j)];
  const double mean2 = sum_of(n_ ? d_ : 0, [&](int64_t j) {
    const double mean = sums[static_cast<size_t>(j)] / static_cast<double>(n_);
    return mean * mean;
  });
  scatter_ = std::max(0.0, power_ - mean2 * static_cast<double>(n_));
}

void Runs::begin(int64_t k) {
  k_ = k;
  panels_ = (k + panel - 1) / panel;
  bounded_ = false;
  const size_t n = static_cast<size_t>(n_), width = static_cast<size_t>(padded()), features = static_cast<size_t>(d_);
  lower_.resize(n * width);
  upper_.resize(n);
  label_.assign(n, -1);
  words_.assign(width * features, 0.0f);
  center_norm2_.assign(width, nowhere);
  center_norm_.assign(width, 0.0f);
  drift_.assign(width, 0.0f);
  moves_.resize(static_cast<size_t>(run_blocks(n_)));
  sums_.assign(static_cast<size_t>(k) * features, 0.0);
  counts_.assign(static_cast<size_t>(k), 0);
  mass_.assign(static_cast<size_t>(k), 0.0);
  peak_ = mass_;
}

void Runs::pack(const float* centers) {
  for (int64_t k = 0; k < k_; ++k) {
    const float* c = centers + k * d_;
    float* out = words_.data() + k / panel * d_ * panel + k % panel;
    for (int64_t j = 0; j < d_; ++j) out[j * panel] = c[j];
    double dot, norm2;
    kernels_.product(c, &c, 1, d_, &dot, &norm2);
    center_norm2_[static_cast<size_t>(k)] = static_cast<float>(norm2);
    center_norm_[static_cast<size_t>(k)] = static_cast<float>(std::sqrt(norm2) * up);
  }
}

void Runs::measure_drift(const float* centers) {
  for (int64_t k = 0; k < k_; ++k) {
    const float* c = centers + k * d_;
    double d2;
    kernels_.squared_distance(centers_.data() + k * d_, &c, 1, d_, &d2);
    drift_[static_cast<size_t>(k)] = static_cast<float>(std::sqrt(d2) * up);
  }
}

bool Runs::assign(const float* centers, int threads) {
  if (bounded_) measure_drift(centers);
  pack(centers);
  centers_.assign(centers, centers + k_ * d_);
  struct Own {
    std::vector<int64_t> index;
    std::vector<uint8_t> doubtful;
  };
  std::vector<Own> own(static_cast<size_t>(std::max(threads, 1)));
  parallel_for(run_blocks(n_), threads, [&](int64_t b, int worker) {
    Own& o = own[static_cast<size_t>(worker)];
    o.index.resize(run_block + 1);
    o.doubtful.resize(run_block);
    assign_block(b, o.index, o.doubtful);
  });
  bounded_ = true;
  const bool moved = std::any_of(moves_.begin(), moves_.end(), [](const auto& m) { return !m.empty(); });
  if (moved) follow_moves(threads);
  return moved;
}

void Runs::assign_block(int64_t b, std::vector<int64_t>& index, std::vector<uint8_t>& doubtful) {
  const int64_t first = b * run_block, last = std::min(n_, first + run_block);
  int64_t count = last - first;
  if (bounded_) {
    count = run_kernels_.loosen(view(), panels_, drift_.data(), first, last, index.data());
  } else {
    for (int64_t i = 0; i < count; ++i) index[static_cast<size_t>(i)] = first + i;
  }
  int32_t before[run_block];
  for (int64_t i = 0; i < count; ++i) before[i] = label_[static_cast<size_t>(index[static_cast<size_t>(i)])];
  // Sums of up to `chain` products, then of these sums: Higham 2002, chapter 3; twice that for 2 x.c.
  const double terms = static_cast<double>(std::min(d_, chain) + (d_ + chain - 1) / chain + 4);
  const CenterPanels centers{words_.data(), center_norm2_.data(), center_norm_.data(), panels_,
                             static_cast<float>(2 * terms * 0x1p-24 * (1 + 0x1p-8))};
  run_kernels_.nearest(view(), centers, index.data(), count, doubtful.data());
  std::vector<Move>& moves = moves_[static_cast<size_t>(b)];
  moves.clear();
  for (int64_t i = 0; i < count; ++i) {
    const int64_t at = index[static_cast<size_t>(i)];
    if (upper_[static_cast<size_t>(at)] >= beyond) {
      // Every centre is so far that the lanes behind the last may seem nearer, or that its square left float.
      label_[static_cast<size_t>(at)] = 0;
      upper_[static_cast<size_t>(at)] = std::numeric_limits<float>::infinity();
      doubtful[static_cast<size_t>(i)] = 1;
    }
    if (doubtful[static_cast<size_t>(i)]) decide(at);
    const int32_t now = label_[static_cast<size_t>(at)];
    // A centre does not compete with itself.
    lower_[static_cast<size_t>(at * padded() + now)] = std::numeric_limits<float>::infinity();
    if (now != before[i]) moves.push_back({at, before[i], now});
  }
}

// The centres that bounds cannot tell apart are ranked in float64, ties by smaller label.
void Runs::decide(int64_t i) {
  float* lower = lower_.data() + i * padded();
  const float limit = upper_[static_cast<size_t>(i)] * static_cast<float>(up);
  double best = std::numeric_limits<double>::infinity();
  for (int64_t k = 0; k < k_; ++k) {
    if (lower[k] > limit) continue;
    const float* c = centers_.data() + k * d_;
    double d2;
    kernels_.squared_distance(row(i), &c, 1, d_, &d2);
    lower[k] = static_cast<float>(std::sqrt(d2) / up);
    if (d2 < best) best = d2, label_[static_cast<size_t>(i)] = static_cast<int32_t>(k);
  }
  upper_[static_cast<size_t>(i)] = static_cast<float>(std::sqrt(best) * up);
}

RunEnd Runs::advance(float* centers, double tol, int64_t steps, std::vector<double>& inertias, int threads,
                     const std::function<void()>& between) {
  RunEnd end = RunEnd::out_of_steps;
  for (int64_t step = 0; step < steps && end == RunEnd::out_of_steps; ++step) {
    between();
    const bool moved = assign(centers, threads);
    inertias.push_back(inertia(threads));
    if (!moved) return RunEnd::labels_repeat;
    if (std::find(counts_.begin(), counts_.end(), 0) != counts_.end()) return RunEnd::empty_cluster;
    if (move_centers(centers) <= tol) end = RunEnd::centers_rest;
  }
  assign(centers, threads);
  inertias.push_back(inertia(threads));
  return end;
}

void Runs::give(double* sums, int64_t* counts, int64_t* labels, double* costs, int threads) {
  std::copy(sums_.begin(), sums_.end(), sums);
  std::copy(counts_.begin(), counts_.end(), counts);
  std::copy(label_.begin(), label_.end(), labels);
  own_costs(costs, threads);
}

}  // namespace pyfast::knn

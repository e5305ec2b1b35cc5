// The sums of the clusters of a k-means run, and what follows from them.
#include <algorithm>

#include "core/parallel.h"
#include "knn/run_blocks.h"
#include "knn/runs.h"

namespace pyfast::knn {

// A sum is taken anew where that is less work than following the moves, and where the rows that left were so much
// longer than those that stay that their rounding would show.
bool Runs::must_recount(size_t k, int64_t moved) const { return moved >= counts_[k] || mass_[k] < peak_[k] * 0x1p-20; }

void Runs::follow_moves(int threads) {
  const std::vector<int64_t> moved = count_moves();
  std::vector<uint8_t> anew(static_cast<size_t>(k_));
  entry_starts_.assign(anew.size() + 1, 0);
  for (size_t k = 0; k < anew.size(); ++k) {
    anew[k] = must_recount(k, moved[k]);
    entry_starts_[k + 1] = entry_starts_[k] + (anew[k] ? counts_[k] : moved[k]);
  }
  list_entries(anew);
  for (size_t k = 0; k < anew.size(); ++k)
    if (anew[k]) clear(k);
  parallel_for(k_, threads, [&](int64_t k, int) { add_up(k); });
}

// Counts and masses follow the moves; returns how many rows each cluster got or lost.
std::vector<int64_t> Runs::count_moves() {
  std::vector<int64_t> moved(static_cast<size_t>(k_), 0);
  const auto change = [&](int32_t label, int sign, double mass) {
    const size_t k = static_cast<size_t>(label);
    ++moved[k];
    counts_[k] += sign;
    mass_[k] += sign * mass;
    peak_[k] = std::max(peak_[k], mass_[k]);
  };
  for (const auto& moves : moves_) {
    for (const Move& m : moves) {
      const double mass = exact_norm2_[static_cast<size_t>(m.row)];
      if (m.from >= 0) change(m.from, -1, mass);
      change(m.to, 1, mass);
    }
  }
  return moved;
}

// In the order of the rows: what moved, or for sums taken anew the rows of the cluster.
void Runs::list_entries(const std::vector<uint8_t>& anew) {
  std::vector<int64_t> place(entry_starts_.begin(), entry_starts_.end() - 1);
  entries_.resize(static_cast<size_t>(entry_starts_.back()));
  const auto note = [&](int32_t k, int64_t entry) {
    entries_[static_cast<size_t>(place[static_cast<size_t>(k)]++)] = entry;
  };
  for (const auto& moves : moves_) {
    for (const Move& m : moves) {
      if (m.from >= 0 && !anew[static_cast<size_t>(m.from)]) note(m.from, ~m.row);
      if (!anew[static_cast<size_t>(m.to)]) note(m.to, m.row);
    }
  }
  if (std::find(anew.begin(), anew.end(), 1) == anew.end()) return;
  for (int64_t i = 0; i < n_; ++i) {
    const int32_t k = label_[static_cast<size_t>(i)];
    if (anew[static_cast<size_t>(k)]) note(k, i);
  }
}

void Runs::clear(size_t k) {
  std::fill_n(sums_.begin() + static_cast<int64_t>(k) * d_, d_, 0.0);
  mass_[k] = 0;
  for (int64_t e = entry_starts_[k]; e < entry_starts_[k + 1]; ++e)
    mass_[k] += exact_norm2_[static_cast<size_t>(entries_[static_cast<size_t>(e)])];
  peak_[k] = mass_[k];
}

void Runs::add_up(int64_t k) {
  constexpr int64_t batch = 16;
  const float* x[batch];
  double sign[batch];
  const int64_t end = entry_starts_[static_cast<size_t>(k) + 1];
  for (int64_t e = entry_starts_[static_cast<size_t>(k)]; e < end; e += batch) {
    const int count = static_cast<int>(std::min(batch, end - e));
    for (int r = 0; r < count; ++r) {
      const int64_t entry = entries_[static_cast<size_t>(e + r)];
      x[r] = row(entry < 0 ? ~entry : entry);
      sign[r] = entry < 0 ? -1 : 1;
    }
    kernels_.add_rows(sums_.data() + k * d_, x, sign, count, d_);
  }
}

void Runs::own_costs(double* costs, int threads) const {
  parallel_for(run_blocks(n_), threads, [&](int64_t b, int) {
    for (int64_t i = b * run_block; i < std::min(n_, (b + 1) * run_block); ++i) {
      const float* x = row(i);
      kernels_.squared_distance(centers_.data() + label_[static_cast<size_t>(i)] * d_, &x, 1, d_, costs + i);
    }
  });
}

// sum |x|^2 - sum_k (2 c_k . s_k - n_k |c_k|^2) with the sums s_k of the clusters: no row is read. Where that cancels,
// the rows decide.
double Runs::inertia(int threads) {
  double gain = 0;
  for (int64_t k = 0; k < k_; ++k) {
    const float* c = centers_.data() + k * d_;
    const double* s = sums_.data() + k * d_;
    const double count = static_cast<double>(counts_[static_cast<size_t>(k)]);
    gain += sum_of(d_, [&](int64_t j) {
      const double v = static_cast<double>(c[j]);
      return v * (2 * s[j] - count * v);
    });
  }
  if (power_ - gain > power_ * 0x1p-20) return power_ - gain;
  std::vector<double> costs(static_cast<size_t>(n_));
  own_costs(costs.data(), threads);
  return sum_of(n_, [&](int64_t i) { return costs[static_cast<size_t>(i)]; });
}

double Runs::move_centers(float* centers) const {
  double shift = 0;
  for (int64_t k = 0; k < k_; ++k) {
    float* c = centers + k * d_;
    const double* s = sums_.data() + k * d_;
    const double count = static_cast<double>(counts_[static_cast<size_t>(k)]);
    shift += sum_of(d_, [&](int64_t j) {
      const double before = static_cast<double>(c[j]);
      c[j] = static_cast<float>(s[j] / count);
      const double step = static_cast<double>(c[j]) - before;
      return step * step;
    });
  }
  return shift;
}

}  // namespace pyfast::knn

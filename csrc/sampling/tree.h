// A sum tree with 16 children per node: draws in proportion to priority, and updates of many leaves at once.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "sampling/kernels.h"

namespace pyfast::sampling {

// Zeroed memory on a cache line's boundary.
template <class T>
class Lines {
 public:
  explicit Lines(int64_t count = 0);
  T* data() const { return data_.get(); }
  T& operator[](int64_t i) const { return data_.get()[i]; }

 private:
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T, Free> data_;
};

// The sum of a node is that of its children added in order, in float64: a function of the leaves alone, whatever the
// updates before. Sums below 2^-47 of the total are not told apart by a draw: see the definition of draws in
// draw_impl.h, and of probabilities below.
class PriorityTree {
 public:
  explicit PriorityTree(int64_t capacity);

  // Leaves [n] in [0, capacity), priorities f32 or f64; the last of equal indices wins. Throws Error, with nothing
  // changed, on an index out of range and on a priority that is negative, NaN or infinite as a float.
  void update(const int64_t* index, const float* priority, int64_t n);
  void update(const int64_t* index, const double* priority, int64_t n);
  void load(const float* leaves);  // all [capacity] of them

  // args.seed is folded with the step; index and probability [n]. A leaf is drawn with probability leaf / total to
  // within 2^-47: each of at most 8 levels rounds a prefix, a difference and a clamp by less than 2^-53 of the total.
  void sample(const DrawArgs& args, int threads, const Kernels& kernels) const;

  void read(const int64_t* index, int64_t n, float* out) const;

  int64_t capacity() const { return capacity_; }
  int64_t positive() const { return positive_; }  // number of leaves above 0
  double total() const { return levels_.back().sum[0]; }
  float minimum() const { return levels_.back().low[0]; }  // of the leaves above 0; inf where there is none
  const float* leaves() const { return leaves_.data(); }

 private:
  // One entry per node of the level below, so that a node of this level reads and writes whole cache lines.
  struct Level {
    Lines<double> sum;
    Lines<double> pre;  // prefix sums within each group of 16; the root has none
    Lines<float> low;   // smallest positive leaf below
    Lines<uint64_t> touched;
    int64_t nodes = 0;
  };

  void check_index(const int64_t* index, int64_t n) const;
  template <class T>
  void write(const int64_t* index, const T* priority, int64_t n);
  void touch(Level& level, int64_t node);
  void refresh_leaves(int64_t node);
  void refresh(size_t level, int64_t node);
  void prefetch(const Level& children, int64_t node) const;
  void propagate();

  int64_t capacity_, positive_ = 0;
  Lines<float> leaves_;
  std::vector<Level> levels_;  // levels_[0]: sums of 16 leaves each; the last has one node
  std::vector<const double*> pre_;
  std::vector<int64_t> list_, next_;  // nodes to refresh
};

}  // namespace pyfast::sampling

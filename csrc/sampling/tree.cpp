#include "sampling/tree.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <string>

#include "core/error.h"
#include "core/parallel.h"

namespace pyfast::sampling {
namespace {

constexpr int64_t line = 64;              // bytes
constexpr int64_t ahead = 12;             // items between a prefetch and its use
constexpr int64_t draws_per_part = 1024;  // what one thread takes at a time
constexpr int64_t worth_threads = 4096;   // draws; fewer are done before another thread has woken
constexpr float none = std::numeric_limits<float>::infinity();

int64_t up(int64_t count) { return (count + 15) / 16 * 16; }

template <class T>
void check_priority(const char* name, const T* priority, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const float value = static_cast<float>(priority[i]);
    if (value >= 0 && value < none) continue;
    throw Error(std::string(name) + ": expected finite float32 numbers of at least 0, got " +
                std::to_string(priority[i]) + " at position " + std::to_string(i));
  }
}

}  // namespace

template <class T>
Lines<T>::Lines(int64_t count) {
  const size_t bytes = static_cast<size_t>((count * static_cast<int64_t>(sizeof(T)) + line - 1) / line * line);
  if (bytes == 0) return;
  data_.reset(static_cast<T*>(std::aligned_alloc(line, bytes)));
  if (!data_) throw std::bad_alloc();
  std::memset(static_cast<void*>(data_.get()), 0, bytes);
}

PriorityTree::PriorityTree(int64_t capacity) : capacity_(capacity) {
  require(capacity >= 1, "capacity: expected at least 1, got " + std::to_string(capacity));
  leaves_ = Lines<float>(up(capacity));
  int64_t children = up(capacity);
  pre_.push_back(nullptr);
  do {
    Level level;
    level.nodes = children / 16;
    const int64_t padded = up(level.nodes);
    level.sum = Lines<double>(padded);
    level.low = Lines<float>(padded);
    std::fill(level.low.data(), level.low.data() + padded, none);
    level.touched = Lines<uint64_t>((padded + 63) / 64);
    if (level.nodes > 1) {
      level.pre = Lines<double>(padded);
      pre_.push_back(level.pre.data());
    }
    children = padded;
    levels_.push_back(std::move(level));
  } while (levels_.back().nodes > 1);
}

void PriorityTree::check_index(const int64_t* index, int64_t n) const {
  for (int64_t i = 0; i < n; ++i) {
    if (index[i] >= 0 && index[i] < capacity_) continue;
    throw Error("index: expected numbers from 0 to " + std::to_string(capacity_ - 1) + ", got " +
                std::to_string(index[i]) + " at position " + std::to_string(i));
  }
}

// Remembers a node that must be summed anew, once.
inline void PriorityTree::touch(Level& level, int64_t node) {
  uint64_t& word = level.touched[node >> 6];
  const uint64_t bit = uint64_t{1} << (node & 63);
  if (word & bit) return;
  word |= bit;
  next_.push_back(node);
}

template <class T>
void PriorityTree::write(const int64_t* index, const T* priority, int64_t n) {
  check_index(index, n);
  check_priority("priority", priority, n);
  next_.clear();
  next_.reserve(static_cast<size_t>(n));  // nothing may fail once leaves are written
  list_.reserve(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    if (i + ahead < n) {
      __builtin_prefetch(leaves_.data() + index[i + ahead], 1);
      __builtin_prefetch(levels_[0].sum.data() + (index[i + ahead] >> 4), 1);
      __builtin_prefetch(levels_[0].low.data() + (index[i + ahead] >> 4), 1);
    }
    float& leaf = leaves_[index[i]];
    const float value = static_cast<float>(priority[i]) + 0.0f;  // -0 becomes 0
    positive_ += (value > 0) - (leaf > 0);
    leaf = value;
    touch(levels_[0], index[i] >> 4);
  }
  propagate();
}

void PriorityTree::update(const int64_t* index, const float* priority, int64_t n) { write(index, priority, n); }
void PriorityTree::update(const int64_t* index, const double* priority, int64_t n) { write(index, priority, n); }

inline void PriorityTree::refresh_leaves(int64_t node) {
  const float* leaf = leaves_.data() + 16 * node;
  double sum = 0;
  uint32_t low = std::numeric_limits<uint32_t>::max();
  for (int i = 0; i < 16; ++i) sum += static_cast<double>(leaf[i]);
  for (int i = 0; i < 16; ++i) {  // positive floats are ordered like their bits; 0 wraps to the largest
    uint32_t bits;
    std::memcpy(&bits, leaf + i, 4);
    low = std::min(low, bits - 1);
  }
  low += 1;
  float smallest = none;
  if (low) std::memcpy(&smallest, &low, 4);
  levels_[0].sum[node] = sum;
  levels_[0].low[node] = smallest;
}

// `node` of the level above: its children lie in `level`.
inline void PriorityTree::refresh(size_t level, int64_t node) {
  Level& children = levels_[level];
  const double* sums = children.sum.data() + 16 * node;
  double* pre = children.pre.data() + 16 * node;
  const float* lows = children.low.data() + 16 * node;
  double sum = 0;
  for (int i = 0; i < 16; ++i) pre[i] = sum += sums[i];
  float low = lows[0];
  for (int i = 1; i < 16; ++i) low = lows[i] < low ? lows[i] : low;
  levels_[level + 1].sum[node] = sum;
  levels_[level + 1].low[node] = low;
}

// The lines that the refresh of a node will touch.
inline void PriorityTree::prefetch(const Level& children, int64_t node) const {
  const int64_t first = 16 * node;
  for (int half : {0, 8}) {
    __builtin_prefetch(children.sum.data() + first + half);
    __builtin_prefetch(children.pre.data() + first + half, 1);
  }
  __builtin_prefetch(children.low.data() + first);
}

void PriorityTree::propagate() {
  for (size_t level = 0; level < levels_.size(); ++level) {
    list_.swap(next_);
    next_.clear();
    for (int64_t node : list_) levels_[level].touched[node >> 6] = 0;
    const bool last = level + 1 == levels_.size();
    for (size_t i = 0; i < list_.size(); ++i) {
      const int64_t node = list_[i];
      if (level > 0 && i + ahead < list_.size()) prefetch(levels_[level - 1], list_[i + ahead]);
      if (level == 0)
        refresh_leaves(node);
      else
        refresh(level - 1, node);
      if (!last) touch(levels_[level + 1], node >> 4);
    }
  }
}

void PriorityTree::load(const float* leaves) {
  check_priority("leaves", leaves, capacity_);
  positive_ = 0;
  for (int64_t i = 0; i < capacity_; ++i) {
    leaves_[i] = leaves[i] + 0.0f;
    positive_ += leaves[i] > 0;
  }
  for (int64_t node = 0; node < levels_[0].nodes; ++node) refresh_leaves(node);
  for (size_t level = 0; level + 1 < levels_.size(); ++level)
    for (int64_t node = 0; node < levels_[level + 1].nodes; ++node) refresh(level, node);
}

void PriorityTree::sample(const DrawArgs& args, int threads, const Kernels& kernels) const {
  if (args.n == 0) return;
  require(total() > 0, "PriorityTree: expected a positive priority to draw from, got none; call update first");
  const TreeView view = {leaves_.data(), pre_.data(), static_cast<int>(levels_.size()), total()};
  const int64_t parts = (args.n + draws_per_part - 1) / draws_per_part;
  parallel_for(parts, args.n < worth_threads ? 1 : threads, [&](int64_t part, int) {
    DrawArgs mine = args;
    mine.first = part * draws_per_part;
    mine.count = std::min(draws_per_part, args.n - mine.first);
    mine.index += mine.first;
    mine.probability += mine.first;
    kernels.draw(view, mine);
  });
}

void PriorityTree::read(const int64_t* index, int64_t n, float* out) const {
  check_index(index, n);
  for (int64_t i = 0; i < n; ++i) out[i] = leaves_[index[i]];
}

}  // namespace pyfast::sampling

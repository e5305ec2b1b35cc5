// Running softmax statistics of a sweep: per row tile and per item in float, merged in fixed order in double.
#pragma once
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <vector>

#include "contrastive/sweep.h"

namespace pyfast::contrastive {

struct Totals {
  float* max = nullptr;  // [n] null where the side is not wanted
  double* sum = nullptr;
  double* cross = nullptr;  // null without
};

void reset(const Totals& totals, int64_t n);

// totals[at + i] and running[i] together, i < count
void add_running(const Totals& totals, int64_t at, const Running& running, int64_t count);

// One item's running statistics, with room for `count`.
class Lanes {
 public:
  Lanes(int64_t count, bool cross) : count_(count), cross_(cross), values_((cross ? 3 : 2) * count) {}
  void clear();
  Running at(int64_t i) {
    return {values_.data() + i, values_.data() + count_ + i, cross_ ? values_.data() + 2 * count_ + i : nullptr};
  }

 private:
  int64_t count_;
  bool cross_;
  std::vector<float> values_;
};

// The two sides of one softmax over the tiles of a sweep.
class Collector {
 public:
  Collector(const Sweep& sweep, const Totals& rows, const Totals& cols, bool symmetric);
  void begin(int64_t item);
  void add(const Block& block, const Tile& tile, int64_t item, const float* s, const float* other);
  void end(const Block& block, int64_t row_tile, int64_t item);
  void start_block(const Block& block);
  void finish(const Block& block);

 private:
  const Kernels& kernels_;
  Totals rows_, cols_;
  bool symmetric_;
  std::vector<Lanes> row_lanes_;  // per item, one row tile
  std::vector<Lanes> col_lanes_;  // per item, the block's columns
};

}  // namespace pyfast::contrastive

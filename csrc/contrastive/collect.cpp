#include "contrastive/collect.h"

#include <algorithm>
#include <limits>

namespace pyfast::contrastive {

void reset(const Totals& t, int64_t n) {
  if (!t.max) return;
  std::fill(t.max, t.max + n, -std::numeric_limits<float>::infinity());
  std::fill(t.sum, t.sum + n, 0.0);
  if (t.cross) std::fill(t.cross, t.cross + n, 0.0);
}

void add_running(const Totals& t, int64_t at, const Running& running, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const float top = running.max[i];
    if (top == -FLT_MAX && running.sum[i] == 0) continue;  // nothing there yet
    const float now = std::max(t.max[at + i], top);
    const double keep = std::exp(static_cast<double>(t.max[at + i]) - now);
    const double take = std::exp(static_cast<double>(top) - now);
    t.max[at + i] = now;
    t.sum[at + i] = t.sum[at + i] * keep + running.sum[i] * take;
    if (t.cross) t.cross[at + i] = t.cross[at + i] * keep + running.cross[i] * take;
  }
}

void Lanes::clear() {
  std::fill(values_.begin(), values_.begin() + count_, -FLT_MAX);
  std::fill(values_.begin() + count_, values_.end(), 0.0f);
}

Collector::Collector(const Sweep& sweep, const Totals& rows, const Totals& cols, bool symmetric)
    : kernels_(*sweep.engine.tile), rows_(rows), cols_(symmetric ? rows : cols), symmetric_(symmetric) {
  const bool cross = rows.cross || cols.cross;
  for (int64_t i = 0; i < sweep.items(); ++i) {
    row_lanes_.emplace_back(max_mr, cross);
    if (cols_.max) col_lanes_.emplace_back(sweep.col_block(), cross);
  }
}

void Collector::start_block(const Block&) {
  for (Lanes& lanes : col_lanes_) lanes.clear();
}

void Collector::begin(int64_t item) { row_lanes_[item].clear(); }

void Collector::add(const Block& block, const Tile& tile, int64_t item, const float* s, const float* other) {
  SoftTile soft{s, other, {}, {}};
  if (rows_.max) soft.rows = row_lanes_[item].at(0);
  if (cols_.max && !block.diagonal) soft.cols = col_lanes_[item].at(tile.panel * kernels_.nr);
  kernels_.soft_stats(soft);
}

void Collector::end(const Block& block, int64_t row_tile, int64_t item) {
  if (!rows_.max) return;
  const int64_t first = row_tile * kernels_.mr;
  add_running(rows_, block.i0 + first, row_lanes_[item].at(0), std::min<int64_t>(kernels_.mr, block.rows - first));
}

void Collector::finish(const Block& block) {
  if (!cols_.max || block.diagonal) return;
  const int64_t used = ceil_div(block.row_tiles, Sweep::tiles_per_item);
  for (int64_t i = 1; i < used; ++i)
    kernels_.merge(col_lanes_[0].at(0), col_lanes_[i].at(0), round_up(block.cols, max_nr));
  add_running(cols_, block.j0, col_lanes_[0].at(0), block.cols);
}

}  // namespace pyfast::contrastive

// Row and column log-sum-exp of a similarity matrix from one product.
#include <algorithm>
#include <limits>

#include "contrastive/collect.h"
#include "contrastive/pairs.h"

namespace pyfast::contrastive {
namespace {

// Sums over positives: rows belong to one item, columns are collected per item and added in fixed order.
class Positives {
 public:
  Positives(const StatsArgs& args, const Sweep& sweep)
      : kernels_(*sweep.engine.tile),
        ids_(args.row_ids, args.product.a.n(), args.col_ids, args.product.b.n()),
        rows_(args.rows.pos),
        cols_(args.symmetric ? args.rows.pos : args.cols.pos) {
    if (cols_) by_item_.assign(sweep.items(), std::vector<double>(sweep.col_block()));
  }

  void start_block() {
    for (auto& sums : by_item_) std::fill(sums.begin(), sums.end(), 0.0);
  }

  void add(const Block& block, const Tile& tile, int64_t item) {
    if (!ids_.may_match(tile)) return;
    double row[max_mr] = {}, col[max_nr] = {};
    if (tile.edge) {
      add_edge(tile, row, col);
    } else {
      kernels_.positive_sums(tile.s, ids_.at(tile), row, col);
    }
    if (rows_)
      for (int r = 0; r < tile.rows; ++r) rows_[tile.i + r] += row[r];
    if (cols_ && !block.diagonal)
      for (int c = 0; c < tile.cols; ++c) by_item_[item][tile.panel * kernels_.nr + c] += col[c];
  }

  void finish(const Block& block) {
    if (!cols_ || block.diagonal) return;
    for (const auto& sums : by_item_)
      for (int64_t c = 0; c < block.cols; ++c) cols_[block.j0 + c] += sums[c];
  }

 private:
  // Where pairs are left out: they hold -inf and do not count, whatever their ids.
  void add_edge(const Tile& tile, double* row, double* col) const {
    const IdTile ids = ids_.at(tile);
    for (int r = 0; r < tile.rows; ++r)
      for (int c = 0; c < tile.cols; ++c) {
        const float s = tile.s[r * kernels_.nr + c];
        if (ids.row_id[r] != ids.col_id[c] || s == -std::numeric_limits<float>::infinity()) continue;
        row[r] += s;
        col[c] += s;
      }
  }

  const Kernels& kernels_;
  Ids ids_;
  double *rows_, *cols_;
  std::vector<std::vector<double>> by_item_;
};

class Stats : public Visitor {
 public:
  Stats(const StatsArgs& args, const Sweep& sweep)
      : soft_(sweep, {args.rows.max, args.rows.sum}, {args.cols.max, args.cols.sum}, args.symmetric),
        positives_(args, sweep) {}
  void block(const Block& block) override { soft_.start_block(block), positives_.start_block(); }
  void begin(const Block&, int64_t, int64_t item) override { soft_.begin(item); }
  void visit(const Block& block, const Tile& tile, int64_t item) override {
    soft_.add(block, tile, item, tile.s, nullptr);
    positives_.add(block, tile, item);
  }
  void end(const Block& block, int64_t row_tile, int64_t item) override { soft_.end(block, row_tile, item); }
  void finish(const Block& block) override { soft_.finish(block), positives_.finish(block); }

 private:
  Collector soft_;
  Positives positives_;
};

}  // namespace

void pair_stats(const StatsArgs& args) {
  const int64_t n = args.product.a.n(), m = args.product.b.n();
  reset({args.rows.max, args.rows.sum}, n);
  reset({args.cols.max, args.cols.sum}, m);
  if (args.rows.pos) std::fill(args.rows.pos, args.rows.pos + n, 0.0);
  if (args.cols.pos) std::fill(args.cols.pos, args.cols.pos + m, 0.0);
  if (n == 0 || m == 0) return;
  Sweep sweep(args.engine, &args.product, 1, args.exclude, args.symmetric, false, false);
  Stats stats(args, sweep);
  sweep.run(stats);
}

}  // namespace pyfast::contrastive

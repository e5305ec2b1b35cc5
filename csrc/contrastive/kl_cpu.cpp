// Similarity distillation: KL(softmax of the teacher's row || softmax of the student's), rows and columns.
#include <algorithm>
#include <limits>

#include "contrastive/collect.h"
#include "contrastive/pull.h"

namespace pyfast::contrastive {
namespace {

// Whether nothing exceeds the teacher's diagonal in its row (column); a diagonal of NaN is exceeded by nothing, so that
// it reaches the loss. Row tiles belong to one item; column maxima are collected per item.
class Right {
 public:
  Right(const KLStatsArgs& a, const Sweep& sweep)
      : kernels_(*sweep.engine.tile), on_(a.rows.right || a.cols.right), shift_(a.shift) {
    if (!on_) return;
    constexpr float least = -std::numeric_limits<float>::infinity();
    row_max_.assign(a.teacher.a.n() + max_mr, least);
    col_max_.assign(a.teacher.b.n() + max_nr, least);
    diagonal_.assign(a.teacher.a.n(), least);
    by_item_.assign(sweep.items(), std::vector<float>(sweep.col_block() + max_nr, least));
  }

  void add(const Tile& tile, int64_t item) {
    if (!on_) return;
    kernels_.true_max(tile.t, row_max_.data() + tile.i, by_item_[item].data() + tile.panel * kernels_.nr);
    for (int r = 0; r < tile.rows; ++r) {
      const int64_t c = tile.i + r + shift_ - tile.j;
      if (c >= 0 && c < tile.cols) diagonal_[tile.i + r] = tile.t[r * kernels_.nr + c];
    }
  }

  void finish(const Block& block) {
    for (auto& maxima : by_item_) {
      for (int64_t c = 0; c < block.cols; ++c) col_max_[block.j0 + c] = std::max(col_max_[block.j0 + c], maxima[c]);
      std::fill(maxima.begin(), maxima.end(), -std::numeric_limits<float>::infinity());
    }
  }

  void write(const KLStatsArgs& a) const {
    const auto n = static_cast<int64_t>(diagonal_.size());
    if (a.rows.right)
      for (int64_t i = 0; i < n; ++i) a.rows.right[i] = !(row_max_[i] > diagonal_[i]);
    if (!a.cols.right) return;
    for (int64_t j = 0; j < a.teacher.b.n(); ++j) {
      const int64_t i = j - shift_;
      a.cols.right[j] = i >= 0 && i < n && !(col_max_[j] > diagonal_[i]);
    }
  }

 private:
  const Kernels& kernels_;
  bool on_;
  int64_t shift_;
  std::vector<float> row_max_, col_max_, diagonal_;
  std::vector<std::vector<float>> by_item_;
};

class Both : public Visitor {
 public:
  Both(const KLStatsArgs& a, const Sweep& sweep)
      : student_(sweep, {a.rows.s_max, a.rows.s_sum}, {a.cols.s_max, a.cols.s_sum}, false),
        teacher_(sweep, {a.rows.t_max, a.rows.t_sum, a.rows.cross}, {a.cols.t_max, a.cols.t_sum, a.cols.cross}, false),
        right(a, sweep) {}
  void block(const Block& block) override { student_.start_block(block), teacher_.start_block(block); }
  void begin(const Block&, int64_t, int64_t item) override { student_.begin(item), teacher_.begin(item); }
  void visit(const Block& block, const Tile& tile, int64_t item) override {
    student_.add(block, tile, item, tile.s, nullptr);
    teacher_.add(block, tile, item, tile.t, tile.s);
    right.add(tile, item);
  }
  void end(const Block& block, int64_t row_tile, int64_t item) override {
    student_.end(block, row_tile, item), teacher_.end(block, row_tile, item);
  }
  void finish(const Block& block) override { student_.finish(block), teacher_.finish(block), right.finish(block); }

 private:
  Collector student_, teacher_;

 public:
  Right right;
};

class Difference : public Objective {
 public:
  explicit Difference(const KLGradArgs& a)
      : kernels_(*a.engine.tile),
        rows_(a.rows, a.student.a.n(), kernels_.mr),
        cols_(a.cols, a.student.b.n(), kernels_.nr) {}

  void pull(const Tile& tile, int64_t, float* ds) override {
    kernels_.soft_pull({tile.s, rows_.student.at(tile.i), cols_.student.at(tile.j), ds, false});
    kernels_.soft_pull({tile.t, rows_.teacher.at(tile.i), cols_.teacher.at(tile.j), ds, true});
  }

 private:
  // The teacher's part is subtracted: its coefficients change sign.
  struct Pair {
    SoftSide student, teacher;
    Pair(const KLPull& p, int64_t n, int group) {
      if (!p.s_max) return;
      std::vector<float> minus(p.t_coef, p.t_coef + n);
      for (float& x : minus) x = -x;
      student = SoftSide(p.s_max, p.s_coef, n, group);
      teacher = SoftSide(p.t_max, minus.data(), n, group);
    }
  };
  const Kernels& kernels_;
  Pair rows_, cols_;
};

void reset_side(const KLStats& side, int64_t n) {
  reset({side.s_max, side.s_sum, nullptr}, n);
  reset({side.t_max, side.t_sum, side.cross}, n);
}

}  // namespace

void kl_stats(const KLStatsArgs& args) {
  const int64_t n = args.student.a.n(), m = args.student.b.n();
  reset_side(args.rows, n);
  reset_side(args.cols, m);
  const Product products[] = {args.student, args.teacher};
  if (n > 0 && m > 0) {
    Sweep sweep(args.engine, products, 2, args.exclude, false, false, false);
    Both both(args, sweep);
    sweep.run(both);
    both.right.write(args);
    return;
  }
  if (args.rows.right) std::fill(args.rows.right, args.rows.right + n, 0);
  if (args.cols.right) std::fill(args.cols.right, args.cols.right + m, 0);
}

void kl_grads(const KLGradArgs& args) {
  Difference objective(args);
  const Product products[] = {args.student, args.teacher};
  pull_gradients(args.engine, products, 2, args.exclude, false, objective, args.out);
}

}  // namespace pyfast::contrastive

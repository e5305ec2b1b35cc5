// Gradients of the softmax objectives: dS_ij = r_i e^{s - m_i} + c_j e^{s - m_j} - [positive] (p_i + p_j).
#include <algorithm>
#include <limits>

#include "contrastive/pull.h"

namespace pyfast::contrastive {
namespace {

std::vector<float> padded(const float* x, int64_t n) {
  if (!x) return {};
  std::vector<float> out(n + max_nr, 0.0f);
  std::copy(x, x + n, out.begin());
  return out;
}

class Softmaxes : public Objective {
 public:
  explicit Softmaxes(const GradArgs& a)
      : kernels_(*a.engine.tile),
        n_(a.product.a.n()),
        m_(a.product.b.n()),
        ids_(a.row_ids, n_, a.col_ids, m_),
        rows_(a.rows.max, a.rows.coef, n_, kernels_.mr) {
    const SidePull& other = a.symmetric ? a.rows : a.cols;
    cols_ = SoftSide(other.max, other.coef, m_, kernels_.nr);
    row_pos_ = padded(a.rows.pos, n_);
    col_pos_ = padded(other.pos, m_);
  }

  void pull(const Tile& tile, int64_t, float* ds) override {
    kernels_.soft_pull({tile.s, rows_.at(tile.i), cols_.at(tile.j), ds, false});
    if (!ids_.may_match(tile)) return;
    kernels_.positive_pull(ids_.at(tile), row_pos_.empty() ? nullptr : row_pos_.data() + tile.i,
                           col_pos_.empty() ? nullptr : col_pos_.data() + tile.j, ds);
    if (!tile.edge) return;
    const int count = kernels_.mr * kernels_.nr;
    for (int i = 0; i < count; ++i)
      if (tile.s[i] == -std::numeric_limits<float>::infinity()) ds[i] = 0;  // positive by its id, but left out
  }

 private:
  const Kernels& kernels_;
  int64_t n_, m_;
  Ids ids_;
  SoftSide rows_, cols_;
  std::vector<float> row_pos_, col_pos_;
};

}  // namespace

void pair_grads(const GradArgs& args) {
  Softmaxes objective(args);
  pull_gradients(args.engine, &args.product, 1, args.exclude, args.symmetric, objective, args.out);
}

}  // namespace pyfast::contrastive

// The sigmoid loss: no normaliser, so value and gradients come from the same sweep.
#include <algorithm>

#include "contrastive/pull.h"

namespace pyfast::contrastive {
namespace {

class Sigmoid : public Objective {
 public:
  explicit Sigmoid(const SigmoidArgs& a)
      : kernels_(*a.engine.tile), ids_(a.row_ids, a.product.a.n(), a.col_ids, a.product.b.n()) {}

  void start(const Sweep& sweep) override { items_.assign(sweep.items(), {0, 0}); }

  void pull(const Tile& tile, int64_t item, float* ds) override {
    std::copy(tile.s, tile.s + kernels_.mr * kernels_.nr, ds);
    const SigmoidSums sums = kernels_.sigmoid(ds, ids_.at(tile));
    items_[item].loss += sums.loss;
    items_[item].slopes += sums.slopes;
  }

  void end_block() override {
    for (SigmoidSums& sums : items_) {
      total.loss += sums.loss;
      total.slopes += sums.slopes;
      sums = {0, 0};
    }
  }

  SigmoidSums total{0, 0};

 private:
  const Kernels& kernels_;
  Ids ids_;
  std::vector<SigmoidSums> items_;
};

}  // namespace

void siglip(const SigmoidArgs& args) {
  Sigmoid objective(args);
  pull_gradients(args.engine, &args.product, 1, {}, false, objective, args.out);
  *args.loss = objective.total.loss;
  if (args.dbias) *args.dbias = objective.total.slopes;
}

}  // namespace pyfast::contrastive

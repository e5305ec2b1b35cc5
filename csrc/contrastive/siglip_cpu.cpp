// The sigmoid loss: no normaliser, so value and gradients come from the same sweep.
#include <algorithm>

#include "contrastive/pull.h"

namespace pyfast::contrastive {
namespace {

class Sigmoid : public Objective {
 public:
  explicit Sigmoid(const SigmoidArgs& a)
      : kernels_(*a.engine.tile), ids_(a.row_ids, a.product.a.n(), a.col_ids, a.product.b.n()) {}

  void start(const Sweep& sweep) override { items_.assign(sweep.items(), SigmoidSums{}); }

  void pull(const Tile& tile, int64_t item, float* ds) override {
    std::copy(tile.s, tile.s + kernels_.mr * kernels_.nr, ds);
    const SigmoidSums sums = kernels_.sigmoid(ds, ids_.at(tile));
    items_[item].loss += sums.loss;
    items_[item].slopes += sums.slopes;
    items_[item].moment += sums.moment;
  }

  void end_block() override {
    for (SigmoidSums& sums : items_) {
      total.loss += sums.loss;
      total.slopes += sums.slopes;
      total.moment += sums.moment;
      sums = {};
    }
  }

  SigmoidSums total{};

 private:
  const Kernels& kernels_;
  Ids ids_;
  std::vector<SigmoidSums> items_;
};

}  // namespace

void siglip(const SigmoidArgs& args) {
  Sigmoid objective(args);
  pull_gradients(args.engine, &args.product, 1, {}, false, objective, args.out);
  const SigmoidSums& total = objective.total;
  const Product& p = args.product;
  // Without a gradient to multiply with, from s itself: s = scale <a, b> + bias.
  if (args.out.dscale && !args.out.da && !args.out.db)
    *args.out.dscale = (total.moment - p.bias * total.slopes) / p.scale;
  *args.loss = total.loss;
  if (args.dbias) *args.dbias = total.slopes;
}

}  // namespace pyfast::contrastive

// A whole loss in one call, for small batches: there the calls cost as much as the arithmetic.
#include <cmath>

#include "contrastive/pairs.h"

namespace pyfast::contrastive {
namespace {

struct Part {
  std::vector<float> max, coef, pos;
  std::vector<double> sum, positive;
  double weight;
  Part(int64_t n, double w) : max(n), coef(n), pos(n), sum(n), positive(n), weight(w) {}
  SideStats stats() { return {max.data(), sum.data(), positive.data()}; }
  SidePull pull() const { return {max.data(), coef.data(), pos.data()}; }

  // The side's part of the loss; then its part of the gradient is ready.
  double loss() {
    double total = 0;
    for (size_t i = 0; i < max.size(); ++i) {
      total += (max[i] - positive[i]) + std::log(sum[i]);
      coef[i] = static_cast<float>(weight / sum[i]);
      pos[i] = static_cast<float>(weight);
    }
    return total * weight;
  }
};

}  // namespace

double contrast_directly(const DirectArgs& args) {
  const int64_t n = args.product.a.n(), m = args.product.b.n();
  Part rows(n, args.row_weight), cols(m, args.col_weight);
  const Exclude self{args.symmetric, 0};
  StatsArgs first{args.engine, args.product, args.row_ids, args.col_ids, self, args.symmetric, {}, {}};
  GradArgs second{args.engine, args.product, args.row_ids, args.col_ids, self, args.symmetric, {}, {}, args.out};
  if (args.row_weight != 0) first.rows = rows.stats();
  if (args.col_weight != 0) first.cols = cols.stats();
  pair_stats(first);
  double loss = 0;
  if (args.row_weight != 0) loss += rows.loss(), second.rows = rows.pull();
  if (args.col_weight != 0) loss += cols.loss(), second.cols = cols.pull();
  if (args.out.da || args.out.db) pair_grads(second);
  return loss;
}

}  // namespace pyfast::contrastive

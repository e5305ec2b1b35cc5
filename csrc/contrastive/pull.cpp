#include "contrastive/pull.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>

#include "core/parallel.h"

namespace pyfast::contrastive {

SoftSide::SoftSide(const float* max, const float* coef, int64_t n, int group) : group_(group) {
  if (!max) return;
  const int64_t padded = n + max_nr;
  max_.assign(padded, 0.0f);
  coef_.assign(padded, 0.0f);
  for (int64_t i = 0; i < n; ++i) {
    if (max[i] == -INFINITY) continue;  // nothing in the row: no part in the gradient
    max_[i] = max[i];
    coef_[i] = coef[i];
  }
  for (int64_t i = 0; i < n; i += group) {
    const auto [low, top] = std::minmax_element(max_.begin() + i, max_.begin() + std::min(n, i + group));
    low_.push_back(*low);
    top_.push_back(*top);
  }
}

namespace {

class Puller : public Visitor {
 public:
  Puller(const Sweep& sweep, Objective& objective, const Gradients& out, int64_t d, bool symmetric)
      : sweep_(sweep), kernels_(*sweep.engine.tile), objective_(objective), out_(out), d_(d), symmetric_(symmetric) {
    const int64_t pairs = round_up(sweep.row_block(), kernels_.mr) * sweep.col_block() / kernels_.per_word;
    if (out.da) by_col_ = new_words(pairs);
    if (out.db || symmetric) by_row_ = new_words(pairs);
  }

  void visit(const Block& block, const Tile& tile, int64_t item) override {
    alignas(64) float ds[max_mr * max_nr];
    objective_.pull(tile, item, ds);
    const int mr = kernels_.mr, nr = kernels_.nr, per_word = kernels_.per_word;
    uint32_t* by_row = nullptr;
    uint32_t* by_col = nullptr;
    if (by_row_ && !block.diagonal)
      by_row = by_row_.get() + tile.panel * row_words(block) * nr + tile.row_tile * (mr / per_word) * nr;
    if (by_col_) by_col = by_col_.get() + tile.row_tile * col_words(block) * mr + tile.panel * (nr / per_word) * mr;
    kernels_.store(ds, by_row, by_col);
  }

  void finish(const Block& block) override {
    objective_.end_block();
    const int64_t row_items = out_.da ? ceil_div(d_, kernels_.nr) * ceil_div(block.row_tiles, tiles) : 0;
    float* db = symmetric_ ? out_.da : out_.db;
    const int64_t feature_tiles = ceil_div(d_, kernels_.mr);
    const int64_t col_items = db && !block.diagonal ? block.panels * ceil_div(feature_tiles, tiles) : 0;
    const int threads =
        sweep_.engine.threads_for(static_cast<double>(block.rows * block.cols) * static_cast<double>(d_));
    // Both at once: one wait for the other threads instead of two.
    parallel_for(row_items + col_items, threads, [&](int64_t item, int) {
      item < row_items ? rows_item(block, item) : cols_item(block, item - row_items, db);
    });
  }

 private:
  static constexpr int64_t tiles = 16;  // output tiles per item
  int64_t row_words(const Block& b) const { return b.row_tiles * kernels_.mr / kernels_.per_word; }
  int64_t col_words(const Block& b) const { return b.panels * kernels_.nr / kernels_.per_word; }

  // dA[rows, one panel of features] += dS B
  void rows_item(const Block& block, int64_t item) {
    const int64_t chunks = ceil_div(block.row_tiles, tiles), panel = item / chunks, first = item % chunks * tiles;
    const int mr = kernels_.mr, nr = kernels_.nr;
    const uint32_t* features = sweep_.features_b() + panel * sweep_.stride_b();
    const int cols = static_cast<int>(std::min<int64_t>(nr, d_ - panel * nr));
    for (int64_t t = first; t < std::min(block.row_tiles, first + tiles); ++t) {
      const int rows = static_cast<int>(std::min<int64_t>(mr, block.rows - t * mr));
      kernels_.product_add(by_col_.get() + t * col_words(block) * mr, features, col_words(block),
                           out_.da + (block.i0 + t * mr) * d_ + panel * nr, d_, rows, cols);
    }
  }

  // dB[one panel of columns, features] += dS' A, computed transposed
  void cols_item(const Block& block, int64_t item, float* db) {
    const int64_t feature_tiles = ceil_div(d_, kernels_.mr), chunks = ceil_div(feature_tiles, tiles);
    const int64_t panel = item / chunks, first = item % chunks * tiles;
    const int mr = kernels_.mr, nr = kernels_.nr;
    const uint32_t* ds = by_row_.get() + panel * row_words(block) * nr;
    const int cols = static_cast<int>(std::min<int64_t>(nr, block.cols - panel * nr));
    for (int64_t t = first; t < std::min(feature_tiles, first + tiles); ++t) {
      const int rows = static_cast<int>(std::min<int64_t>(mr, d_ - t * mr));
      kernels_.product_add_transposed(sweep_.features_a() + t * sweep_.stride_a(), ds, row_words(block),
                                      db + (block.j0 + panel * nr) * d_ + t * mr, d_, rows, cols);
    }
  }

  const Sweep& sweep_;
  const Kernels& kernels_;
  Objective& objective_;
  Gradients out_;
  int64_t d_;
  bool symmetric_;
  Words by_row_, by_col_;
};

// g *= scale, and Σ <x_i, g_i> before that, in an order that does not depend on the threads.
double scale_and_dot(const Engine& engine, const Rows& x, float* g, float scale) {
  constexpr int64_t chunk = 64;
  std::vector<double> partial(ceil_div(x.rows, chunk), 0.0);
  const int threads = engine.threads_for(packing_cost / 4 * static_cast<double>(x.rows * x.d));
  parallel_for(static_cast<int64_t>(partial.size()), threads, [&](int64_t item, int) {
    std::vector<float> scratch(x.d);
    for (int64_t i = item * chunk; i < std::min(x.rows, (item + 1) * chunk); ++i) {
      const float* row = x.get(i, scratch.data(), *engine.tile);
      partial[item] += engine.tile->dot_and_scale(row, g + i * x.d, x.d, scale);
    }
  });
  double sum = 0;
  for (const double p : partial) sum += p;
  return sum;
}

}  // namespace

void pull_gradients(const Engine& engine, const Product* products, int count, const Exclude& exclude, bool symmetric,
                    Objective& objective, const Gradients& out) {
  const Product& product = products[0];
  const int64_t n = product.a.n(), m = product.b.n(), d = product.a.d();
  if (out.da) std::memset(out.da, 0, static_cast<size_t>(n * d) * 4);
  if (out.db) std::memset(out.db, 0, static_cast<size_t>(m * d) * 4);
  if (out.dscale) *out.dscale = 0;
  if (n == 0 || m == 0) return;
  Sweep sweep(engine, products, count, exclude, symmetric, out.db || symmetric, out.da != nullptr);
  objective.start(sweep);
  Puller puller(sweep, objective, out, d, symmetric);
  sweep.run(puller);
  double dscale = 0;
  if (out.da) dscale = scale_and_dot(engine, product.a.rows, out.da, product.scale) * (symmetric ? 0.5 : 1.0);
  if (out.db) {
    const double other = scale_and_dot(engine, product.b.rows, out.db, product.scale);
    if (!out.da) dscale = other;
  }
  if (out.dscale) *out.dscale = dscale;
}

}  // namespace pyfast::contrastive

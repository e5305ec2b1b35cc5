#include "contrastive/sweep.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "core/parallel.h"

namespace pyfast::contrastive {
namespace {

// Working memory of a call in words: 5 MiB. Independent of the number of threads, because the order of summation
// follows the blocks.
constexpr double budget = 5.0 * (1 << 20) / 4;

// The largest block with `per_row` words a row and `per_pair` words a pair in the budget, r rows against c = r / ratio.
int64_t rows_in_budget(double per_row, double per_col, double per_pair, double ratio) {
  const double linear = per_row + per_col / ratio, square = per_pair / ratio;
  const double r =
      square > 0 ? (std::sqrt(linear * linear + 4 * square * budget) - linear) / (2 * square) : budget / linear;
  const auto whole = static_cast<int64_t>(std::min(r, 1536.0)) / block_multiple * block_multiple;
  return std::max(whole, block_multiple);
}

}  // namespace

Sweep::Sweep(const Engine& chosen, const Product* products, int count, const Exclude& exclude, bool symmetric,
             bool by_feature_a, bool by_feature_b)
    : engine(chosen),
      exclude_(exclude),
      symmetric_(symmetric),
      want_a_(by_feature_a),
      want_b_(by_feature_b),
      n_(products[0].a.n()),
      m_(products[0].b.n()) {
  const Kernels& k = *engine.tile;
  double per_row = 0, per_col = 0;
  for (int p = 0; p < count; ++p) {
    const double width = static_cast<double>(ceil_div(products[p].a.d(), k.per_word));
    per_row += width;
    per_col += products[p].b.bank ? 0 : width;
    if (p == 0) per_row += want_a_ ? width : 0, per_col += want_b_ && !products[p].b.bank ? width : 0;
  }
  const double per_pair = (want_a_ + want_b_) / static_cast<double>(k.per_word);
  row_block_ = rows_in_budget(per_row, per_col, per_pair, symmetric ? 1 : 2);
  // Blocks on the diagonal are visited whole: with a tenth of the rows each, that is a tenth more work.
  if (symmetric) row_block_ = std::min(row_block_, round_up(ceil_div(n_, 10), block_multiple));
  col_block_ = symmetric ? row_block_ : std::max(row_block_ / 2 / block_multiple * block_multiple, block_multiple);
  row_block_ = std::min(row_block_, round_up(n_, block_multiple));
  col_block_ = std::min(col_block_, round_up(m_, block_multiple));
  for (int p = 0; p < count; ++p) {
    Packed one{products[p], ceil_div(products[p].a.d(), k.per_word), nullptr, nullptr, nullptr};
    require(!one.product.b.bank || one.product.b.bank->kernels == engine.tile,
            "reference rows: packed for another precision or instruction set; pack them again");
    one.a = new_words(row_block_ * one.width);
    if (!one.product.b.bank) one.b = new_words(col_block_ * one.width);
    packed_.push_back(std::move(one));
  }
  const int64_t d = products[0].a.d();
  if (want_a_) {
    a_stride_ = row_block_ / k.per_word * k.mr;
    a_features_ = new_words(ceil_div(d, k.mr) * a_stride_);
  }
  if (want_b_ && !products[0].b.bank) {
    b_stride_ = col_block_ / k.per_word * k.nr;
    b_features_ = new_words(ceil_div(d, k.nr) * b_stride_);
  }
}

void Sweep::pack_block_rows(int64_t i0, int64_t rows) {
  const Kernels& k = *engine.tile;
  for (Packed& p : packed_) pack_rows(engine, p.product.a.rows, i0, rows, k.mr, p.a.get());
  if (want_a_)
    pack_by_feature(engine, packed_[0].product.a.rows, i0, rows, round_up(rows, k.mr), k.mr, a_features_.get(),
                    a_stride_);
}

void Sweep::pack_block_cols(int64_t j0, int64_t cols) {
  const Kernels& k = *engine.tile;
  for (Packed& p : packed_) {
    const Operand& b = p.product.b;
    p.b_at = b.bank ? b.bank->by_row.get() + j0 * p.width : p.b.get();
    if (!b.bank) pack_rows(engine, b.rows, j0, cols, k.nr, p.b.get());
  }
  if (!want_b_) return;
  const Operand& b = packed_[0].product.b;
  if (b.bank) {
    b_features_at_ = b.bank->by_feature.get() + j0 / k.per_word * k.nr;
    b_stride_ = b.bank->feature_stride;
    return;
  }
  b_features_at_ = b_features_.get();
  pack_by_feature(engine, b.rows, j0, cols, round_up(cols, k.nr), k.nr, b_features_.get(), b_stride_);
}

// Writes -inf where a pair does not count; true if there is one.
bool Sweep::mask(const Block&, Tile& tile) const {
  const int mr = engine.tile->mr, nr = engine.tile->nr;
  constexpr float none = -std::numeric_limits<float>::infinity();
  const auto drop = [&](int r, int c) {
    tile.s[r * nr + c] = none;
    if (tile.t) tile.t[r * nr + c] = none;
  };
  bool any = tile.rows < mr || tile.cols < nr;
  for (int r = 0; r < mr; ++r)
    for (int c = r < tile.rows ? tile.cols : 0; c < nr; ++c) drop(r, c);
  if (!exclude_.on) return any;
  for (int r = 0; r < tile.rows; ++r) {
    const int64_t c = tile.i + r + exclude_.shift - tile.j;
    if (c >= 0 && c < tile.cols) drop(r, static_cast<int>(c)), any = true;
  }
  return any;
}

void Sweep::run_item(Visitor& visitor, const Block& block, int64_t item) {
  const Kernels& k = *engine.tile;
  alignas(64) float s[max_mr * max_nr], t[max_mr * max_nr];
  const int64_t last = std::min(block.row_tiles, (item + 1) * tiles_per_item);
  for (int64_t row = item * tiles_per_item; row < last; ++row) {
    visitor.begin(block, row, item);
    for (int64_t panel = 0; panel < block.panels; ++panel) {
      float* out = s;
      for (const Packed& p : packed_) {
        k.product(p.a.get() + row * p.width * k.mr, p.b_at + panel * p.width * k.nr, p.width, p.product.scale,
                  p.product.bias, out);
        out = t;
      }
      Tile tile{block.i0 + row * k.mr, block.j0 + panel * k.nr, 0, 0, row, panel, s, nullptr, false};
      tile.rows = static_cast<int>(std::min<int64_t>(k.mr, block.rows - row * k.mr));
      tile.cols = static_cast<int>(std::min<int64_t>(k.nr, block.cols - panel * k.nr));
      if (packed_.size() == 2) tile.t = t;
      tile.edge = mask(block, tile);
      visitor.visit(block, tile, item);
    }
    visitor.end(block, row, item);
  }
}

int64_t Sweep::features() const {
  int64_t sum = 0;
  for (const Packed& p : packed_) sum += p.product.a.d();
  return sum;
}

void Sweep::run(Visitor& visitor) {
  const Kernels& k = *engine.tile;
  for (int64_t i0 = 0; i0 < n_; i0 += row_block_) {
    const int64_t rows = std::min(row_block_, n_ - i0);
    pack_block_rows(i0, rows);
    for (int64_t j0 = symmetric_ ? i0 : 0; j0 < m_; j0 += col_block_) {
      const int64_t cols = std::min(col_block_, m_ - j0);
      pack_block_cols(j0, cols);
      const Block block{i0, j0, rows, cols, ceil_div(rows, k.mr), ceil_div(cols, k.nr), symmetric_ && i0 == j0};
      visitor.block(block);
      const int threads = engine.threads_for(static_cast<double>(rows * cols) * static_cast<double>(features()));
      parallel_for(ceil_div(block.row_tiles, tiles_per_item), threads,
                   [&](int64_t item, int) { run_item(visitor, block, item); });
      visitor.finish(block);
    }
  }
}

}  // namespace pyfast::contrastive

// Visits every tile of a pairwise product, block by block, in an order that does not depend on the number of threads.
#pragma once
#include <cstdint>
#include <vector>

#include "contrastive/operand.h"

namespace pyfast::contrastive {

// s = scale * <a, b> + bias. The first product is the student's; a second one is the teacher's, of the same rows.
struct Product {
  Operand a, b;
  float scale = 1, bias = 0;
};

// Pairs (i, j) with j - i == shift do not count.
struct Exclude {
  bool on = false;
  int64_t shift = 0;
};

struct Block {
  int64_t i0, j0;  // first row and column
  int64_t rows, cols;
  int64_t row_tiles, panels;  // tiles down, tiles across
  bool diagonal;              // of a symmetric product: rows and columns are the same
};

struct Tile {
  int64_t i, j;  // first row and column
  int rows, cols;
  int64_t row_tile, panel;  // within the block
  float* s;                 // [mr][nr] -inf where a pair does not count
  float* t;                 // the teacher's, or null
  bool edge;                // some pairs do not count
};

// What an objective does with the tiles. Items of a block run on any thread; a row tile belongs to one item.
class Visitor {
 public:
  virtual ~Visitor() = default;
  virtual void block(const Block&) {}                                          // before its tiles
  virtual void begin(const Block&, int64_t /*row_tile*/, int64_t /*item*/) {}  // before the tiles of a row tile
  virtual void visit(const Block&, const Tile&, int64_t item) = 0;
  virtual void end(const Block&, int64_t /*row_tile*/, int64_t /*item*/) {}
  virtual void finish(const Block&) {}  // after its tiles, on the caller's thread
};

class Sweep {
 public:
  // by_feature_a, by_feature_b: the first product's rows are also wanted packed by feature
  Sweep(const Engine& engine, const Product* products, int count, const Exclude& exclude, bool symmetric,
        bool by_feature_a, bool by_feature_b);
  void run(Visitor& visitor);

  int64_t row_block() const { return row_block_; }
  int64_t col_block() const { return col_block_; }
  int64_t items() const { return ceil_div(ceil_div(row_block_, engine.tile->mr), tiles_per_item); }

  // Of the block being visited, first product: packed by feature, panels of mr (a) and nr (b) features
  const uint32_t* features_a() const { return a_features_.get(); }
  const uint32_t* features_b() const { return b_features_at_; }
  int64_t stride_a() const { return a_stride_; }
  int64_t stride_b() const { return b_stride_; }

  static constexpr int64_t tiles_per_item = 2;
  const Engine engine;

 private:
  struct Packed {
    Product product;
    int64_t width;  // words per row
    Words a, b;
    const uint32_t* b_at;  // the block's columns: in b, or in a bank
  };
  void pack_block_rows(int64_t i0, int64_t rows);
  void pack_block_cols(int64_t j0, int64_t cols);
  void run_item(Visitor& visitor, const Block& block, int64_t item);
  bool mask(const Block& block, Tile& tile) const;
  int64_t features() const;  // of all products together

  std::vector<Packed> packed_;
  Exclude exclude_;
  bool symmetric_, want_a_, want_b_;
  int64_t n_, m_, row_block_, col_block_;
  Words a_features_, b_features_;
  const uint32_t* b_features_at_ = nullptr;
  int64_t a_stride_ = 0, b_stride_ = 0;
};

}  // namespace pyfast::contrastive

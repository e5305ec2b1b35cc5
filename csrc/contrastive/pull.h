// From dS, tile by tile, to the gradients of both sides: dA += dS B, dB += dS' A, then the factor of the product.
#pragma once
#include <cstdint>

#include "contrastive/pairs.h"

namespace pyfast::contrastive {

// A side's softmax in the gradient, with the padding tiles read and the range of its maxima per tile.
class SoftSide {
 public:
  SoftSide() = default;
  SoftSide(const float* max, const float* coef, int64_t n, int group);
  Soft at(int64_t i) const {
    if (max_.empty()) return {nullptr, nullptr, 0, 0};
    return {max_.data() + i, coef_.data() + i, top_[i / group_], low_[i / group_]};
  }

 private:
  std::vector<float> max_, coef_, top_, low_;
  int64_t group_ = 1;
};

// Turns a tile's s (and t) into dS in place of s; one implementation per objective.
class Objective {
 public:
  virtual ~Objective() = default;
  virtual void start(const Sweep&) {}
  virtual void pull(const Tile& tile, int64_t item, float* ds) = 0;
  virtual void end_block() {}  // on the caller's thread, in the order of the blocks
};

// Runs the sweep and accumulates the gradients. products[0] is differentiated.
void pull_gradients(const Engine& engine, const Product* products, int count, const Exclude& exclude, bool symmetric,
                    Objective& objective, const Gradients& out);

}  // namespace pyfast::contrastive

// The state of one query during a search, and its exact ranking in float64.
#pragma once
#include <cstdint>
#include <vector>

#include "knn/bank.h"
#include "knn/kernels.h"
#include "knn/space.h"

namespace pyfast::knn {

// An exactly ranked row. Order: larger key first, NaN last, smaller row number on ties.
struct Scored {
  double key;  // l2: minus the squared distance; ip, cosine: the similarity
  uint32_t row;
  float lower;  // lower bound on the row's score in the screening space
};

inline bool before(const Scored& a, const Scored& b) {
  const bool a_nan = a.key != a.key, b_nan = b.key != b.key;
  if (a_nan || b_nan) return a_nan == b_nan ? a.row < b.row : b_nan;
  return a.key != b.key ? a.key > b.key : a.row < b.row;
}

struct Query {
  const float* q = nullptr;  // [d]
  QueryBounds bounds{};
  double norm = 0;         // |q| in float64; ip and cosine only
  double shifted2 = -1;    // l2: |q~|^2 in float64, computed when first needed
  Scored* best = nullptr;  // [k] exactly ranked rows, unordered until finished
  int64_t best_count = 0;
  int64_t self = -1;  // row to leave out
};

// Ranks rows exactly and keeps the best k. Not shared between threads.
class Ranker {
 public:
  Ranker(const Space& space, const Source& source, const Kernels& kernels, int64_t k);

  void offer(Query& query, const uint32_t* rows, int64_t count);  // each row at most once per query
  void offer_range(Query& query, int64_t first, int64_t last);
  // As offer, and gives the best rows the lower bounds that `bound` needs.
  void offer_bounded(Query& query, const uint32_t* rows, int64_t count);
  // The best k's lower bound on the screening score, or -FLT_MAX while fewer than k are known.
  float bound(const Query& query) const;

 private:
  void score(const Query& query, const uint32_t* rows, int count);

  bool bounded_ = false;

  const Space& space_;
  const Source& source_;
  const Kernels& kernels_;
  int64_t k_;
  std::vector<float> scratch_;
  std::vector<Scored> found_;
};

}  // namespace pyfast::knn

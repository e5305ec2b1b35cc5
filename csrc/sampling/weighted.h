// Weighted draws without replacement: an exponential race, run by hash keys.
#pragma once
#include <cstdint>

#include "sampling/hash.h"
#include "sampling/log.h"

namespace pyfast::sampling {

// Throws Error on a weight that is negative, NaN or infinite.
void check_weights(const double* weights, int64_t n);

// log(V) / weight, -inf for weight 0; never -0.
static inline double weighted_key(const Hash& hash, int64_t id, double weight) {
  const double key = portable_log(hash_open(hash.key(static_cast<uint64_t>(id)))) / weight;
  return key + 0.0;
}

struct TopKArgs {
  const double* weights = nullptr;  // [n]; where `log`, their logarithms: below +inf
  int64_t n = 0;
  uint64_t seed = 0;
  bool log = false;
  int64_t k = 0;              // 0 … n
  int64_t* chosen = nullptr;  // [k], in the order of drawing
  int threads = 1;
};
// Throws Error on a weight out of range, NaN included.
void gumbel_top_k(const TopKArgs& args);

}  // namespace pyfast::sampling

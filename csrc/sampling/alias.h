// Alias tables (Walker 1977; Vose 1991): a draw from static weights costs two random numbers and two look-ups.
#pragma once
#include <cstdint>

namespace pyfast::sampling {

struct AliasTable {
  double* keep;    // [n] probability that column j keeps itself
  int64_t* alias;  // [n] else this one
  int64_t n;
};

// weights [n], finite, not negative, not all 0: else Error. Order of work as in the Python docstring.
void alias_build(const double* weights, const AliasTable& table);

// index [draws]; `seed` is folded with the step.
void alias_sample(const AliasTable& table, uint64_t seed, int64_t draws, int64_t* index, int threads);

}  // namespace pyfast::sampling

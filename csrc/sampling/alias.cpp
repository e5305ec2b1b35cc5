#include "sampling/alias.h"

#include <algorithm>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "sampling/hash.h"
#include "sampling/weighted.h"

namespace pyfast::sampling {
namespace {

constexpr int64_t part_draws = 4096;

}  // namespace

void alias_build(const double* weights, const AliasTable& table) {
  const int64_t n = table.n;
  check_weights(weights, n);
  double total = 0;
  for (int64_t j = 0; j < n; ++j) total += weights[j];
  require(total > 0 && total * 0 == 0, "weights: expected a positive finite sum, got " + std::to_string(total));
  std::vector<int64_t> small, large;
  const double scale = static_cast<double>(n) / total;
  for (int64_t j = 0; j < n; ++j) {
    table.keep[j] = weights[j] * scale;
    (table.keep[j] < 1 ? small : large).push_back(j);
  }
  while (!small.empty() && !large.empty()) {
    const int64_t s = small.back(), l = large.back();
    small.pop_back();
    large.pop_back();
    table.alias[s] = l;
    table.keep[l] = (table.keep[l] + table.keep[s]) - 1;
    (table.keep[l] < 1 ? small : large).push_back(l);
  }
  const int64_t heaviest = std::max_element(weights, weights + n) - weights;
  for (const auto* rest : {&small, &large}) {
    for (int64_t j : *rest) {  // what rounding left over; a row of weight 0 must never be drawn
      table.keep[j] = weights[j] > 0 ? 1 : 0;
      table.alias[j] = weights[j] > 0 ? j : heaviest;
    }
  }
}

void alias_sample(const AliasTable& table, uint64_t seed, int64_t draws, int64_t* index, int threads) {
  const Hash hash(seed);
  const double n = static_cast<double>(table.n);
  const int64_t parts = (draws + part_draws - 1) / part_draws;
  parallel_for(parts, parts > 1 ? threads : 1, [&](int64_t part, int) {
    for (int64_t b = part * part_draws; b < std::min(draws, (part + 1) * part_draws); ++b) {
      const uint64_t pair = 2 * static_cast<uint64_t>(b);
      const int64_t j = std::min(static_cast<int64_t>(hash_uniform(hash.key(pair)) * n), table.n - 1);
      index[b] = hash_uniform(hash.key(pair + 1)) < table.keep[j] ? j : table.alias[j];
    }
  });
}

}  // namespace pyfast::sampling

#include <algorithm>
#include <limits>

#include "contrastive/pairs.h"

namespace pyfast::contrastive {
namespace {

constexpr int32_t row_padding = std::numeric_limits<int32_t>::min();
constexpr int32_t col_padding = row_padding + 1;  // never equal to the other
constexpr int64_t least = col_padding, most = std::numeric_limits<int32_t>::max();

bool fits(const int64_t* ids, int64_t n) {
  return std::all_of(ids, ids + n, [](int64_t id) { return id > least && id <= most; });
}

// Places in the sorted list of all ids stand for them.
std::vector<int64_t> all_ids(const int64_t* a, int64_t n, const int64_t* b, int64_t m) {
  std::vector<int64_t> all(a, a + n);
  all.insert(all.end(), b, b + m);
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

std::vector<int32_t> codes(const int64_t* ids, int64_t n, const std::vector<int64_t>* all, int32_t padding) {
  std::vector<int32_t> out(n + block_multiple, padding);
  for (int64_t i = 0; i < n; ++i)
    out[i] = static_cast<int32_t>(all ? std::lower_bound(all->begin(), all->end(), ids[i]) - all->begin() : ids[i]);
  return out;
}

void ranges(const std::vector<int32_t>& ids, int64_t n, std::vector<int32_t>& low, std::vector<int32_t>& high) {
  for (int64_t i = 0; i < n; i += block_multiple) {
    const auto [a, b] = std::minmax_element(ids.begin() + i, ids.begin() + std::min(n, i + block_multiple));
    low.push_back(*a);
    high.push_back(*b);
  }
}

}  // namespace

Ids::Ids(const int64_t* row_ids, int64_t n, const int64_t* col_ids, int64_t m) {
  std::vector<int64_t> all;
  const bool direct = fits(row_ids, n) && fits(col_ids, m);
  if (!direct) all = all_ids(row_ids, n, col_ids, m);
  rows = codes(row_ids, n, direct ? nullptr : &all, row_padding);
  cols = codes(col_ids, m, direct ? nullptr : &all, col_padding);
  ranges(rows, n, row_low, row_high);
  ranges(cols, m, col_low, col_high);
}

bool Ids::may_match(const Tile& tile) const {
  const int64_t i = tile.i / block_multiple, j = tile.j / block_multiple;
  return row_low[i] <= col_high[j] && col_low[j] <= row_high[i];
}

}  // namespace pyfast::contrastive

// Draws from a sum tree, compiled once per instruction set. The including file defines PYFAST_ISA_NAMESPACE and, in it,
//   int count_le(const double* line, double r): how many of 16 doubles are <= r.
#include "sampling/hash.h"

namespace pyfast::sampling::PYFAST_ISA_NAMESPACE {
namespace {

constexpr int64_t side_by_side = 16;  // draws that go down together: their cache misses overlap

// The largest number below a positive x.
inline double below(double x) {
  uint64_t bits;
  std::memcpy(&bits, &x, 8);
  bits -= 1;
  std::memcpy(&x, &bits, 8);
  return x;
}

// line[c - 1], or 0 for c = 0; without a branch, which would go wrong once in 16.
inline double before(const double* line, int c) {
  uint64_t bits;
  std::memcpy(&bits, line + (c - (c > 0)), 8);
  bits &= -static_cast<uint64_t>(c > 0);
  double x;
  std::memcpy(&x, &bits, 8);
  return x;
}

// The child of an inner node that r falls into; r is then relative to that child.
inline int descend(const double* line, double& r) {
  int c = count_le(line, r);
  if (c == 16) {  // rounding put r at the end of this node
    r = below(line[15]);
    c = count_le(line, r);
  }
  r -= before(line, c);
  return c;
}

// The leaf that r falls into: prefix sums are added on the way, in the order that made the node's sum.
inline int find_leaf(const float* line, double r) {
  double sum = 0;
  int c = 0;
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) {
    sum += static_cast<double>(line[i]);
    c += sum <= r;
  }
  return c < 16 ? c : find_leaf(line, below(sum));
}

inline double place(const DrawArgs& args, const Hash& hash, int64_t b, double total) {
  double u = hash_uniform(hash.key(static_cast<uint64_t>(b)));
  if (args.stratified) u = (static_cast<double>(b) + u) / static_cast<double>(args.n);
  const double r = u * total;
  return r < total ? r : below(total);
}

void draw(const TreeView& tree, const DrawArgs& args) {
  const Hash hash(args.seed);
  int64_t node[side_by_side];
  double r[side_by_side];
  for (int64_t first = 0; first < args.count; first += side_by_side) {
    const int64_t n = args.count - first < side_by_side ? args.count - first : side_by_side;
    for (int64_t j = 0; j < n; ++j) {
      node[j] = 0;
      r[j] = place(args, hash, args.first + first + j, tree.total);
    }
    for (int level = tree.levels - 1; level >= 1; --level) {
      const double* pre = tree.pre[level];
      for (int64_t j = 0; j < n; ++j) {
        node[j] = 16 * node[j] + descend(pre + 16 * node[j], r[j]);
        if (level > 1) {
          __builtin_prefetch(tree.pre[level - 1] + 16 * node[j]);
          __builtin_prefetch(tree.pre[level - 1] + 16 * node[j] + 8);
        } else {
          __builtin_prefetch(tree.leaves + 16 * node[j]);
        }
      }
    }
    for (int64_t j = 0; j < n; ++j) {
      const int64_t leaf = 16 * node[j] + find_leaf(tree.leaves + 16 * node[j], r[j]);
      args.index[first + j] = leaf;
      args.probability[first + j] = static_cast<double>(tree.leaves[leaf]) / tree.total;
    }
  }
}

void hash_keys(uint64_t state, const int64_t* index, int64_t n, int64_t* keys) {
  for (int64_t i = 0; i < n; ++i)
    keys[i] = static_cast<int64_t>(finish64(static_cast<uint64_t>(index[i]) * gamma64 + state));
}

}  // namespace
}  // namespace pyfast::sampling::PYFAST_ISA_NAMESPACE

#include "fisher/quadratic.h"

#include <algorithm>

#include "core/parallel.h"

namespace pyfast::fisher {
namespace {

constexpr int64_t piece = 1 << 15;  // elements summed on their own: their buffers fit the second-level cache

std::vector<Quadratic> cut(const std::vector<Quadratic>& buffers) {
  std::vector<Quadratic> pieces;
  for (const Quadratic& q : buffers) {
    for (int64_t first = 0; first < q.count; first += piece) {
      Quadratic p = q;
      p.theta += first * dtype_size(q.dtype);
      p.anchor += first;
      p.weight += first;
      p.grad = q.grad ? q.grad + first : nullptr;
      p.count = std::min(piece, q.count - first);
      pieces.push_back(p);
    }
  }
  return pieces;
}

}  // namespace

double quadratic_cpu(const std::vector<Quadratic>& buffers, int threads, const Kernels& kernels) {
  const std::vector<Quadratic> pieces = cut(buffers);
  std::vector<double> sums(pieces.size());
  const int64_t count = static_cast<int64_t>(pieces.size());
  parallel_for(count, threads, [&](int64_t i, int) {
    sums[static_cast<size_t>(i)] = kernels.quadratic(pieces[static_cast<size_t>(i)]);
  });
  double total = 0;
  for (double sum : sums) total += sum;
  return total;
}

}  // namespace pyfast::fisher

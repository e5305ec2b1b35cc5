// What herding and k-centre share: sums of rows, norms, and the refusal of rows that are not finite.
#pragma once
#include <cstdint>
#include <vector>

#include "sampling/kernels.h"

namespace pyfast::sampling {

constexpr int64_t block_rows = 256;

// The place of a list with the smallest score. Scores closer than `slack` to it are ties, as rounding could turn them
// round; of these, the one whose row comes first wins. lows[i] is the smallest score of block i of the list.
int64_t best_place(const std::vector<double>& scores, const std::vector<double>& lows, double slack,
                   const std::vector<int64_t>& rows);

// One row as doubles, filled up with zeros to a multiple of 8.
void widen_row(const Features& x, int64_t row, const Kernels& kernels, std::vector<double>& to);

// The sum of the rows, each feature added in the order of the rows; filled up likewise.
std::vector<double> sum_rows(const Features& x, const int64_t* rows, int64_t count, int threads,
                             const Kernels& kernels);

// out[i] = reduce(x[rows[i]], y), by several threads where the work is worth it.
void reduce_all(Reduce what, const Features& x, const int64_t* rows, int64_t count, const double* y, double* out,
                int threads, const Kernels& kernels);

// Throws Error naming the first row whose `count` times squared norm is no finite number.
void check_finite(const double* squares, const int64_t* rows, int64_t count);

// Threads for a pass over this many numbers: waking one costs as much as reading some 100 000.
inline int threads_for(int64_t numbers, int threads) { return numbers < (int64_t{1} << 17) ? 1 : threads; }

}  // namespace pyfast::sampling

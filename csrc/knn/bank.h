// Packed database rows. Blocks never move: appending fills the tail panel in place and repacks nothing.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "knn/kernels.h"
#include "knn/rows.h"
#include "knn/space.h"

namespace pyfast::knn {

// Panels that fit the second-level cache together with a query tile.
struct Block {
  struct Free {
    void operator()(uint32_t* p) const;
  };
  std::unique_ptr<uint32_t[], Free> words;         // [panels][width][nr], 64-byte aligned
  std::vector<float> bias;                         // [panels * nr]
  std::vector<float> rho_max, norm_max, bias_max;  // [panels]
  int64_t capacity = 0;                            // rows
  int64_t rows = 0;

  Block(int64_t panels, int64_t width, int nr);
  void clear();
  Panels view(int64_t width, int nr, uint32_t first_row) const;
};

int64_t block_panels(const Space& space, const Kernels& kernels);

// Working memory of one thread that packs rows.
struct PackScratch {
  std::vector<uint32_t> words;  // [16][scratch_width]
  std::vector<float> row;       // [d]
  PackScratch(const Space& space, const Kernels& kernels);
};

// Appends rows [first, first + count) of the source to a block with room for them; the numbers of rows that cannot
// be screened (counted from first_row for row `first`) are added to `special`.
void pack_rows(const Space& space, const Kernels& kernels, const Rows& rows, int64_t first, int64_t count, Block& block,
               uint32_t first_row, std::vector<uint32_t>& special, PackScratch& scratch);

// The rows themselves, for exact ranking: one or more segments, in the order they were appended.
struct Source {
  std::vector<Rows> segments;
  std::vector<int64_t> starts;
  int64_t count = 0;

  void reserve();  // makes the next add safe from failing
  void add(const Rows& rows);
  const float* get(int64_t row, float* scratch, const Kernels& kernels) const;
  int64_t id(int64_t row) const { return segments.size() == 1 ? segments[0].id(row) : row; }
};

class Bank {
 public:
  Bank(Metric metric, int64_t d, const Kernels& kernels);

  // The caller keeps the memory of `rows` alive and unchanged as long as the bank. On an exception the bank stays as it
  // was.
  void append(const Rows& rows, int threads);

  const Kernels& kernels;
  Space space;
  Source source;
  std::vector<Block> blocks;
  std::vector<uint32_t> special;

  int64_t block_rows() const { return block_panels(space, kernels) * kernels.nr; }
  int64_t bytes() const;

 private:
  void pack(const Rows& rows, int64_t old, int64_t total, int threads);
  void forget(int64_t old, size_t old_blocks);
};

}  // namespace pyfast::knn

#include "knn/bank.h"

#include <algorithm>
#include <limits>
#include <mutex>
#include <new>

#include "core/error.h"
#include "core/parallel.h"

namespace pyfast::knn {

void Block::Free::operator()(uint32_t* p) const { ::operator delete[](p, std::align_val_t(64)); }

Block::Block(int64_t panels, int64_t width, int nr)
    : words(
          static_cast<uint32_t*>(::operator new[](static_cast<size_t>(panels * width * nr) * 4, std::align_val_t(64)))),
      bias(static_cast<size_t>(panels * nr)),
      rho_max(static_cast<size_t>(panels)),
      norm_max(static_cast<size_t>(panels)),
      bias_max(static_cast<size_t>(panels)),
      capacity(panels * nr) {
  clear();
  // A panel's missing rows are scanned like the others: their words must be numbers.
  std::fill_n(words.get(), panels * width * nr, 0u);
}

void Block::clear() {
  std::fill(bias.begin(), bias.end(), -std::numeric_limits<float>::infinity());
  std::fill(rho_max.begin(), rho_max.end(), 0.0f);
  std::fill(norm_max.begin(), norm_max.end(), 0.0f);
  std::fill(bias_max.begin(), bias_max.end(), 0.0f);
  rows = 0;
}

Panels Block::view(int64_t width, int nr, uint32_t first_row) const {
  return {words.get(),     bias.data(),          rho_max.data(), norm_max.data(),
          bias_max.data(), (rows + nr - 1) / nr, width,          first_row};
}

int64_t block_panels(const Space& space, const Kernels& kernels) {
  const int64_t panel_bytes = space.width(kernels) * kernels.nr * 4;
  return std::clamp<int64_t>((int64_t{256} << 10) / panel_bytes, 1, 128);
}

PackScratch::PackScratch(const Space& space, const Kernels& kernels)
    : words(static_cast<size_t>(16 * space.scratch_width(kernels))), row(static_cast<size_t>(space.d)) {}

void pack_rows(const Space& space, const Kernels& kernels, const Rows& rows, int64_t first, int64_t count, Block& block,
               uint32_t first_row, std::vector<uint32_t>& special, PackScratch& scratch) {
  const int64_t ld = space.scratch_width(kernels), width = space.width(kernels);
  const int nr = kernels.nr;
  for (int64_t done = 0; done < count;) {
    const int64_t panel = block.rows / nr, lane = block.rows % nr;
    const int batch = static_cast<int>(std::min({int64_t{16}, count - done, nr - lane}));
    for (int r = 0; r < batch; ++r) {
      const float* x = rows.get(first + done + r, scratch.row.data(), kernels);
      const Bounds b = store_row(space, kernels, x, scratch.words.data() + r * ld);
      block.bias[static_cast<size_t>(block.rows + r)] = b.bias;
      if (b.special) {
        special.push_back(first_row + static_cast<uint32_t>(done + r));
        continue;
      }
      const size_t p = static_cast<size_t>(panel);
      block.rho_max[p] = std::max(block.rho_max[p], b.rho);
      block.norm_max[p] = std::max(block.norm_max[p], b.norm);
      block.bias_max[p] = std::max(block.bias_max[p], b.bias_error);
    }
    kernels.interleave(scratch.words.data(), batch, ld, block.words.get() + panel * width * nr + lane, nr, width);
    block.rows += batch;
    done += batch;
  }
}

void Source::reserve() {
  starts.reserve(starts.size() + 1);
  segments.reserve(segments.size() + 1);
}

void Source::add(const Rows& rows) {
  if (rows.count == 0) return;
  starts.push_back(count);
  segments.push_back(rows);
  count += rows.count;
}

const float* Source::get(int64_t row, float* scratch, const Kernels& kernels) const {
  size_t s = 0;
  if (segments.size() > 1)
    s = static_cast<size_t>(std::upper_bound(starts.begin(), starts.end(), row) - starts.begin()) - 1;
  return segments[s].get(row - starts[s], scratch, kernels);
}

Bank::Bank(Metric metric, int64_t d, const Kernels& kernels_) : kernels(kernels_) {
  Rows none;
  none.d = d;
  space.fit(metric, none, kernels);
}

void Bank::append(const Rows& rows, int threads) {
  require(rows.d == space.d, "rows: expected " + std::to_string(space.d) + " features, got " + std::to_string(rows.d));
  const int64_t old = source.count, total = old + rows.count;
  require(total < int64_t{0xffffff00}, "a bank holds fewer than 2^32 - 256 rows; search in parts");
  if (rows.count == 0) return;
  if (!space.fixed) space.fit(space.metric, rows, kernels);
  const int64_t per_block = block_rows();
  const size_t had = blocks.size();
  blocks.reserve(static_cast<size_t>((total + per_block - 1) / per_block));
  source.reserve();
  try {
    while (static_cast<int64_t>(blocks.size()) * per_block < total)
      blocks.emplace_back(per_block / kernels.nr, space.width(kernels), kernels.nr);
    pack(rows, old, total, threads);
  } catch (...) {
    forget(old, had);
    throw;
  }
  source.add(rows);
}

void Bank::pack(const Rows& rows, int64_t old, int64_t total, int threads) {
  const int64_t per_block = block_rows();
  const int64_t first_block = old / per_block, last_block = (total - 1) / per_block;
  std::mutex lock;
  parallel_for(last_block - first_block + 1, threads, [&](int64_t i, int) {
    const int64_t b = first_block + i;
    const int64_t begin = std::max(old, b * per_block), end = std::min(total, (b + 1) * per_block);
    PackScratch scratch(space, kernels);
    std::vector<uint32_t> found;
    pack_rows(space, kernels, rows, begin - old, end - begin, blocks[static_cast<size_t>(b)],
              static_cast<uint32_t>(begin), found, scratch);
    std::lock_guard<std::mutex> hold(lock);
    special.insert(special.end(), found.begin(), found.end());
  });
  std::sort(special.begin(), special.end());
}

// Undoes a failed append: rows from `old` on were never there. Their words may stay, -inf hides them.
void Bank::forget(int64_t old, size_t old_blocks) {
  while (blocks.size() > old_blocks) blocks.pop_back();
  if (!blocks.empty()) {
    Block& tail = blocks.back();
    tail.rows = old - static_cast<int64_t>(old_blocks - 1) * block_rows();
    std::fill(tail.bias.begin() + tail.rows, tail.bias.end(), -std::numeric_limits<float>::infinity());
  }
  special.erase(std::remove_if(special.begin(), special.end(), [&](uint32_t row) { return row >= old; }),
                special.end());
}

int64_t Bank::bytes() const {
  return static_cast<int64_t>(blocks.size()) * block_rows() * (space.width(kernels) * 4 + 4);
}

}  // namespace pyfast::knn

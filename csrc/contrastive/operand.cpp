#include "contrastive/operand.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <vector>

#include "core/parallel.h"

namespace pyfast::contrastive {

void Free::operator()(uint32_t* p) const { ::operator delete[](p, std::align_val_t(64)); }

Words new_words(int64_t count) {
  return Words(static_cast<uint32_t*>(::operator new[](static_cast<size_t>(count) * 4, std::align_val_t(64))));
}

namespace {

// Rows in the stored precision, one behind the other, ready to be interleaved; one thread's working memory.
struct Scratch {
  int64_t width;                // words per row, with room for whole vectors
  std::vector<uint32_t> words;  // [16][width]
  std::vector<float> row, other;
  explicit Scratch(int64_t d) : width(round_up(d, 16)), words(16 * width), row(d), other(d) {}
};

void pack_group(const Engine& engine, const Rows& rows, int64_t first, int count, int group, uint32_t* out,
                Scratch& scratch) {
  const int64_t words = ceil_div(rows.d, engine.tile->per_word);
  if (count < group) std::memset(out, 0, static_cast<size_t>(words * group) * 4);
  for (int at = 0; at < count; at += 16) {
    const int some = std::min(count - at, 16);
    for (int r = 0; r < some; ++r) {
      const float* x = rows.get(first + at + r, scratch.row.data(), *engine.tile);
      engine.tile->to_words(x, rows.d, scratch.words.data() + r * scratch.width, scratch.width);
    }
    engine.tile->interleave(scratch.words.data(), some, scratch.width, out + at, group, words);
  }
}

}  // namespace

void pack_rows(const Engine& engine, const Rows& rows, int64_t first, int64_t count, int group, uint32_t* out) {
  const int64_t words = ceil_div(rows.d, engine.tile->per_word);
  constexpr int64_t chunk = 4;  // groups per item
  const int64_t groups = ceil_div(count, group);
  const int threads = engine.threads_for(packing_cost * static_cast<double>(count * rows.d));
  parallel_for(ceil_div(groups, chunk), threads, [&](int64_t item, int) {
    Scratch scratch(rows.d);
    for (int64_t g = item * chunk; g < std::min(groups, (item + 1) * chunk); ++g) {
      const int some = static_cast<int>(std::min<int64_t>(group, count - g * group));
      pack_group(engine, rows, first + g * group, some, group, out + g * words * group, scratch);
    }
  });
}

void pack_by_feature(const Engine& engine, const Rows& rows, int64_t first, int64_t count, int64_t padded, int width,
                     uint32_t* out, int64_t stride) {
  const int per_word = engine.tile->per_word;
  constexpr int64_t chunk = 32;  // rows per item, whole words
  const int threads = engine.threads_for(packing_cost * static_cast<double>(count * rows.d));
  parallel_for(ceil_div(padded, chunk), threads, [&](int64_t item, int) {
    Scratch scratch(rows.d);
    const std::vector<float> zeros(rows.d, 0.0f);
    for (int64_t i = item * chunk; i < std::min(padded, (item + 1) * chunk); i += per_word) {
      const float* x0 = i < count ? rows.get(first + i, scratch.row.data(), *engine.tile) : zeros.data();
      const float* x1 = zeros.data();
      if (per_word == 2 && i + 1 < count) x1 = rows.get(first + i + 1, scratch.other.data(), *engine.tile);
      engine.tile->pack_features(x0, x1, rows.d, width, out + i / per_word * width, stride);
    }
  });
}

Bank::Bank(const Rows& rows, const Engine& engine) : n(rows.rows), d(rows.d), kernels(engine.tile) {
  const int nr = kernels->nr, per_word = kernels->per_word;
  const int64_t padded = round_up(n, block_multiple);
  const int64_t by_row_words = padded * ceil_div(d, per_word);
  feature_stride = padded / per_word * nr;
  by_row = new_words(std::max<int64_t>(by_row_words, 1));
  by_feature = new_words(std::max<int64_t>(ceil_div(d, nr) * feature_stride, 1));
  std::memset(by_row.get(), 0, static_cast<size_t>(by_row_words) * 4);
  pack_rows(engine, rows, 0, n, nr, by_row.get());
  pack_by_feature(engine, rows, 0, n, padded, nr, by_feature.get(), feature_stride);
}

int64_t Bank::bytes() const {
  const int64_t padded = round_up(n, block_multiple);
  return 4 * (padded * ceil_div(d, kernels->per_word) + ceil_div(d, kernels->nr) * feature_stride);
}

}  // namespace pyfast::contrastive

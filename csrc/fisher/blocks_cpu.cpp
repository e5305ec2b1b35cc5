#include "fisher/blocks.h"

#include <algorithm>
#include <new>

#include "core/parallel.h"

namespace pyfast::fisher {
namespace {

constexpr int64_t chunk_floats = int64_t{1} << 18;  // packed at a time, per thread and once more: 1 MiB
constexpr int64_t unit_floats = int64_t{1} << 21;   // of one unit at most: 8 MiB
constexpr int64_t longest_unit = 256;
constexpr int64_t short_steps = 16;  // samples this short keep the output in registers from sample to sample

int64_t panels(int64_t n, int64_t width) { return (n + width - 1) / width; }

// Uninitialised and aligned to a cache line.
class Floats {
 public:
  explicit Floats(int64_t n) : data_(static_cast<float*>(::operator new(static_cast<size_t>(n) * 4, line))) {}
  ~Floats() { ::operator delete(data_, line); }
  Floats(const Floats&) = delete;
  Floats& operator=(const Floats&) = delete;
  float* get() const { return data_; }

 private:
  static constexpr std::align_val_t line{64};
  float* data_;
};

// How the output is cut into blocks: large enough to reuse packed panels from the second-level cache, small enough
// that every thread has several.
struct Grid {
  int64_t rows, lanes;  // of a block
  int64_t down, across;

  explicit Grid(const Work& work) : rows(8 * work.kernels->mr), lanes(8 * work.kernels->nr) {
    const int64_t wanted = work.threads > 1 ? 4 * work.threads : 1, mr = work.kernels->mr, nr = work.kernels->nr;
    cut(work);
    while (down * across < wanted && (rows > mr || lanes > nr)) {
      if (rows > mr && (rows >= lanes || lanes == nr))
        rows = panels(rows / mr, 2) * mr;
      else
        lanes = panels(lanes / nr, 2) * nr;
      cut(work);
    }
  }

 private:
  void cut(const Work& work) {
    down = panels(work.rows, rows);
    across = panels(work.lanes, lanes);
  }
};

// Units [first, last) and the samples they need, with their places in the buffers.
struct Chunk {
  size_t first, last;
  std::vector<int64_t> place;  // of each unit's packed panels
  int64_t first_sample = 0, samples = 0;
  int64_t floats = 0;
};

struct Sides {
  int64_t g, a;  // floats of a unit's packed panels

  Sides(const Work& work, const Unit& unit) {
    const int64_t steps = unit.samples * unit.steps;
    g = panels(work.rows, work.kernels->mr) * work.kernels->mr * steps;
    a = work.step_offsets ? 0 : panels(work.lanes, work.kernels->nr) * work.kernels->nr * steps;
  }
  int64_t both() const { return (g + a + 15) / 16 * 16; }
};

Chunk chunk_from(const Work& work, size_t first) {
  Chunk chunk;
  chunk.first = chunk.last = first;
  chunk.first_sample = work.units[first].first_sample;
  const int64_t room = chunk_floats * (work.threads + 1);
  for (; chunk.last < work.units.size(); ++chunk.last) {
    const Unit& unit = work.units[chunk.last];
    const int64_t samples = unit.first_sample + unit.samples - chunk.first_sample, size = Sides(work, unit).both();
    const bool full = chunk.floats + size + samples * work.prepared_floats > room;
    const bool may_cut = !work.step_offsets || unit.begins;  // else there is little to pack in the units of a sample
    if (chunk.last > first && full && may_cut) break;
    chunk.place.push_back(chunk.floats);
    chunk.floats += size;
    chunk.samples = samples;
  }
  return chunk;
}

std::vector<Chunk> chunks_of(const Work& work) {
  std::vector<Chunk> chunks;
  for (size_t first = 0; first < work.units.size(); first = chunks.back().last)
    chunks.push_back(chunk_from(work, first));
  return chunks;
}

struct Buffers {
  float *packed, *prepared, *state;
};

// Prepares the samples of a chunk; one that began in the chunk before, as its last, moves to the front.
void prepare(const Work& work, const Chunk& chunk, const Chunk* before, const Buffers& buffers) {
  if (!work.prepare) return;
  const int64_t size = work.prepared_floats, kept = work.units[chunk.first].begins ? 0 : 1;
  if (kept && before->samples > 1) std::copy_n(buffers.prepared + (before->samples - 1) * size, size, buffers.prepared);
  parallel_for(chunk.samples - kept, work.threads, [&](int64_t n, int) {
    work.prepare(chunk.first_sample + kept + n, buffers.prepared + (kept + n) * size);
  });
}

void pack(const Work& work, const Chunk& chunk, const Buffers& buffers) {
  const int sides = work.pack_a ? 2 : 1;
  parallel_for(sides * static_cast<int64_t>(chunk.place.size()), work.threads, [&](int64_t item, int) {
    const size_t i = static_cast<size_t>(item / sides);
    const Unit& unit = work.units[chunk.first + i];
    float* to = buffers.packed + chunk.place[i];
    if (item % sides)
      work.pack_a(unit, buffers.prepared + (unit.first_sample - chunk.first_sample) * work.prepared_floats,
                  to + Sides(work, unit).g);
    else
      work.pack_g(unit, to);
  });
}

// The sides of one unit, as seen by the block at (row, lane).
void point(const Work& work, const Chunk& chunk, size_t i, const Buffers& buffers, int64_t row, int64_t lane,
           BlockArgs& args) {
  const Unit& unit = work.units[chunk.first + i];
  const int64_t steps = unit.samples * unit.steps, nr = work.kernels->nr;
  const float* packed = buffers.packed + chunk.place[i];
  args.g = packed + row * steps;
  args.g_stride = work.kernels->mr * steps;
  args.samples = unit.samples;
  args.steps = unit.steps;
  args.finish = unit.ends ? work.finish : Finish::keep;
  args.resume = !unit.begins;
  if (work.step_offsets) {
    args.a = buffers.prepared + (unit.first_sample - chunk.first_sample) * work.prepared_floats;
    args.a_sample = work.prepared_floats;
    args.panel_offsets = work.panel_offsets + lane / nr;
    args.step_offsets = work.step_offsets + unit.first_step;
  } else {
    args.a = packed + Sides(work, unit).g + lane * steps;
    args.a_stride = nr * steps;
    args.a_sample = nr * unit.steps;
  }
}

void multiply(const Work& work, const Grid& grid, int64_t item, const Chunk& chunk, const Buffers& buffers) {
  const int64_t row = item % grid.down * grid.rows, lane = item / grid.down * grid.lanes;
  BlockArgs args = {};
  args.rows = std::min(grid.rows, work.rows - row);
  args.lanes = std::min(grid.lanes, work.lanes - lane);
  args.out = work.out + row * work.out_stride + lane;
  args.out_stride = work.out_stride;
  args.state = buffers.state ? buffers.state + row * work.lanes + lane : nullptr;
  args.state_stride = work.lanes;
  for (size_t i = 0; i < chunk.place.size(); ++i) {
    point(work, chunk, i, buffers, row, lane, args);
    work.kernels->block(args);
  }
}

}  // namespace

std::vector<Unit> units_of(int64_t samples, int64_t steps, int64_t longest) {
  std::vector<Unit> units;
  const int64_t several = steps <= short_steps ? std::max<int64_t>(1, longest / steps) : 1;
  const int64_t parts = (steps + longest - 1) / longest;
  for (int64_t b = 0; b < samples; b += several) {
    for (int64_t p = 0; p < parts; ++p) {
      const int64_t first = steps * p / parts, last = steps * (p + 1) / parts;
      units.push_back({b, std::min(several, samples - b), first, last - first, p == 0, p + 1 == parts});
    }
  }
  return units;
}

int64_t unit_steps(int64_t rows, int64_t lanes) {
  return std::clamp<int64_t>(unit_floats / (rows + lanes), short_steps, longest_unit);
}

void run(const Work& work) {
  if (work.rows == 0 || work.lanes == 0) return;
  const std::vector<Chunk> chunks = chunks_of(work);
  int64_t packed_size = 1, samples = 0;
  for (const Chunk& chunk : chunks) {
    packed_size = std::max(packed_size, chunk.floats);
    samples = std::max(samples, chunk.samples);
  }
  const bool whole = std::all_of(work.units.begin(), work.units.end(), [](const Unit& unit) { return unit.ends; });
  const Floats packed(packed_size), prepared(std::max<int64_t>(1, samples * work.prepared_floats));
  const Floats state(whole ? 1 : work.rows * work.lanes);
  const Buffers buffers = {packed.get(), prepared.get(), whole ? nullptr : state.get()};
  const Grid grid(work);
  for (const Chunk& chunk : chunks) {
    prepare(work, chunk, &chunk - 1, buffers);
    pack(work, chunk, buffers);
    parallel_for(grid.down * grid.across, work.threads,
                 [&](int64_t item, int) { multiply(work, grid, item, chunk, buffers); });
  }
}

}  // namespace pyfast::fisher

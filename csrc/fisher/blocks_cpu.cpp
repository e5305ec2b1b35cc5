#include <algorithm>
#include <memory>
#include <new>

#include "core/parallel.h"
#include "fisher/blocks.h"

namespace pyfast::fisher {
namespace {

constexpr int64_t packed_floats = int64_t{1} << 21;  // of all units packed at a time: 8 MiB
constexpr int64_t longest_unit = 256;

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

  Grid(const Work& work) : rows(8 * work.kernels->mr), lanes(8 * work.kernels->nr) {
    const int64_t wanted = work.threads > 1 ? 4 * work.threads : 1;
    cut(work);
    while (down * across < wanted && (rows > work.kernels->mr || lanes > work.kernels->nr)) {
      if (rows > work.kernels->mr && (rows >= lanes || lanes == work.kernels->nr))
        rows = panels(rows / work.kernels->mr, 2) * work.kernels->mr;
      else
        lanes = panels(lanes / work.kernels->nr, 2) * work.kernels->nr;
      cut(work);
    }
  }

 private:
  void cut(const Work& work) {
    down = panels(work.rows, rows);
    across = panels(work.lanes, lanes);
  }
};

struct Layout {
  int64_t g, a;  // floats of a packed unit's two sides

  Layout(const Work& work, int64_t steps)
      : g(panels(work.rows, work.kernels->mr) * work.kernels->mr * steps),
        a(panels(work.lanes, work.kernels->nr) * work.kernels->nr * steps) {}
  int64_t both() const { return (g + a + 15) / 16 * 16; }
};

void multiply(const Work& work, const Grid& grid, int64_t item, const Unit& unit, const float* packed, float* state) {
  const int64_t row = item % grid.down * grid.rows, lane = item / grid.down * grid.lanes;
  const int64_t steps = unit.samples * unit.steps;
  BlockArgs args;
  args.g = packed + row * steps;
  args.a = packed + Layout(work, steps).g + lane * steps;
  args.g_stride = work.kernels->mr * steps;
  args.a_stride = work.kernels->nr * steps;
  args.rows = std::min(grid.rows, work.rows - row);
  args.lanes = std::min(grid.lanes, work.lanes - lane);
  args.samples = unit.samples;
  args.steps = unit.steps;
  args.finish = unit.ends ? work.finish : Finish::keep;
  args.resume = !unit.begins;
  args.out = work.out + row * work.out_stride + lane;
  args.out_stride = work.out_stride;
  args.state = state ? state + row * work.lanes + lane : nullptr;
  args.state_stride = work.lanes;
  work.kernels->block(args);
}

}  // namespace

int64_t unit_steps(int64_t rows, int64_t lanes) {
  return std::clamp<int64_t>(packed_floats / (rows + lanes), 16, longest_unit);
}

void run(const Work& work) {
  if (work.units.empty() || work.rows == 0 || work.lanes == 0) return;
  int64_t most = 1;
  bool whole = true;
  for (const Unit& unit : work.units) {
    most = std::max(most, unit.samples * unit.steps);
    whole = whole && unit.ends;
  }
  const int64_t size = Layout(work, most).both(), count = static_cast<int64_t>(work.units.size());
  const int64_t chunk = std::min(count, std::max<int64_t>(1, packed_floats / size));
  const Floats packed(chunk * size);
  const Floats state(whole ? 1 : work.rows * work.lanes);
  const Grid grid(work);
  for (int64_t first = 0; first < count; first += chunk) {
    const int64_t units = std::min(chunk, count - first);
    parallel_for(2 * units, work.threads, [&](int64_t i, int) {
      const Unit& unit = work.units[static_cast<size_t>(first + i / 2)];
      float* to = packed.get() + i / 2 * size;
      if (i % 2)
        work.pack_g(unit, to);
      else
        work.pack_a(unit, to + Layout(work, unit.samples * unit.steps).g);
    });
    parallel_for(grid.down * grid.across, work.threads, [&](int64_t item, int) {
      for (int64_t u = 0; u < units; ++u)
        multiply(work, grid, item, work.units[static_cast<size_t>(first + u)], packed.get() + u * size,
                 whole ? nullptr : state.get());
    });
  }
}

}  // namespace pyfast::fisher

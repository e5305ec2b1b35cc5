#include "fisher/outer_square.h"

#include <algorithm>
#include <vector>

#include "fisher/blocks.h"

namespace pyfast::fisher {
namespace {

// One step per sample: a product of squares, in which the samples are the steps. Every unit ends, so that long sums
// are added in parts.
std::vector<Unit> product_units(int64_t samples, int64_t longest) {
  std::vector<Unit> units;
  for (int64_t b = 0; b < samples; b += longest) units.push_back({0, 1, b, std::min(longest, samples - b), true, true});
  return units;
}

void pack_unit(const Operand& x, const Unit& unit, int64_t width, Map map, const Kernels& kernels, float* dst) {
  const int64_t size = dtype_size(x.dtype);
  for (int64_t l = 0; l < x.lanes; l += width) {
    const int64_t lanes = std::min(width, x.lanes - l);
    for (int64_t n = 0; n < unit.samples; ++n, dst += unit.steps * width) {
      const int64_t offset =
          (unit.first_sample + n) * x.sample_stride + unit.first_step * x.step_stride + l * x.lane_stride;
      kernels.pack({x.data + offset * size, x.dtype, x.step_stride, x.lane_stride}, unit.steps, lanes, width, map, dst);
    }
  }
}

}  // namespace

void outer_square_cpu(const OuterSquareArgs& given) {
  OuterSquareArgs args = given;
  const int64_t O = args.g.lanes, I = args.a.lanes;
  if (args.samples == 0 || args.steps == 0 || O == 0 || I == 0) return;
  std::vector<float> rows;  // where the caller's lanes do not lie side by side
  if (args.out_lane_stride != 1) {
    rows.assign(static_cast<size_t>(O * I), 0.0f);
    args.out = rows.data();
    args.out_stride = I;
  }
  const int64_t longest = unit_steps(O, I);
  const Finish finish = args.absolute ? Finish::absolute : Finish::square;
  Work work;
  work.rows = O;
  work.lanes = I;
  work.finish = args.steps == 1 ? Finish::add : finish;
  work.units = args.steps == 1 ? product_units(args.samples, longest) : units_of(args.samples, args.steps, longest);
  Map map = Map::none;
  if (args.steps == 1) {
    map = args.absolute ? Map::absolute : Map::square;
    args.g.step_stride = args.g.sample_stride;
    args.a.step_stride = args.a.sample_stride;
  }
  const Kernels& kernels = *args.kernels;
  work.pack_g = [&](const Unit& unit, float* dst) { pack_unit(args.g, unit, kernels.mr, map, kernels, dst); };
  work.pack_a = [&](const Unit& unit, const float*, float* dst) {
    pack_unit(args.a, unit, kernels.nr, map, kernels, dst);
  };
  work.threads = args.threads;
  work.kernels = args.kernels;
  work.out = args.out;
  work.out_stride = args.out_stride;
  run(work);
  if (rows.empty()) return;
  for (int64_t o = 0; o < O; ++o)
    for (int64_t i = 0; i < I; ++i)
      given.out[o * given.out_stride + i * given.out_lane_stride] += rows[static_cast<size_t>(o * I + i)];
}

}  // namespace pyfast::fisher

#include "fisher/conv.h"

#include <algorithm>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "fisher/blocks.h"
#include "fisher/unfold.h"

namespace pyfast::fisher {
namespace {

void check(const ConvArgs& args) {
  require(args.groups >= 1 && args.x.channels % args.groups == 0 && args.g.channels % args.groups == 0,
          "groups: expected a divisor of the channels of x and of g");
  for (int d = 0; d < 3; ++d) {
    require(args.step[d] >= 1 && args.dilation[d] >= 1 && args.padding[d] >= 0 && args.kernel[d] >= 1,
            "convolution: expected stride and dilation of at least 1, padding of at least 0 and a kernel");
    const int64_t room = args.x.size[d] + 2 * args.padding[d] - args.dilation[d] * (args.kernel[d] - 1) - 1;
    const int64_t expected = room < 0 ? 0 : room / args.step[d] + 1;
    require(args.g.size[d] == expected, "g: expected " + std::to_string(expected) +
                                            " output positions of this convolution, got " +
                                            std::to_string(args.g.size[d]));
  }
}

// Where the kernel has one pixel, the input pixels that a stride skips are never read.
ConvArgs without_skipped_pixels(ConvArgs args) {
  for (int d = 0; d < 3; ++d) {
    if (args.kernel[d] != 1 || args.padding[d] != 0) continue;
    args.x.stride[d] *= args.step[d];
    args.x.size[d] = args.g.size[d];
    args.step[d] = 1;
  }
  return args;
}

// Packs the output gradients of `unit`, a run of pixels that may start and end within a line.
void pack_pixels(const ConvArgs& args, int64_t group, const Unit& unit, float* dst) {
  const Image& g = args.g;
  const int64_t rows = g.channels / args.groups, mr = args.kernels->mr, size = dtype_size(g.dtype);
  const bool even =
      g.stride[1] == g.stride[2] * g.size[2] && (g.size[0] == 1 || g.stride[0] == g.stride[1] * g.size[1]);
  const int64_t line = even ? g.size[0] * g.size[1] * g.size[2] : g.size[2];
  for (int64_t row = 0; row < rows; row += mr) {
    for (int64_t n = unit.first_sample; n < unit.first_sample + unit.samples; ++n) {
      for (int64_t s = unit.first_step, left = unit.steps; left > 0;) {
        const int64_t part = std::min(left, line - s % line), i = s / line / g.size[1], j = s / line % g.size[1];
        const int64_t at = n * g.sample_stride + (group * rows + row) * g.channel_stride +
                           (even ? 0 : i * g.stride[0] + j * g.stride[1]) + s % line * g.stride[2];
        args.kernels->pack({g.data + at * size, g.dtype, g.stride[2], g.channel_stride}, part, std::min(mr, rows - row),
                           mr, Map::none, dst);
        dst += part * mr;
        s += part;
        left -= part;
      }
    }
  }
}

std::vector<Piece> pieces_of(const Unfold& unfold, int64_t first_lane, int64_t lanes) {
  std::vector<Piece> pieces;
  for (int64_t l = first_lane; l < first_lane + lanes;) {
    const int64_t tap = l / unfold.channels, channel = l % unfold.channels;
    const int64_t from = unfold.offset[static_cast<size_t>(tap)] + channel;
    const int64_t count = std::min(unfold.channels - channel, first_lane + lanes - l);
    if (!pieces.empty() && pieces.back().from + pieces.back().count == from)
      pieces.back().count += count;
    else
      pieces.push_back({from, l - first_lane, count});
    l += count;
  }
  return pieces;
}

// Unfolds the pixels of a unit into panels [samples][steps][nr]; lanes are (tap, channel).
void unfold_panels(const Unfold& unfold, const Kernels& kernels, int64_t lanes, const Unit& unit, const float* prepared,
                   float* dst) {
  for (int64_t first = 0; first < lanes; first += kernels.nr) {
    const int64_t live = std::min<int64_t>(kernels.nr, lanes - first);
    const std::vector<Piece> pieces = pieces_of(unfold, first, live);
    for (int64_t n = 0; n < unit.samples; ++n, dst += unit.steps * kernels.nr)
      kernels.unfold(prepared + n * unfold.floats, unfold.steps.data() + unit.first_step, unit.steps, pieces.data(),
                     static_cast<int64_t>(pieces.size()), live, dst);
  }
}

// How the lanes of the accumulated rows are numbered: ((block · taps) + tap) · width + channel within the block.
struct Lanes {
  int64_t blocks, taps, width, channels;
  int64_t count() const { return blocks * taps * width; }
};

void add_rows(const ConvArgs& args, int64_t group, const Lanes& lanes, const std::vector<float>& rows) {
  const int64_t per_group = args.g.channels / args.groups;
  parallel_for(per_group, args.threads, [&](int64_t r, int) {
    const float* row = rows.data() + r * lanes.count();
    float* to = args.out + (group * per_group + r) * args.out_row;
    for (int64_t c = 0; c < lanes.channels; ++c) {
      const float* from = row + c / lanes.width * lanes.taps * lanes.width + c % lanes.width;
      for (int64_t i = 0; i < args.kernel[0]; ++i)
        for (int64_t j = 0; j < args.kernel[1]; ++j)
          for (int64_t k = 0; k < args.kernel[2]; ++k, from += lanes.width)
            to[c * args.out_channel + i * args.out_tap[0] + j * args.out_tap[1] + k * args.out_tap[2]] += *from;
    }
  });
}

void run_group(const ConvArgs& args, int64_t group, const Unfold& unfold, bool direct) {
  const Lanes lanes = {unfold.blocks, unfold.taps, unfold.width, unfold.channels};
  const int64_t pixels = static_cast<int64_t>(unfold.steps.size());
  std::vector<int64_t> panels;
  for (int64_t block = 0; direct && block < unfold.blocks; ++block)
    for (int64_t offset : unfold.offset) panels.push_back(block * unfold.pixels * unfold.width + offset);
  Work work;
  work.rows = args.g.channels / args.groups;
  work.lanes = lanes.count();
  work.finish = args.absolute ? Finish::absolute : Finish::square;
  work.units = units_of(args.samples, pixels, unit_steps(work.rows, direct ? 0 : work.lanes));
  work.threads = args.threads;
  work.kernels = args.kernels;
  work.pack_g = [&](const Unit& unit, float* dst) { pack_pixels(args, group, unit, dst); };
  work.prepare = [&](int64_t sample, float* dst) { unfold.prepare(args, sample, group, dst); };
  work.prepared_floats = unfold.floats;
  if (direct) {
    work.panel_offsets = panels.data();
    work.step_offsets = unfold.steps.data();
  } else {
    work.pack_a = [&](const Unit& unit, const float* prepared, float* dst) {
      unfold_panels(unfold, *args.kernels, work.lanes, unit, prepared, dst);
    };
  }
  std::vector<float> rows(static_cast<size_t>(work.rows * work.lanes));
  work.out = rows.data();
  work.out_stride = work.lanes;
  run(work);
  add_rows(args, group, lanes, rows);
}

}  // namespace

void conv_square_cpu(const ConvArgs& given) {
  check(given);
  const ConvArgs args = without_skipped_pixels(given);
  if (args.samples == 0 || args.g.channels == 0 || args.x.channels == 0) return;
  if (args.g.size[0] * args.g.size[1] * args.g.size[2] == 0) return;
  // With a tile's worth of channels the multiplication reads the sample itself; with fewer, unfolded rows.
  const int64_t channels = args.x.channels / args.groups, nr = args.kernels->nr;
  const bool direct = channels >= nr;
  const Unfold unfold(args, direct ? nr : channels);
  for (int64_t group = 0; group < args.groups; ++group) run_group(args, group, unfold, direct);
}

}  // namespace pyfast::fisher

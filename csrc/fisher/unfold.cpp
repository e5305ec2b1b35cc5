#include "fisher/unfold.h"

#include <algorithm>

namespace pyfast::fisher {

Unfold::Unfold(const ConvArgs& args, int64_t block_width)
    : channels(args.x.channels / args.groups), width(block_width), blocks((channels + width - 1) / width) {
  for (int d = 0; d < 3; ++d) padded[d] = args.x.size[d] + 2 * args.padding[d];
  pixels = padded[0] * padded[1] * padded[2];
  taps = args.kernel[0] * args.kernel[1] * args.kernel[2];
  floats = (blocks * pixels * width + 15) / 16 * 16;
  const auto place = [&](int64_t i, int64_t j, int64_t k, const int64_t* by) {
    return ((i * by[0] * padded[1] + j * by[1]) * padded[2] + k * by[2]) * width;
  };
  const auto all = [&](const int64_t* size, const int64_t* by, std::vector<int64_t>& places) {
    for (int64_t i = 0; i < size[0]; ++i)
      for (int64_t j = 0; j < size[1]; ++j)
        for (int64_t k = 0; k < size[2]; ++k) places.push_back(place(i, j, k, by));
  };
  all(args.g.size, args.step, steps);
  all(args.kernel, args.dilation, offset);
}

void Unfold::prepare(const ConvArgs& args, int64_t sample, int64_t group, float* dst) const {
  const Image& x = args.x;
  const int64_t size = dtype_size(x.dtype), line = padded[2] * width;
  const char* first = x.data + (sample * x.sample_stride + group * channels * x.channel_stride) * size;
  for (int64_t block = 0; block < blocks; ++block, dst += pixels * width) {
    const int64_t lanes = std::min(width, channels - block * width);
    for (int64_t i = 0; i < padded[0]; ++i) {
      for (int64_t j = 0; j < padded[1]; ++j) {
        float* to = dst + (i * padded[1] + j) * line;
        const int64_t p = i - args.padding[0], q = j - args.padding[1], side = args.padding[2] * width;
        if (p < 0 || p >= x.size[0] || q < 0 || q >= x.size[1]) {
          std::fill_n(to, line, 0.0f);
          continue;
        }
        std::fill_n(to, side, 0.0f);
        std::fill_n(to + line - side, side, 0.0f);
        const char* from = first + (block * width * x.channel_stride + p * x.stride[0] + q * x.stride[1]) * size;
        args.kernels->pack({from, x.dtype, x.stride[2], x.channel_stride}, x.size[2], lanes, width, Map::none,
                           to + side);
      }
    }
  }
}

}  // namespace pyfast::fisher

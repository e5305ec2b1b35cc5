// Where the input pixels of a convolution lie once a sample has its channels innermost and its padding written out.
#pragma once
#include <cstdint>
#include <vector>

#include "fisher/conv.h"

namespace pyfast::fisher {

// A sample of one group becomes [blocks][pixels][width] floats: `width` channels side by side, zeros past the last.
struct Unfold {
  int64_t channels;             // of the group
  int64_t width;                // channels of a block
  int64_t blocks;               // of channels
  int64_t padded[3];            // input sizes with padding
  int64_t pixels;               // their product
  int64_t taps;                 // kernel pixels
  int64_t floats;               // of a sample, with room to read whole vectors past the end
  std::vector<int64_t> steps;   // where output pixel s starts
  std::vector<int64_t> offset;  // how much further tap t of the kernel lies

  Unfold(const ConvArgs& args, int64_t width);

  // Writes sample n of a group.
  void prepare(const ConvArgs& args, int64_t sample, int64_t group, float* dst) const;
};

}  // namespace pyfast::fisher

// The table of hot loops of the Fisher family, once per instruction set. No standard-library types cross it, so that
// the linker can never share code compiled for one instruction set with another.
#pragma once
#include <cstdint>

#include "core/array.h"
#include "core/isa.h"

namespace pyfast::fisher {

// A matrix [steps, lanes] where it lies: f32, f16 or bf16, strides in elements.
struct Source {
  const char* data;
  DType dtype;
  int64_t step_stride, lane_stride;
};

enum class Map : int { none, square, absolute };  // applied to every packed value

// What one sample's tile sum[r][l] = Σ_step g[step][r] * a[step][l] does to the output.
enum class Finish : int {
  square,    // out += sum²
  absolute,  // out += |sum|
  add,       // out += sum
  keep       // nothing yet: the sample has more steps, sum goes to `state`
};

// A run of floats that lies side by side both in a sample and in an unfolded row.
struct Piece {
  int64_t from, lane, count;
};

// One block of the output against one unit of packed steps.
struct BlockArgs {
  const float* g;                // [⌈rows / mr⌉] panels [samples][steps][mr], g_stride floats apart
  const float* a;                // [⌈lanes / nr⌉] panels [samples][steps][nr]:
  int64_t a_sample;              //   floats from sample to sample
  int64_t a_stride;              //   panels are this far apart, or,
  const int64_t* panel_offsets;  //   where not null, panel p starts here
  const int64_t* step_offsets;   //   step s of a sample starts here; null: s * nr
  int64_t g_stride;
  int64_t rows, lanes;  // of this block; padding is never written
  int64_t samples;      // in the unit; more than one only where `finish` is square or absolute
  int64_t steps;        // of each sample
  Finish finish;
  bool resume;  // `state` is added to sum
  float* out;   // [rows, lanes], out_stride floats from row to row
  int64_t out_stride;
  float* state;  // like `out`, state_stride floats from row to row; null where never needed
  int64_t state_stride;
};

struct Quadratic {
  const char* theta;  // [count] f32, f16 or bf16
  DType dtype;
  const float* anchor;  // [count]
  const float* weight;  // [count]
  float* grad;          // [count] or null
  float scale;          // grad = scale * weight * (theta - anchor)
  int64_t count;
};

struct Kernels {
  const char* name;
  int mr, nr;  // rows and lanes of a tile

  // dst[s * width + l] = map(src[s, l]) as float for l < lanes, 0 for lanes <= l < width
  void (*pack)(const Source& src, int64_t steps, int64_t lanes, int64_t width, Map map, float* dst);

  // dst[s * nr + lane + i] = src[starts[s] + from + i] for every piece, 0 for live <= lane < nr
  void (*unfold)(const float* src, const int64_t* starts, int64_t steps, const Piece* pieces, int64_t count,
                 int64_t live, float* dst);

  void (*block)(const BlockArgs& args);

  // Σ weight * (theta - anchor)² in float64: lane i mod 8, then ((0+4)+(2+6)) + ((1+5)+(3+7)); writes grad
  double (*quadratic)(const Quadratic& args);
};

const Kernels& kernels_for(Isa isa);

namespace scalar {
const Kernels& table();
}
namespace avx2 {
const Kernels& table();
}
namespace avx512 {
const Kernels& table();
}

}  // namespace pyfast::fisher

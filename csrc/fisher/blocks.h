// The loop nest under every form of outer-product–square–accumulate: units of steps are packed, then every thread runs
// all of them over its own blocks of the output. The order in which an element is summed depends on the shapes alone.
#pragma once
#include <cstdint>
#include <functional>
#include <vector>

#include "fisher/kernels.h"

namespace pyfast::fisher {

// A run of steps that is packed and multiplied at once: several short samples, one sample, or a part of a long one.
struct Unit {
  int64_t first_sample;
  int64_t samples;
  int64_t first_step;
  int64_t steps;  // of each sample
  bool begins;    // holds the first step of its samples
  bool ends;      // holds the last one
};

// Units for `samples` of `steps` each, none longer than `longest` steps in total where that can be.
std::vector<Unit> units_of(int64_t samples, int64_t steps, int64_t longest);

struct Work {
  // inputs
  int64_t rows = 0, lanes = 0;  // of the output
  Finish finish = Finish::square;
  std::vector<Unit> units;
  int threads = 1;
  const Kernels* kernels = nullptr;

  // Packs all rows of g in panels of kernels->mr.
  std::function<void(const Unit& unit, float* dst)> pack_g;

  // Optional: brings one sample's a into a form that pack_a, or the multiplication itself, can read.
  std::function<void(int64_t sample, float* dst)> prepare;
  int64_t prepared_floats = 0;  // per sample

  // Either packs all lanes of a in panels of kernels->nr; `prepared` is that of the unit's first sample …
  std::function<void(const Unit& unit, const float* prepared, float* dst)> pack_a;
  // … or tells where the prepared sample has them: panel p, step s start at panel_offsets[p] + step_offsets[s].
  const int64_t* panel_offsets = nullptr;
  const int64_t* step_offsets = nullptr;

  // outputs
  float* out = nullptr;  // [rows, lanes], accumulated into
  int64_t out_stride = 0;
};

// Steps of a unit at most, for which a panel of each side stays in the first-level cache.
int64_t unit_steps(int64_t rows, int64_t lanes);

void run(const Work& work);

}  // namespace pyfast::fisher

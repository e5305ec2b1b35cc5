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

struct Work {
  // inputs
  int64_t rows = 0, lanes = 0;  // O and I
  Finish finish = Finish::square;
  std::vector<Unit> units;
  // Packs all panels of one side of a unit: rows of g in panels of kernels->mr, or lanes of a in panels of kernels->nr.
  std::function<void(const Unit& unit, float* dst)> pack_g, pack_a;
  int threads = 1;
  const Kernels* kernels = nullptr;

  // outputs
  float* out = nullptr;  // [rows, lanes], accumulated into
  int64_t out_stride = 0;
};

// Steps of a unit at most, for which a panel of each side stays in the first-level cache.
int64_t unit_steps(int64_t rows, int64_t lanes);

void run(const Work& work);

}  // namespace pyfast::fisher

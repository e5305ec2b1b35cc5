// Σ weight (theta - anchor)² and its gradient in one pass over lists of buffers.
#pragma once
#include <vector>

#include "fisher/kernels.h"

namespace pyfast::fisher {

// Summed in float64 in an order that depends on the sizes alone; every instruction set gives the same bits.
double quadratic_cpu(const std::vector<Quadratic>& buffers, int threads, const Kernels& kernels);

}  // namespace pyfast::fisher

// The rows of a batch that a full reservoir cannot refuse, on the GPU: late in a stream, almost none.
#pragma once
#include <cstdint>

namespace pyfast::sampling {

struct AcceptArgs {
  // inputs, device memory
  const int64_t* index = nullptr;      // [n] ids
  const int64_t* threshold = nullptr;  // [1] the smallest key held
  int64_t n = 0;
  uint64_t seed = 0;
  int device = 0;
  // workspace
  int64_t* starts = nullptr;  // [⌈n / 1024⌉]
  // outputs
  int64_t* keys = nullptr;   // [n] of all ids
  int64_t* rows = nullptr;   // [n] rows with key >= threshold, ascending; what follows them is not written
  int64_t* count = nullptr;  // [1] how many
};
constexpr int64_t accept_block = 1024;

// Enqueues on `stream` (a cudaStream_t) and returns at once; Error where CUDA refuses the launch.
void reservoir_accept_cuda(const AcceptArgs& args, void* stream);

}  // namespace pyfast::sampling

// A parallel loop on the package's own threads. torch's and OpenMP's thread settings are neither read nor changed.
#pragma once
#include <cstdint>
#include <functional>

namespace pyfast {

// Runs body(i, worker) once for every i in [0, n); items are handed out dynamically, worker is in [0, threads).
// The first exception thrown by a body is rethrown here after all workers have stopped.
// Nested or concurrent calls are legal; a call that finds the pool busy runs on its own thread.
void parallel_for(int64_t n, int threads, const std::function<void(int64_t, int)>& body);

}  // namespace pyfast

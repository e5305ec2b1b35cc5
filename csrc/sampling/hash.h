// Random numbers that depend on (seed, number) alone: splitmix64 (Steele, Lea and Flood, OOPSLA 2014) as a hash.
// `static`, so that every translation unit keeps its own copy.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define PYFAST_SAMPLING_BOTH __host__ __device__
#else
#define PYFAST_SAMPLING_BOTH
#endif

namespace pyfast::sampling {

constexpr uint64_t gamma64 = 0x9E3779B97F4A7C15u;

PYFAST_SAMPLING_BOTH static inline uint64_t finish64(uint64_t word) {
  word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9u;
  word = (word ^ (word >> 27)) * 0x94D049BB133111EBu;
  return word ^ (word >> 31);
}

PYFAST_SAMPLING_BOTH static inline uint64_t mix64(uint64_t word) { return finish64(word + gamma64); }

// A seed for one place under `seed`, such as a step.
PYFAST_SAMPLING_BOTH static inline uint64_t fold_seed(uint64_t seed, uint64_t step) {
  return mix64(mix64(seed) ^ step) >> 1;
}

// The keys of one seed; they are distinct for distinct numbers.
struct Hash {
  uint64_t state;
  PYFAST_SAMPLING_BOTH explicit Hash(uint64_t seed) : state(mix64(seed)) {}
  PYFAST_SAMPLING_BOTH uint64_t key(uint64_t number) const { return finish64(number * gamma64 + state); }
};

// [0, 1), multiples of 2^-53.
PYFAST_SAMPLING_BOTH static inline double hash_uniform(uint64_t key) {
  return static_cast<double>(static_cast<int64_t>(key >> 11)) * 0x1p-53;
}

// (0, 1), for logarithms. 52 bits: with 53 the half step would round the largest value up to 1.
PYFAST_SAMPLING_BOTH static inline double hash_open(uint64_t key) {
  return (static_cast<double>(static_cast<int64_t>(key >> 12)) + 0.5) * 0x1p-52;
}

}  // namespace pyfast::sampling

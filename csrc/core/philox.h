// Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror and Shaw, SC 2011, "Parallel random numbers: as
// easy as 1, 2, 3"). Word i of a stream is a pure function of (seed, stream, i): any thread may compute any part.
#pragma once
#include <cstdint>

#if defined(__CUDACC__)
#define PYFAST_HOST_DEVICE __host__ __device__
#else
#define PYFAST_HOST_DEVICE
#endif

namespace pyfast {

struct PhiloxBlock {
  uint32_t word[4];
};

// Ten rounds of the bijection that `key` (two words) makes of 128-bit counters.
PYFAST_HOST_DEVICE inline PhiloxBlock philox4x32_10(PhiloxBlock counter, uint32_t key0, uint32_t key1) {
  uint32_t* c = counter.word;
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57u} * c[2];
    c[0] = static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ key0;
    c[1] = static_cast<uint32_t>(p1);
    c[2] = static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ key1;
    c[3] = static_cast<uint32_t>(p0);
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

// Uniform in [0, 1): every multiple of 2^-24, each exactly representable.
PYFAST_HOST_DEVICE inline float uniform_float(uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }

// Uniform in [0, 1): every multiple of 2^-53, each exactly representable.
PYFAST_HOST_DEVICE inline double uniform_double(uint64_t word) { return static_cast<double>(word >> 11) * 0x1p-53; }

// Uniform in (0, 1), safe for log(u) and log1p(-u). One bit less than uniform_double: with 53 bits the half step
// would round the largest value up to 1.
PYFAST_HOST_DEVICE inline double uniform_open(uint64_t word) {
  return (static_cast<double>(word >> 12) + 0.5) * 0x1p-52;
}

// A position in one of 2^64 streams of a seed; each stream has 2^66 words. Copying it copies the position.
class Philox {
 public:
  PYFAST_HOST_DEVICE explicit Philox(uint64_t seed, uint64_t stream = 0) : seed_(seed), stream_(stream) {}

  // Words 4 * number … 4 * number + 3.
  PYFAST_HOST_DEVICE PhiloxBlock block(uint64_t number) const {
    const PhiloxBlock counter = {{low(number), high(number), low(stream_), high(stream_)}};
    return philox4x32_10(counter, low(seed_), high(seed_));
  }

  PYFAST_HOST_DEVICE uint32_t next() {
    if (used_ == 4) {
      block_ += 1;
      used_ = 0;
      fresh_ = false;
    }
    if (!fresh_) {
      words_ = block(block_);
      fresh_ = true;
    }
    return words_.word[used_++];
  }

  PYFAST_HOST_DEVICE uint64_t next64() {
    const uint64_t first = next();
    return uint64_t{next()} << 32 | first;
  }

  // Moves on by `words` 32-bit words without computing them.
  PYFAST_HOST_DEVICE void skip(uint64_t words) {
    const uint64_t place = used_ + words % 4;
    block_ += words / 4 + place / 4;
    used_ = static_cast<uint32_t>(place % 4);
    fresh_ = false;
  }

 private:
  PYFAST_HOST_DEVICE static uint32_t low(uint64_t x) { return static_cast<uint32_t>(x); }
  PYFAST_HOST_DEVICE static uint32_t high(uint64_t x) { return static_cast<uint32_t>(x >> 32); }

  uint64_t seed_, stream_;
  uint64_t block_ = 0;
  uint32_t used_ = 0;
  bool fresh_ = false;
  PhiloxBlock words_ = {};
};

}  // namespace pyfast

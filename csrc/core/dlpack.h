// The DLPack 0.x C structures: the stable memory layout that every array library exports.
#pragma once
#include <cstdint>

namespace pyfast::dlpack {

struct Device {
  int32_t type;  // 1 = CPU, 2 = CUDA, 3 = CUDA pinned host memory
  int32_t id;
};

struct DataType {
  uint8_t code;  // 0 int, 1 unsigned, 2 float, 4 bfloat, 6 bool
  uint8_t bits;
  uint16_t lanes;
};

struct Tensor {
  void* data;
  Device device;
  int32_t ndim;
  DataType dtype;
  int64_t* shape;
  int64_t* strides;  // in elements; null means row-major contiguous
  uint64_t byte_offset;
};

struct ManagedTensor {
  Tensor tensor;
  void* manager_ctx;
  void (*deleter)(ManagedTensor*);
};

}  // namespace pyfast::dlpack

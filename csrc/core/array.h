// Checked views of arrays that arrive over DLPack. A view borrows: it never owns or frees memory.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <string>

#include "core/dlpack.h"

namespace pyfast {

enum class DType : int32_t { f32, f16, bf16, f64, i32, i64, u8, other };

const char* dtype_name(DType dtype);
int64_t dtype_size(DType dtype);

struct Array {
  static constexpr int max_dims = 5;

  std::string name;      // the argument's name, for messages
  char* data = nullptr;  // first element
  DType dtype = DType::other;
  int device_type = 1;  // DLPack code: 1 is CPU
  int device_id = 0;
  int ndim = 0;
  int64_t shape[max_dims] = {};
  int64_t strides[max_dims] = {};  // in elements

  // Reads a DLPack tensor. Throws Error naming the argument on more than five dimensions or a vector dtype.
  static Array from_dlpack(const dlpack::Tensor& tensor, const std::string& name);

  // Each check throws Error "<name>: expected …, got …" and returns *this, so that checks chain.
  const Array& on_cpu() const;
  const Array& on_cuda() const;
  const Array& is(std::initializer_list<DType> allowed) const;
  const Array& has_shape(std::initializer_list<int64_t> expected) const;  // -1 accepts any size
  const Array& contiguous() const;

  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data);
  }
};

}  // namespace pyfast

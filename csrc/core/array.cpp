#include "core/array.h"

#include "core/error.h"

namespace pyfast {
namespace {

DType read_dtype(const dlpack::DataType& t) {
  if (t.lanes != 1) return DType::other;
  if (t.code == 2 && t.bits == 32) return DType::f32;
  if (t.code == 2 && t.bits == 16) return DType::f16;
  if (t.code == 2 && t.bits == 64) return DType::f64;
  if (t.code == 4 && t.bits == 16) return DType::bf16;
  if (t.code == 0 && t.bits == 32) return DType::i32;
  if (t.code == 0 && t.bits == 64) return DType::i64;
  if (t.code == 1 && t.bits == 8) return DType::u8;
  return DType::other;
}

std::string describe(const int64_t* shape, int ndim) {
  std::string text = "[";
  for (int i = 0; i < ndim; ++i) {
    if (i) text += ", ";
    text += shape[i] < 0 ? std::string("any") : std::to_string(shape[i]);
  }
  return text + "]";
}

}  // namespace

const char* dtype_name(DType dtype) {
  switch (dtype) {
    case DType::f32: return "float32";
    case DType::f16: return "float16";
    case DType::bf16: return "bfloat16";
    case DType::f64: return "float64";
    case DType::i32: return "int32";
    case DType::i64: return "int64";
    case DType::u8: return "uint8";
    default: return "an unsupported dtype";
  }
}

int64_t dtype_size(DType dtype) {
  switch (dtype) {
    case DType::f32:
    case DType::i32: return 4;
    case DType::f16:
    case DType::bf16: return 2;
    case DType::f64:
    case DType::i64: return 8;
    default: return 1;
  }
}

Array Array::from_dlpack(const dlpack::Tensor& tensor, const std::string& name) {
  require(tensor.ndim >= 0 && tensor.ndim <= max_dims,
          name + ": expected at most 5 dimensions, got " + std::to_string(tensor.ndim));
  Array a;
  a.name = name;
  a.data = static_cast<char*>(tensor.data) + tensor.byte_offset;
  a.dtype = read_dtype(tensor.dtype);
  a.device_type = tensor.device.type;
  a.device_id = tensor.device.id;
  a.ndim = tensor.ndim;
  int64_t packed = 1;
  for (int i = tensor.ndim - 1; i >= 0; --i) {
    a.shape[i] = tensor.shape[i];
    a.strides[i] = tensor.strides ? tensor.strides[i] : packed;
    packed *= tensor.shape[i];
  }
  return a;
}

const Array& Array::on_cpu() const {
  require(device_type == 1 || device_type == 3, name + ": expected an array in CPU memory, got device type " +
                                                    std::to_string(device_type) + "; call .cpu() on it");
  return *this;
}

const Array& Array::on_cuda() const {
  require(device_type == 2,
          name + ": expected an array on a CUDA device, got device type " + std::to_string(device_type));
  return *this;
}

const Array& Array::is(std::initializer_list<DType> allowed) const {
  std::string names;
  for (DType d : allowed) {
    if (d == dtype) return *this;
    names += (names.empty() ? "" : " or ") + std::string(dtype_name(d));
  }
  throw Error(name + ": expected " + names + ", got " + dtype_name(dtype));
}

const Array& Array::has_shape(std::initializer_list<int64_t> expected) const {
  bool same = static_cast<int>(expected.size()) == ndim;
  int i = 0;
  for (int64_t size : expected) {
    if (!same) break;
    same = size < 0 || size == shape[i];
    ++i;
  }
  require(same, name + ": expected shape " + describe(expected.begin(), static_cast<int>(expected.size())) + ", got " +
                    describe(shape, ndim));
  return *this;
}

const Array& Array::contiguous() const {
  for (int i = 0; i < ndim; ++i)
    if (shape[i] == 0) return *this;  // no element, so no stride is ever used
  int64_t packed = 1;
  for (int i = ndim - 1; i >= 0; --i) {
    require(shape[i] <= 1 || strides[i] == packed, name + ": expected a contiguous array; call .contiguous() on it");
    packed *= shape[i];
  }
  return *this;
}

}  // namespace pyfast

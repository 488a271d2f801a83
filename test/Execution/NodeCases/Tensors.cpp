//===- Tensors.cpp - the tensors of ONNX's node tests ---------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Tensors.h"
#include "zopt/Runtime/Core/DataType.h"
#include <algorithm>
#include <cmath>
#include <cstring>
#include <sstream>

using namespace zopt::runtime;

namespace zopt::test {

std::optional<DataType> dataTypeOf(int32_t onnxType) {
  switch (onnxType) {
  case onnx::TensorProto::FLOAT:
    return DataType::F32;
  case onnx::TensorProto::DOUBLE:
    return DataType::F64;
  case onnx::TensorProto::FLOAT16:
    return DataType::F16;
  case onnx::TensorProto::BFLOAT16:
    return DataType::BF16;
  case onnx::TensorProto::INT64:
    return DataType::I64;
  case onnx::TensorProto::INT32:
    return DataType::I32;
  case onnx::TensorProto::INT16:
    return DataType::I16;
  case onnx::TensorProto::INT8:
    return DataType::I8;
  case onnx::TensorProto::UINT64:
    return DataType::U64;
  case onnx::TensorProto::UINT32:
    return DataType::U32;
  case onnx::TensorProto::UINT16:
    return DataType::U16;
  case onnx::TensorProto::UINT8:
    return DataType::U8;
  case onnx::TensorProto::BOOL:
    return DataType::Bool;
  default:
    return std::nullopt;
  }
}

template <typename T, typename Field>
static bool take(const Field &field, int64_t count, std::vector<char> &bytes) {
  if (field.size() < count)
    return false;
  for (int64_t i = 0; i < count; ++i) {
    const T value = static_cast<T>(field.Get(static_cast<int>(i)));
    std::memcpy(bytes.data() + i * sizeof(T), &value, sizeof(T));
  }
  return true;
}

std::optional<HostTensor> readTensor(const onnx::TensorProto &proto) {
  std::optional<DataType> type = dataTypeOf(proto.data_type());
  if (!type)
    return std::nullopt;
  HostTensor tensor;
  tensor.type = *type;
  tensor.shape.assign(proto.dims().begin(), proto.dims().end());
  const int64_t count = elementCount(tensor.shape);
  tensor.bytes.resize(size_t(count * sizeOf(*type)));
  bool filled = true;
  if (proto.has_raw_data()) {
    filled = proto.raw_data().size() >= tensor.bytes.size();
    if (filled)
      std::copy_n(proto.raw_data().begin(), tensor.bytes.size(), reinterpret_cast<char *>(tensor.bytes.data()));
  } else {
    switch (*type) {
    case DataType::F32:
      filled = take<float>(proto.float_data(), count, tensor.bytes);
      break;
    case DataType::F64:
      filled = take<double>(proto.double_data(), count, tensor.bytes);
      break;
    case DataType::I64:
      filled = take<int64_t>(proto.int64_data(), count, tensor.bytes);
      break;
    case DataType::U64:
      filled = take<uint64_t>(proto.uint64_data(), count, tensor.bytes);
      break;
    case DataType::U32:
      filled = take<uint32_t>(proto.uint64_data(), count, tensor.bytes);
      break;
    default: // in int32_data, halves as their bits
      filled = sizeOf(*type) == 4 ? take<int32_t>(proto.int32_data(), count, tensor.bytes) : sizeOf(*type) == 2 ? take<uint16_t>(proto.int32_data(), count, tensor.bytes) : take<uint8_t>(proto.int32_data(), count, tensor.bytes);
    }
  }
  return filled ? std::optional(std::move(tensor)) : std::nullopt;
}

std::string compare(const HostTensor &actual, const HostTensor &expected, const Tolerance &tolerance) {
  std::ostringstream text;
  if (actual.type != expected.type) {
    text << "has type " << nameOf(actual.type) << ", expected " << nameOf(expected.type);
    return text.str();
  }
  if (actual.shape != expected.shape) {
    text << "has shape " << shapeText(actual.shape) << ", expected " << shapeText(expected.shape);
    return text.str();
  }
  const int64_t count = elementCount(expected.shape);
  int64_t wrong = 0;
  for (int64_t i = 0; i < count; ++i) {
    bool equal;
    if (isFloat(expected.type)) {
      const double a = loadAsDouble(actual.type, actual.bytes.data(), i), e = loadAsDouble(expected.type, expected.bytes.data(), i);
      equal = (std::isnan(a) && std::isnan(e)) || a == e || std::fabs(a - e) <= tolerance.absolute + tolerance.relative * std::fabs(e);
      if (!equal && wrong++ == 0)
        text << "element " << i << " is " << a << ", expected " << e;
    } else {
      const int64_t size = sizeOf(expected.type);
      equal = std::memcmp(actual.bytes.data() + i * size, expected.bytes.data() + i * size, size_t(size)) == 0;
      if (!equal && wrong++ == 0)
        text << "element " << i << " is " << loadAsInteger(actual.type, actual.bytes.data(), i) << ", expected " << loadAsInteger(expected.type, expected.bytes.data(), i);
    }
  }
  if (wrong)
    text << " (" << wrong << " of " << count << " differ)";
  return text.str();
}

} // namespace zopt::test

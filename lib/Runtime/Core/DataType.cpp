//===- DataType.cpp - element types and their conversion ------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Core/DataType.h"
#include <cmath>

namespace zopt::runtime {

int64_t sizeOf(DataType type) {
  switch (type) {
  case DataType::F64:
  case DataType::I64:
  case DataType::U64:
    return 8;
  case DataType::F32:
  case DataType::I32:
  case DataType::U32:
    return 4;
  case DataType::BF16:
  case DataType::F16:
  case DataType::I16:
  case DataType::U16:
    return 2;
  case DataType::I8:
  case DataType::U8:
  case DataType::Bool:
    return 1;
  }
  return 0;
}

bool isFloat(DataType type) {
  return type == DataType::F32 || type == DataType::BF16 || type == DataType::F16 || type == DataType::F64;
}

namespace {
struct TypeName {
  DataType type;
  const char *name;
};
constexpr TypeName kTypeNames[] = {{DataType::F32, "f32"}, {DataType::BF16, "bf16"}, {DataType::F16, "f16"}, {DataType::F64, "f64"}, {DataType::I64, "i64"}, {DataType::I32, "i32"}, {DataType::I16, "i16"}, {DataType::U16, "u16"}, {DataType::I8, "i8"}, {DataType::U8, "u8"}, {DataType::Bool, "i1"}, {DataType::U64, "u64"}, {DataType::U32, "u32"}};
} // namespace

const char *nameOf(DataType type) {
  for (const TypeName &entry : kTypeNames)
    if (entry.type == type)
      return entry.name;
  return "?";
}

bool parseDataType(const std::string &name, DataType &type) {
  for (const TypeName &entry : kTypeNames)
    if (name == entry.name) {
      type = entry.type;
      return true;
    }
  return false;
}

float halfToFloat(uint16_t bits) {
  uint32_t sign = uint32_t(bits & 0x8000) << 16;
  uint32_t exponent = (bits >> 10) & 0x1f, mantissa = bits & 0x3ff;
  if (exponent == 0) {
    float value = std::ldexp(float(mantissa), -24);
    return sign ? -value : value;
  }
  uint32_t wide = sign | (exponent == 31 ? 0x7f800000 : (exponent + 112) << 23) | mantissa << 13;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

uint16_t floatToHalf(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  uint16_t sign = uint16_t((bits >> 16) & 0x8000);
  uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000)
    return sign | 0x7e00;
  if (magnitude >= 0x477ff000) // rounds to 65536 or more
    return sign | 0x7c00;
  if (magnitude < 0x38800000) { // subnormal: a multiple of 2^-24, rounded by the addition's own rounding
    float absolute;
    std::memcpy(&absolute, &magnitude, sizeof absolute);
    return sign | uint16_t(std::nearbyint(std::ldexp(absolute, 24)));
  }
  return sign | uint16_t((magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13);
}

namespace {

template <typename T>
T loadRaw(const void *data, int64_t index) {
  T value;
  std::memcpy(&value, static_cast<const char *>(data) + index * int64_t(sizeof(T)), sizeof(T));
  return value;
}
template <typename T>
void storeRaw(void *data, int64_t index, T value) {
  std::memcpy(static_cast<char *>(data) + index * int64_t(sizeof(T)), &value, sizeof(T));
}

} // namespace

int64_t loadAsInteger(DataType type, const void *data, int64_t index) {
  switch (type) {
  case DataType::I64:
    return loadRaw<int64_t>(data, index);
  case DataType::I32:
    return loadRaw<int32_t>(data, index);
  case DataType::I16:
    return loadRaw<int16_t>(data, index);
  case DataType::U16:
    return loadRaw<uint16_t>(data, index);
  case DataType::I8:
    return loadRaw<int8_t>(data, index);
  case DataType::U8:
    return loadRaw<uint8_t>(data, index);
  case DataType::U64: // its bits
    return loadRaw<int64_t>(data, index);
  case DataType::U32:
    return loadRaw<uint32_t>(data, index);
  case DataType::Bool:
    return loadRaw<uint8_t>(data, index) != 0;
  default:
    return int64_t(loadAsDouble(type, data, index));
  }
}

double loadAsDouble(DataType type, const void *data, int64_t index) {
  switch (type) {
  case DataType::F64:
    return loadRaw<double>(data, index);
  case DataType::F32:
    return loadRaw<float>(data, index);
  case DataType::BF16:
    return bfloat16ToFloat(loadRaw<uint16_t>(data, index));
  case DataType::F16:
    return halfToFloat(loadRaw<uint16_t>(data, index));
  case DataType::U64:
    return double(loadRaw<uint64_t>(data, index));
  default:
    return double(loadAsInteger(type, data, index));
  }
}

void storeDouble(DataType type, void *data, int64_t index, double value) {
  switch (type) {
  case DataType::F64:
    return storeRaw<double>(data, index, value);
  case DataType::F32:
    return storeRaw<float>(data, index, float(value));
  case DataType::BF16:
    return storeRaw<uint16_t>(data, index, floatToBfloat16(float(value)));
  case DataType::F16:
    return storeRaw<uint16_t>(data, index, floatToHalf(float(value)));
  case DataType::U64:
    return storeRaw<uint64_t>(data, index, value < 0 ? uint64_t(int64_t(value)) : uint64_t(value));
  default:
    return storeInteger(type, data, index, int64_t(value));
  }
}

void storeInteger(DataType type, void *data, int64_t index, int64_t value) {
  switch (type) {
  case DataType::I64:
    return storeRaw<int64_t>(data, index, value);
  case DataType::I32:
    return storeRaw<int32_t>(data, index, int32_t(value));
  case DataType::I16:
    return storeRaw<int16_t>(data, index, int16_t(value));
  case DataType::U16:
    return storeRaw<uint16_t>(data, index, uint16_t(value));
  case DataType::I8:
    return storeRaw<int8_t>(data, index, int8_t(value));
  case DataType::U8:
    return storeRaw<uint8_t>(data, index, uint8_t(value));
  case DataType::U64:
    return storeRaw<uint64_t>(data, index, uint64_t(value));
  case DataType::U32:
    return storeRaw<uint32_t>(data, index, uint32_t(value));
  case DataType::Bool:
    return storeRaw<uint8_t>(data, index, value != 0);
  default:
    return storeDouble(type, data, index, double(value));
  }
}

namespace {

/// Calls `action` with a function that turns element `index` of an array of `type` into a number.
template <typename Action>
void withLoad(DataType type, const void *data, Action action) {
  switch (type) {
  case DataType::F64:
    return action([data](int64_t i) { return loadRaw<double>(data, i); });
  case DataType::F32:
    return action([data](int64_t i) { return loadRaw<float>(data, i); });
  case DataType::BF16:
    return action([data](int64_t i) { return bfloat16ToFloat(loadRaw<uint16_t>(data, i)); });
  case DataType::F16:
    return action([data](int64_t i) { return halfToFloat(loadRaw<uint16_t>(data, i)); });
  case DataType::I64:
    return action([data](int64_t i) { return loadRaw<int64_t>(data, i); });
  case DataType::I32:
    return action([data](int64_t i) { return loadRaw<int32_t>(data, i); });
  case DataType::I16:
    return action([data](int64_t i) { return loadRaw<int16_t>(data, i); });
  case DataType::U16:
    return action([data](int64_t i) { return loadRaw<uint16_t>(data, i); });
  case DataType::I8:
    return action([data](int64_t i) { return loadRaw<int8_t>(data, i); });
  case DataType::U8:
    return action([data](int64_t i) { return loadRaw<uint8_t>(data, i); });
  case DataType::U64:
    return action([data](int64_t i) { return loadRaw<uint64_t>(data, i); });
  case DataType::U32:
    return action([data](int64_t i) { return loadRaw<uint32_t>(data, i); });
  case DataType::Bool:
    return action([data](int64_t i) { return loadRaw<uint8_t>(data, i) != 0; });
  }
}

template <typename Wide>
void loadAll(DataType type, const void *data, Wide *wide, int64_t count) {
  withLoad(type, data, [=](auto load) {
    for (int64_t i = 0; i < count; ++i)
      wide[i] = Wide(load(i));
  });
}

/// As storeDouble and storeInteger do it, element by element.
template <typename Wide>
void storeAll(DataType type, void *data, const Wide *wide, int64_t count) {
  auto store = [=](auto convert) {
    for (int64_t i = 0; i < count; ++i)
      storeRaw(data, i, convert(wide[i]));
  };
  switch (type) {
  case DataType::F64:
    return store([](Wide value) { return double(value); });
  case DataType::F32:
    return store([](Wide value) { return float(value); });
  case DataType::BF16:
    return store([](Wide value) { return floatToBfloat16(float(value)); });
  case DataType::F16:
    return store([](Wide value) { return floatToHalf(float(value)); });
  case DataType::I64:
    return store([](Wide value) { return int64_t(value); });
  case DataType::I32:
    return store([](Wide value) { return int32_t(int64_t(value)); });
  case DataType::I16:
    return store([](Wide value) { return int16_t(int64_t(value)); });
  case DataType::U16:
    return store([](Wide value) { return uint16_t(int64_t(value)); });
  case DataType::I8:
    return store([](Wide value) { return int8_t(int64_t(value)); });
  case DataType::U8:
    return store([](Wide value) { return uint8_t(int64_t(value)); });
  case DataType::U64:
    return store([](Wide value) { return value < 0 ? uint64_t(int64_t(value)) : uint64_t(value); });
  case DataType::U32:
    return store([](Wide value) { return uint32_t(int64_t(value)); });
  case DataType::Bool:
    return store([](Wide value) { return uint8_t(int64_t(value) != 0); });
  }
}

} // namespace

void convertElements(DataType sourceType, const void *source, DataType destinationType, void *destination, int64_t count) {
  if (sourceType == destinationType) {
    std::memcpy(destination, source, size_t(count * sizeOf(sourceType)));
    return;
  }
  if (sourceType == DataType::F32 && destinationType == DataType::BF16) {
    const float *from = static_cast<const float *>(source);
    uint16_t *to = static_cast<uint16_t *>(destination);
    for (int64_t i = 0; i < count; ++i)
      to[i] = floatToBfloat16(from[i]);
    return;
  }
  if (sourceType == DataType::BF16 && destinationType == DataType::F32) {
    const uint16_t *from = static_cast<const uint16_t *>(source);
    float *to = static_cast<float *>(destination);
    for (int64_t i = 0; i < count; ++i)
      to[i] = bfloat16ToFloat(from[i]);
    return;
  }
  // Any other pair goes through a wide type, a chunk at a time: one loop a type instead of one a pair, and no branch in it.
  constexpr int64_t chunk = 512;
  const char *from = static_cast<const char *>(source);
  char *to = static_cast<char *>(destination);
  const bool integers = !isFloat(sourceType) && !isFloat(destinationType);
  for (int64_t done = 0; done < count; done += chunk) {
    const int64_t part = count - done < chunk ? count - done : chunk;
    const char *partFrom = from + done * sizeOf(sourceType);
    char *partTo = to + done * sizeOf(destinationType);
    if (integers) {
      int64_t wide[chunk];
      loadAll(sourceType, partFrom, wide, part);
      storeAll(destinationType, partTo, wide, part);
    } else {
      double wide[chunk];
      loadAll(sourceType, partFrom, wide, part);
      storeAll(destinationType, partTo, wide, part);
    }
  }
}

int64_t elementCount(const std::vector<int64_t> &shape) {
  int64_t count = 1;
  for (int64_t size : shape)
    count *= size;
  return count;
}

std::string shapeText(const std::vector<int64_t> &shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i)
    text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

bool liesChannelsLast(const std::vector<int64_t> &shape, const std::vector<int64_t> &strides) {
  int64_t stride = 1;
  const size_t rank = shape.size();
  for (size_t i = 0; i < rank; ++i) {
    const size_t axis = i == 0 ? 1 : i + 1 == rank ? 0 : rank - i;
    if (strides[axis] != stride)
      return false;
    stride *= shape[axis];
  }
  return true;
}

} // namespace zopt::runtime

//===- DataType.h - element types and their conversion ----------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Names, sizes and conversions of element types. Conversions to narrower floats round to nearest even; NaN stays NaN.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_RUNTIME_CORE_DATATYPE_H
#define ZOPT_RUNTIME_CORE_DATATYPE_H

#include "zopt/Runtime/Core/Program.h"
#include <cstdint>
#include <cstring>
#include <string>

namespace zopt::runtime {

inline float bfloat16ToFloat(uint16_t bits) {
  uint32_t wide = uint32_t(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

/// Without branches, so that loops over it vectorize.
inline uint16_t floatToBfloat16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  uint32_t quietNan = (bits >> 16) | 0x40;
  return uint16_t((bits & 0x7fffffff) > 0x7f800000 ? quietNan : rounded);
}

float halfToFloat(uint16_t bits);
uint16_t floatToHalf(float value);

bool isFloat(DataType type);
/// "f32", "bf16", ... as MLIR spells them; i8 and u8 alike by their own names.
const char *nameOf(DataType type);
/// The inverse of nameOf; false where there is no such type.
bool parseDataType(const std::string &name, DataType &type);

/// Element `index` of an array.
double loadAsDouble(DataType type, const void *data, int64_t index);
/// For the integer types only.
int64_t loadAsInteger(DataType type, const void *data, int64_t index);
void storeDouble(DataType type, void *data, int64_t index, double value);
void storeInteger(DataType type, void *data, int64_t index, int64_t value);

/// Converts `count` elements. `source` and `destination` do not overlap. Integers convert to integers exactly where they fit.
void convertElements(DataType sourceType, const void *source, DataType destinationType, void *destination, int64_t count);

/// Product of the sizes; 1 for a scalar.
int64_t elementCount(const std::vector<int64_t> &shape);
std::string shapeText(const std::vector<int64_t> &shape);
/// Whether batch, channels, space... lie dense as channels, space from the last axis on, batch, in the order of growing strides. There are as many strides as sizes, at least two.
bool liesChannelsLast(const std::vector<int64_t> &shape, const std::vector<int64_t> &strides);

} // namespace zopt::runtime

#endif // ZOPT_RUNTIME_CORE_DATATYPE_H

//===- ValueRange.h - integers that an input may hold -------- -*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_RUNTIME_DATA_VALUERANGE_H
#define ZOPT_LIB_RUNTIME_DATA_VALUERANGE_H

#include "zopt/Runtime/Core/Program.h"
#include "zopt/Runtime/Core/Status.h"
#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>

namespace zopt::runtime {

/// Values that an input may have: [low, high], or the index that is ignored.
struct ValueRange {
  int64_t low, high;
  bool hasIgnoreIndex;
  int64_t ignoreIndex;

  explicit ValueRange(const Input &input)
      : low(0), high(0), hasIgnoreIndex(input.hasIgnoreIndex), ignoreIndex(input.ignoreIndex) {
    switch (input.type) {
    case DataType::I64:
      setLimits<int64_t>();
      break;
    case DataType::I32:
      setLimits<int32_t>();
      break;
    case DataType::I16:
      setLimits<int16_t>();
      break;
    case DataType::U16:
      setLimits<uint16_t>();
      break;
    case DataType::I8:
      setLimits<int8_t>();
      break;
    case DataType::U8:
      setLimits<uint8_t>();
      break;
    case DataType::U64: // as bits
      setLimits<int64_t>();
      break;
    case DataType::U32:
      setLimits<uint32_t>();
      break;
    default:
      high = 1;
      break;
    }
    hasIgnoreIndex = hasIgnoreIndex && contains(ignoreIndex);
    if (input.limit > 0) {
      low = 0;
      high = std::min(high, input.limit - 1);
    }
  }
  bool contains(int64_t value) const { return value >= low && value <= high; }
  bool allows(int64_t value) const { return contains(value) || (hasIgnoreIndex && value == ignoreIndex); }
  /// " value 7 is not in [0, 5] nor the ignored index -100", without the first space.
  std::string refusal(int64_t value) const {
    return concat("value ", value, " is not in [", low, ", ", high, "]",
                  hasIgnoreIndex ? concat(" nor the ignored index ", ignoreIndex) : "");
  }

private:
  template <typename T>
  void setLimits() {
    low = std::numeric_limits<T>::min();
    high = int64_t(std::numeric_limits<T>::max());
  }
};

} // namespace zopt::runtime

#endif // ZOPT_LIB_RUNTIME_DATA_VALUERANGE_H

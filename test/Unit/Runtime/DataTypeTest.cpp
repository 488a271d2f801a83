//===- DataTypeTest.cpp - element types and their conversion --------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Core/DataType.h"
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <vector>

using namespace zopt::runtime;

namespace {

constexpr DataType kTypes[] = {DataType::F32, DataType::BF16, DataType::F16, DataType::F64, DataType::I64, DataType::I32,
                               DataType::I16, DataType::U16,  DataType::I8,  DataType::U8,  DataType::Bool};

/// A whole array converts to what its elements convert to one by one, at every pair of types and across chunks.
TEST(DataType, ArraysConvertAsTheirElementsDo) {
  constexpr int64_t count = 1300;
  for (DataType from : kTypes)
    for (DataType to : kTypes) {
      std::vector<char> source(size_t(count * sizeOf(from))), converted(size_t(count * sizeOf(to))), expected(converted.size());
      bool fromFloat = isFloat(from), toFloat = isFloat(to);
      // Numbers that every type can hold, where the other side is an integer; anything finite and halves between floats.
      for (int64_t i = 0; i < count; ++i)
        if (fromFloat)
          storeDouble(from, source.data(), i, toFloat ? (double(i) - 600) * 1.37 : double(i % 2 + (to == DataType::Bool ? 0 : i % 100)));
        else
          storeInteger(from, source.data(), i, i % 128);
      convertElements(from, source.data(), to, converted.data(), count);
      for (int64_t i = 0; i < count; ++i)
        if (!fromFloat && !toFloat)
          storeInteger(to, expected.data(), i, loadAsInteger(from, source.data(), i));
        else
          storeDouble(to, expected.data(), i, loadAsDouble(from, source.data(), i));
      EXPECT_EQ(converted, expected) << nameOf(from) << " to " << nameOf(to);
    }
}

TEST(DataType, WideIntegersStayExact) {
  const int64_t values[] = {std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max(), (int64_t(1) << 53) + 1};
  int64_t converted[3];
  convertElements(DataType::I64, values, DataType::I64, converted, 3);
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(converted[i], values[i]);
  const uint16_t words[] = {0, 65535};
  int32_t wide[2];
  convertElements(DataType::U16, words, DataType::I32, wide, 2);
  EXPECT_EQ(wide[1], 65535);
}

/// Every bfloat16 and every half survives the way through float; NaN stays NaN.
TEST(DataType, NarrowFloatsSurviveFloat) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    float fromBfloat16 = bfloat16ToFloat(uint16_t(bits)), fromHalf = halfToFloat(uint16_t(bits));
    if (std::isnan(fromBfloat16))
      EXPECT_TRUE(std::isnan(bfloat16ToFloat(floatToBfloat16(fromBfloat16))));
    else
      EXPECT_EQ(floatToBfloat16(fromBfloat16), bits);
    if (std::isnan(fromHalf))
      EXPECT_TRUE(std::isnan(halfToFloat(floatToHalf(fromHalf))));
    else
      EXPECT_EQ(floatToHalf(fromHalf), bits);
  }
}

TEST(DataType, NarrowFloatsRoundToNearestEven) {
  EXPECT_EQ(floatToBfloat16(1.00390625f), 0x3f80) << "1 + 2^-8 lies half way; 1 is even";
  EXPECT_EQ(floatToBfloat16(1.01171875f), 0x3f82) << "1 + 3 * 2^-8 lies half way";
  EXPECT_EQ(floatToBfloat16(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_EQ(floatToHalf(65519.996f), 0x7bff);
  EXPECT_EQ(floatToHalf(65520.0f), 0x7c00);
  EXPECT_EQ(floatToHalf(std::ldexp(1.0f, -25)), 0) << "half of the smallest subnormal; 0 is even";
  EXPECT_EQ(floatToHalf(std::ldexp(1.5f, -24)), 2);
}

} // namespace

//===- ExactSumTest.cpp - the exact sum -----------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Core/ExactSum.h"
#include <algorithm>
#include <cmath>
#include <cstring>
#include <gtest/gtest.h>
#include <limits>
#include <random>
#include <vector>

using zopt::runtime::ExactSum;

namespace {

double sumOf(const std::vector<double> &values) {
  ExactSum sum;
  sum.add(values.data(), int64_t(values.size()));
  return sum.round();
}

TEST(ExactSum, singleValuesComeBack) {
  std::mt19937_64 random(1);
  std::vector<double> values = {0.0, 1.0, -1.0, 0x1p-1074, -0x1p-1074, 0x1.fffffffffffffp-1023, 0x1p-1022, std::numeric_limits<double>::max(), -std::numeric_limits<double>::max()};
  for (int i = 0; i < 2000; ++i) {
    uint64_t bits = random();
    double value;
    static_assert(sizeof bits == sizeof value);
    std::memcpy(&value, &bits, sizeof value);
    if (std::isfinite(value))
      values.push_back(value);
  }
  for (double value : values)
    EXPECT_EQ(sumOf({value}), value);
}

TEST(ExactSum, cancellationIsExact) {
  EXPECT_EQ(sumOf({1e300, 1.0, -1e300}), 1.0);
  EXPECT_EQ(sumOf({1e300, 0x1p-1074, -1e300}), 0x1p-1074);
  EXPECT_EQ(sumOf({1.0, 0x1p-53}), 1.0);                     // a tie goes to even
  EXPECT_EQ(sumOf({1.0, 0x1p-53, 0x1p-1074}), 1 + 0x1p-52);  // just above it
  EXPECT_EQ(sumOf({1 + 0x1p-52, 0x1p-53}), 1 + 0x1p-51);     // a tie at an odd mantissa
  EXPECT_EQ(sumOf({-1.0, -0x1p-53, -0x1p-200}), -1 - 0x1p-52);
  std::vector<double> tenths(10, 0.1);
  EXPECT_EQ(sumOf(tenths), 1.0); // the true sum of ten doubles nearest 0.1 rounds to 1
}

TEST(ExactSum, orderDoesNotMatter) {
  std::mt19937_64 random(2);
  std::uniform_real_distribution<double> mantissa(-1, 1);
  std::uniform_int_distribution<int> exponent(-300, 300);
  std::vector<double> values;
  for (int i = 0; i < 5000; ++i)
    values.push_back(std::ldexp(mantissa(random), exponent(random)));
  double expected = sumOf(values);
  for (int repeat = 0; repeat < 20; ++repeat) {
    std::shuffle(values.begin(), values.end(), random);
    EXPECT_EQ(sumOf(values), expected);
  }
}

TEST(ExactSum, splitOverRanksDoesNotMatter) {
  std::mt19937_64 random(3);
  std::normal_distribution<double> normal;
  std::vector<double> values;
  for (int i = 0; i < 4099; ++i)
    values.push_back(normal(random) * normal(random));
  double expected = sumOf(values);
  for (int ranks : {1, 2, 3, 8}) {
    std::array<int64_t, ExactSum::kWords> total{};
    for (int rank = 0; rank < ranks; ++rank) {
      ExactSum part;
      for (size_t i = rank; i < values.size(); i += ranks)
        part.add(values[i]);
      auto words = part.toWords();
      for (int i = 0; i < ExactSum::kWords; ++i)
        total[i] += words[i];
    }
    EXPECT_EQ(ExactSum::fromWords(total).round(), expected);
  }
}

TEST(ExactSum, agreesWithLongDoubleWhereThatIsExact) {
  std::mt19937_64 random(4);
  std::uniform_int_distribution<int64_t> integer(-(int64_t(1) << 50), int64_t(1) << 50);
  for (int repeat = 0; repeat < 200; ++repeat) {
    std::vector<double> values;
    long double exact = 0; // sums of integers below 2^60 fit its 64-bit mantissa
    for (int i = 0; i < 500; ++i) {
      values.push_back(double(integer(random)));
      exact += values.back();
    }
    EXPECT_EQ(sumOf(values), double(exact));
  }
}

TEST(ExactSum, manyAdditionsPropagateCarries) {
  ExactSum sum;
  for (int i = 0; i < 1 << 20; ++i)
    sum.add(std::numeric_limits<float>::max());
  EXPECT_EQ(sum.round(), double(std::numeric_limits<float>::max()) * (1 << 20));
}

TEST(ExactSum, nonFiniteValuesAreSticky) {
  double infinity = std::numeric_limits<double>::infinity(), nan = std::nan("");
  EXPECT_EQ(sumOf({1, infinity}), infinity);
  EXPECT_EQ(sumOf({1, -infinity}), -infinity);
  EXPECT_TRUE(std::isnan(sumOf({infinity, -infinity})));
  EXPECT_TRUE(std::isnan(sumOf({nan, 1})));
  EXPECT_EQ(sumOf({std::numeric_limits<double>::max(), std::numeric_limits<double>::max()}), infinity);
}

} // namespace

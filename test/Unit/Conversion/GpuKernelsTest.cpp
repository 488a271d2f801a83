//===- GpuKernelsTest.cpp - kernels that only GPUs have --------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "KernelHarness.h"
#include "zopt/Runtime/Core/ExactSum.h"
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <random>

using namespace zopt::test;
using zopt::runtime::ExactSum;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::vector<int64_t> wordsOf(const std::vector<double> &values) {
  ExactSum sum;
  sum.add(values.data(), values.size());
  auto words = sum.toWords();
  return {words.begin(), words.end()};
}

double rounded(const std::vector<int64_t> &words) {
  std::array<int64_t, ExactSum::kWords> array;
  std::copy(words.begin(), words.end(), array.begin());
  return ExactSum::fromWords(array).round();
}

/// Doubles of both signs with exponents from all over the range.
std::vector<double> spread(size_t count, int low, int high, bool signs, unsigned seed) {
  std::mt19937_64 engine(seed);
  std::vector<double> values;
  for (size_t i = 0; i < count; ++i) {
    double mantissa = 1 + static_cast<double>(engine() >> 12) * 0x1p-52;
    double value = std::ldexp(mantissa, low + static_cast<int>(engine() % (high - low + 1)));
    values.push_back(signs && engine() % 2 ? -value : value);
  }
  return values;
}

TEST(ExactNormKernels, SumsAreThoseOfTheRuntime) {
  for (auto [low, high] : {std::pair(-1074, 1000), std::pair(-60, 10), std::pair(-1074, -1020)}) {
    std::vector<double> values = spread(10000, low, high, true, 7);
    values.push_back(0);
    values.push_back(-0.0);
    values.push_back(5e-324);
    EXPECT_EQ(rounded(runAccumulate(values)), rounded(wordsOf(values))) << low;
  }
  std::vector<double> special = {1, kInfinity, 2, -kInfinity, std::numeric_limits<double>::quiet_NaN(), kInfinity};
  std::vector<int64_t> words = runAccumulate(special);
  EXPECT_EQ(words[72], 1);
  EXPECT_EQ(words[73], 2);
  EXPECT_EQ(words[74], 1);
}

TEST(ExactNormKernels, TheRootOfTwoSumsRoundsOnce) {
  std::vector<int64_t> none(kSumWords, 0);
  for (auto [low, high] : {std::pair(-1074, -1000), std::pair(-300, 300), std::pair(-30, 0), std::pair(900, 1020)})
    for (unsigned seed = 0; seed < 8; ++seed) {
      std::vector<double> a = spread(1 + 700 * seed, low, high, false, seed), b = spread(900, low, high, false, 100 + seed);
      std::vector<double> both = a;
      both.insert(both.end(), b.begin(), b.end());
      EXPECT_EQ(runNorm(Type::F64, wordsOf(a), wordsOf(b)), std::sqrt(rounded(wordsOf(both)))) << low << " " << seed;
      EXPECT_EQ(runNorm(Type::F32, wordsOf(a), none), static_cast<double>(static_cast<float>(std::sqrt(rounded(wordsOf(a))))));
    }
  // Exactly half way between two doubles, and a hair above it.
  EXPECT_EQ(runNorm(Type::F64, wordsOf({0x1p106, 0x1p53}), none), std::sqrt(0x1p106));
  EXPECT_EQ(runNorm(Type::F64, wordsOf({0x1p53, 1}), none), std::sqrt(0x1p53));
  EXPECT_EQ(runNorm(Type::F64, wordsOf({0x1p53, 3}), none), std::sqrt(0x1p53 + 4));
  EXPECT_EQ(runNorm(Type::F64, wordsOf({0x1p53, 1, 0x1p-900}), none), std::sqrt(0x1p53 + 2));
  EXPECT_EQ(runNorm(Type::F64, none, none), 0);
  EXPECT_EQ(runNorm(Type::F32, wordsOf({kInfinity}), none), kInfinity);
  EXPECT_TRUE(std::isnan(runNorm(Type::F32, wordsOf({kInfinity}), wordsOf({std::numeric_limits<double>::quiet_NaN()}))));
}

} // namespace

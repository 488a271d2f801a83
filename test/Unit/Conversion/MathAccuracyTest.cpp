//===- MathAccuracyTest.cpp - errors of the fp32 math functions in ulp -----===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "KernelHarness.h"
#include <gtest/gtest.h>
#include <cmath>
#include <cstring>

using namespace zopt::test;

namespace {

/// Every 2^11-th fp32 number of both signs from `low` to `high` in magnitude: all exponents, mantissas spread by an odd step.
Tensor sample(float low, float high, bool negative = true) {
  Tensor x{Type::F32, {}, {}, {}};
  uint32_t first, last;
  std::memcpy(&first, &low, 4);
  std::memcpy(&last, &high, 4);
  for (uint32_t bits = first; bits <= last; bits += 2039) {
    float value;
    std::memcpy(&value, &bits, 4);
    x.values.push_back(value);
    if (negative)
      x.values.push_back(-value);
  }
  x.shape = {static_cast<int64_t>(x.values.size())};
  return x;
}

/// The largest error of `op` in units of the last place of the exact result.
double measure(const std::string &op, const Tensor &x, double (*exact)(double)) {
  std::string type = "tensor<" + std::to_string(x.count()) + "xf32>";
  Tensor y = run("%r = train." + op + " %0 : " + type, {x}, {Tensor{Type::F32, x.shape, {}, {}}})[0];
  double worst = 0, at = 0;
  for (size_t i = 0; i < x.values.size(); ++i) {
    double expected = exact(x.values[i]);
    float rounded = static_cast<float>(expected);
    if (std::isinf(rounded) || std::isinf(y.values[i])) {
      // Right at the overflow threshold either side is half an ulp away.
      EXPECT_TRUE(rounded == y.values[i] || std::abs(expected) > 3.4028233e38) << op << " of " << x.values[i] << " is " << y.values[i];
      continue;
    }
    int exponent;
    std::frexp(expected, &exponent);
    double ulp = std::ldexp(1.0, std::max(exponent, -125) - 24);
    double error = std::abs(y.values[i] - expected) / ulp;
    if (!(error <= worst)) {
      worst = error;
      at = x.values[i];
    }
  }
  std::printf("%-10s %.3f ulp, at %.9g\n", op.c_str(), worst, at);
  return worst;
}

double logistic(double x) { return 1 / (1 + std::exp(-x)); }
double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }

TEST(MathAccuracy, AtMostTwoUlp) {
  EXPECT_LE(measure("exp", sample(1e-30f, 104.0f), std::exp), 1.0);
  EXPECT_LE(measure("log", sample(1e-44f, 3.4e38f, false), std::log), 1.0);
  EXPECT_LE(measure("tanh", sample(1e-30f, 30.0f), std::tanh), 2.0);
  EXPECT_LE(measure("erf", sample(1e-30f, 10.0f), std::erf), 2.0);
  // Rotary positions go up to 8192 radians; every number has a sine.
  EXPECT_LE(measure("sin", sample(1e-30f, 3.4e38f), std::sin), 2.0);
  EXPECT_LE(measure("cos", sample(1e-30f, 3.4e38f), std::cos), 2.0);
}

TEST(MathAccuracy, InverseAndHyperbolic) {
  EXPECT_LE(measure("asin", sample(1e-30f, 1.0f), std::asin), 3.0);
  EXPECT_LE(measure("acos", sample(1e-30f, 1.0f), std::acos), 2.0);
  EXPECT_LE(measure("atan", sample(1e-30f, 3.4e38f), std::atan), 3.0);
  EXPECT_LE(measure("expm1", sample(1e-30f, 104.0f), std::expm1), 3.0);
  EXPECT_LE(measure("tan", sample(1e-30f, 1e6f), std::tan), 4.0);
  EXPECT_LE(measure("sinh", sample(1e-30f, 90.0f), std::sinh), 5.0);
  EXPECT_LE(measure("cosh", sample(1e-30f, 90.0f), std::cosh), 4.0);
  EXPECT_LE(measure("asinh", sample(1e-30f, 3.4e38f), std::asinh), 4.0);
  EXPECT_LE(measure("acosh", sample(1.0f, 3.4e38f, false), std::acosh), 4.0);
  EXPECT_LE(measure("atanh", sample(1e-30f, 0.9999999f), std::atanh), 4.0);
}

TEST(MathAccuracy, Compositions) {
  EXPECT_LE(measure("sigmoid", sample(1e-30f, 80.0f), logistic), 3.0);
  EXPECT_LE(measure("softplus", sample(1e-30f, 80.0f), softplus), 3.0); // log1p
}

} // namespace

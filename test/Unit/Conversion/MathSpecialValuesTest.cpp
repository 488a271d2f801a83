//===- MathSpecialValuesTest.cpp - NaN, infinities and subnormals in every lane===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What a function gives for a special argument depends on nothing but the argument: not on the lane, not on whether a tail is masked, not on the processor (its max and min instructions return
// one of two operands where one is NaN, by their order).
//
//===----------------------------------------------------------------------===//

#include "KernelHarness.h"
#include <gtest/gtest.h>
#include <algorithm>
#include <cmath>
#include <limits>

using namespace zopt::test;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity(), kNaN = std::numeric_limits<double>::quiet_NaN();

struct Function {
  const char *op;
  double (*exact)(double);
};

double logistic(double x) { return 1 / (1 + std::exp(-x)); }
double softplus(double x) { return std::isnan(x) ? x : std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }
double reciprocal(double x) { return 1 / x; }
double rsqrt(double x) { return 1 / std::sqrt(x); }
double relu(double x) { return x < 0 ? 0 : x; }

const Function kFunctions[] = {{"exp", std::exp},   {"log", std::log},   {"tanh", std::tanh},         {"erf", std::erf},     {"sin", std::sin},   {"cos", std::cos},
                               {"sqrt", std::sqrt}, {"rsqrt", rsqrt},    {"reciprocal", reciprocal},  {"sigmoid", logistic}, {"softplus", softplus}, // log1p
                               {"relu", relu},      {"abs", std::fabs},  {"round", std::nearbyint},     {"expm1", std::expm1}, {"tan", std::tan},   {"asin", std::asin},
                               {"acos", std::acos}, {"atan", std::atan},  {"sinh", std::sinh},           {"cosh", std::cosh},   {"asinh", std::asinh}, {"acosh", std::acosh},
                               {"atanh", std::atanh}};

/// Every special value at every place of a row of two whole vectors and a tail: row r begins with the r-th. Rows are apart in memory, so that each has a tail of its own.
Tensor specials(Type type) {
  double least = type == Type::F64 ? 0x1p-1074 : type == Type::BF16 ? 0x1p-133 : 0x1p-149, normal = type == Type::F64 ? 0x1p-1022 : 0x1p-126;
  double largest = type == Type::F64 ? std::numeric_limits<double>::max() : type == Type::BF16 ? 0x1.FEp127 : std::numeric_limits<float>::max();
  const double values[] = {kNaN, 1, -kNaN, kInfinity, -kInfinity, least, -least, normal - least, least - normal, normal, -normal, 0, -0.0, largest, -largest, 0.5, -0.5};
  constexpr int64_t kValues = std::size(values);
  static_assert(kValues % 2 == 1, "a period that shares no factor with the lanes");
  Tensor x{type, {kValues, 37}, {}, {50, 1}};
  for (int64_t row = 0; row < kValues; ++row)
    for (int64_t i = 0; i < 37; ++i)
      x.values.push_back(values[(row + i) % kValues]);
  return x;
}

std::string text(const Tensor &x) {
  return "tensor<" + std::to_string(x.shape[0]) + "x" + std::to_string(x.shape[1]) + (x.type == Type::F32 ? "xf32>" : x.type == Type::BF16 ? "xbf16>" : "xf64>");
}

void checkFunctions() {
  for (Type type : {Type::F32, Type::BF16, Type::F64})
    for (const Function &function : kFunctions) {
      Tensor x = specials(type);
      std::vector<Tensor> y = run("%r = train." + std::string(function.op) + " %0 : " + text(x), {x}, {x});
      ASSERT_EQ(y.size(), 1u);
      // As MathAccuracyTest allows: 3 ulp of fp32; a bf16 result is rounded once more. Subnormal results are exact to as many of their own units.
      double ulp = type == Type::F64 ? 0x1p-51 : type == Type::F32 ? 0x1p-22 : 0x1p-8, unit = type == Type::F64 ? 0x1p-1074 : type == Type::F32 ? 0x1p-149 : 0x1p-133;
      int shown = 0;
      for (int64_t i = 0; i < x.count(); ++i) {
        double argument = x.values[i], expected = roundTo(type, function.exact(argument)), actual = y[0].values[i];
        bool equal = std::isnan(expected) ? std::isnan(actual) : std::isinf(expected) ? actual == expected : std::abs(actual - expected) <= 2 * unit + 1.5 * ulp * std::abs(expected);
        if (!equal && ++shown <= 5)
          ADD_FAILURE() << function.op << " of " << argument << " in place " << i % 37 << " of a row of " << text(x) << " is " << actual << ", expected " << expected;
      }
    }
}

TEST(MathSpecialValues, ThisProcessor) { checkFunctions(); }

#ifdef __x86_64__
// No fused multiply-add and no masked stores; four lanes.
TEST(MathSpecialValues, OldestProcessor) {
  setProcessor("x86-64");
  checkFunctions();
  setProcessor("");
}
#endif

} // namespace

//===- ElementwiseKernelsTest.cpp - elementwise kernels against double precision===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "KernelHarness.h"
#include <gtest/gtest.h>
#include <cmath>
#include <limits>

using namespace zopt::test;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kBF16 = 4.1e-3;

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double gelu(double x) { return 0.5 * x * (1 + std::erf(x * M_SQRT1_2)); }
double geluTanh(double x) { return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }

std::vector<double> map(const Tensor &x, const std::function<double(double)> &f) {
  std::vector<double> result;
  for (double value : x.values)
    result.push_back(f(value));
  return result;
}

void checkUnary(const std::string &op, const std::function<double(double)> &f, double low, double high, double relative, double absolute = 1e-37, const std::string &attributes = "") {
  // An odd size (masked tail), in both precisions.
  for (Type type : {Type::F32, Type::BF16, Type::F64}) {
    Tensor x = random(type, {7, 331}, low, high);
    std::string name = type == Type::F32 ? "f32" : type == Type::BF16 ? "bf16" : "f64";
    auto result = run("%r = train." + op + " %0 " + attributes + " : tensor<7x331x" + name + ">", {x}, {Tensor{type, {7, 331}, {}, {}}});
    ASSERT_EQ(result.size(), 1u);
    SCOPED_TRACE(op + " " + name);
    double tolerance = type == Type::BF16 ? kBF16 : type == Type::F64 ? 1e-14 : relative;
    expectNear(result[0], map(x, f), tolerance, type == Type::F64 ? std::min(absolute, 1e-14) : absolute);
  }
}

TEST(ElementwiseKernels, Unary) {
  checkUnary("neg", [](double x) { return -x; }, -2, 2, 0);
  checkUnary("abs", [](double x) { return std::abs(x); }, -2, 2, 0);
  checkUnary("exp", [](double x) { return std::exp(x); }, -20, 20, 2e-7);
  checkUnary("log", [](double x) { return std::log(x); }, 1e-3, 100, 2e-7);
  checkUnary("sqrt", [](double x) { return std::sqrt(x); }, 0, 100, 1e-7);
  checkUnary("rsqrt", [](double x) { return 1 / std::sqrt(x); }, 0.1, 100, 2e-7);
  checkUnary("reciprocal", [](double x) { return 1 / x; }, 0.1, 100, 1e-7);
  checkUnary("tanh", [](double x) { return std::tanh(x); }, -5, 5, 2.5e-7);
  checkUnary("sigmoid", sigmoid, -10, 10, 3e-7);
  checkUnary("erf", [](double x) { return std::erf(x); }, -4, 4, 2.5e-7);
  checkUnary("sin", [](double x) { return std::sin(x); }, -8192, 8192, 2e-7, 1e-9);
  checkUnary("cos", [](double x) { return std::cos(x); }, -8192, 8192, 2e-7, 1e-9);
  checkUnary("relu", [](double x) { return std::max(x, 0.0); }, -2, 2, 0);
  checkUnary("silu", [](double x) { return x * sigmoid(x); }, -10, 10, 4e-7);
  checkUnary("floor", [](double x) { return std::floor(x); }, -9, 9, 0);
  checkUnary("ceil", [](double x) { return std::ceil(x); }, -9, 9, 0);
  checkUnary("sign", [](double x) { return (x > 0) - (x < 0); }, -2, 2, 0);
  checkUnary("softplus", [](double x) { return std::log1p(std::exp(x)); }, -20, 20, 5e-7);
  // 1 + erf cancels for negative x: the error is absolute there.
  checkUnary("gelu", gelu, -6, 6, 4e-7, 4e-7, "{approximate = 0 : i32}");
  checkUnary("gelu", geluTanh, -6, 6, 4e-7, 4e-7, "{approximate = 1 : i32}");
}

TEST(ElementwiseKernels, SpecialValues) {
  double nan = std::numeric_limits<double>::quiet_NaN();
  Tensor x{Type::F32, {8}, {0.0, -0.0, kInfinity, -kInfinity, nan, 200, -200, 1e-40}, {}};
  auto eval = [&](const std::string &op) { return run("%r = train." + op + " %0 : tensor<8xf32>", {x}, {Tensor{Type::F32, {8}, {}, {}}})[0]; };
  expectNear(eval("exp"), {1, 1, kInfinity, 0, nan, kInfinity, 0, 1}, 0, 0);
  expectNear(eval("log"), {-kInfinity, -kInfinity, kInfinity, nan, nan, std::log(200.0), nan, std::log(static_cast<double>(1e-40f))}, 1e-7, 0);
  expectNear(eval("tanh"), {0, 0, 1, -1, nan, 1, -1, static_cast<double>(1e-40f)}, 0, 0);
  expectNear(eval("erf"), {0, 0, 1, -1, nan, 1, -1, static_cast<double>(1e-40f) * M_2_SQRTPI}, 1e-4, 0);
  expectNear(eval("sigmoid"), {0.5, 0.5, 1, 0, nan, 1, 0, 0.5}, 0, 1e-38);
  expectNear(eval("relu"), {0, 0, kInfinity, 0, nan, 200, 0, static_cast<double>(1e-40f)}, 0, 0);
  expectNear(eval("sin"), {0, 0, nan, nan, nan, std::sin(200.0), -std::sin(200.0), static_cast<double>(1e-40f)}, 2e-7, 0);
  expectNear(eval("softplus"), {M_LN2, M_LN2, kInfinity, 0, nan, 200, 0, M_LN2}, 2e-7, 1e-38);
}

TEST(ElementwiseKernels, BFloat16RoundsToNearestEvenAndKeepsNaNAndSubnormals) {
  double nan = std::numeric_limits<double>::quiet_NaN();
  // 1 + 2^-8 is half way: to even. Subnormals of bf16 stay.
  Tensor x{Type::F32, {9}, {1 + 1.0 / 256, 1 + 3.0 / 256, 1 + 1.0 / 256 + 1e-6, nan, kInfinity, 3.4e38, 1e-39, -0.0, 65535}, {}};
  auto result = run("%r = train.cast %0 : tensor<9xf32> -> tensor<9xbf16>", {x}, {Tensor{Type::BF16, {9}, {}, {}}})[0];
  std::vector<double> expected;
  for (double value : x.values)
    expected.push_back(roundTo(Type::BF16, static_cast<float>(value)));
  expectNear(result, expected, 0, 0);
  EXPECT_NE(result.values[6], 0);
}

TEST(ElementwiseKernels, BroadcastAndStridedOperands) {
  Tensor a = random(Type::F32, {5, 1, 37}), b = random(Type::F32, {3, 1}, -2, 2, 2);
  a.strides = {100, 7, 2}; // neither contiguous nor unit
  auto result = run("%r = train.sub %0, %1 : tensor<5x1x37xf32>, tensor<3x1xf32> -> tensor<5x3x37xf32>", {a, b}, {Tensor{Type::F32, {5, 3, 37}, {}, {}}})[0];
  std::vector<double> expected;
  for (int64_t i = 0; i < 5; ++i)
    for (int64_t j = 0; j < 3; ++j)
      for (int64_t k = 0; k < 37; ++k)
        expected.push_back(static_cast<float>(a.at({i, 0, k}) - b.at({j, 0})));
  expectNear(result, expected, 0, 0);

  // A transposed operand, one with gaps and a strided result; more than one chunk a row.
  Tensor c = random(Type::BF16, {4, 5001}, -2, 2, 3), d = random(Type::BF16, {4, 5001}, -2, 2, 4);
  c.strides = {1, 4};
  d.strides = {5100, 1};
  Tensor out{Type::BF16, {4, 5001}, {}, {6000, 1}};
  result = run("%r = train.mul %0, %1 : tensor<4x5001xbf16>, tensor<4x5001xbf16> -> tensor<4x5001xbf16>", {c, d}, {out})[0];
  expected.clear();
  for (size_t i = 0; i < c.values.size(); ++i)
    expected.push_back(roundTo(Type::BF16, c.values[i] * d.values[i]));
  expectNear(result, expected, 0, 0);

  // Scalars of rank 0.
  Tensor s = full(Type::F32, {}, 3), t = full(Type::F32, {1}, 4);
  expectNear(run("%r = train.add %0, %1 : tensor<f32>, tensor<1xf32> -> tensor<1xf32>", {s, t}, {Tensor{Type::F32, {1}, {}, {}}})[0], {7}, 0, 0);
}

TEST(ElementwiseKernels, Gradients) {
  for (Type type : {Type::F32, Type::BF16}) {
    std::string name = type == Type::F32 ? "f32" : "bf16";
    double relative = type == Type::F32 ? 1e-6 : kBF16, absolute = type == Type::F32 ? 1e-6 : 1e-30;
    Tensor x = random(type, {211}, -4, 4), y = random(type, {211}, 0.05, 0.95, 5), dy = random(type, {211}, -2, 2, 6);
    auto check = [&](const std::string &op, const Tensor &input, const std::function<double(double)> &derivative, const std::string &attributes = "") {
      auto result = run("%r = train." + op + " %0, %1 " + attributes + " : tensor<211x" + name + ">", {input, dy}, {Tensor{type, {211}, {}, {}}})[0];
      std::vector<double> expected;
      for (size_t i = 0; i < dy.values.size(); ++i)
        expected.push_back(dy.values[i] * derivative(input.values[i]));
      SCOPED_TRACE(op + " " + name);
      expectNear(result, expected, relative, absolute);
    };
    // Central differences in double.
    auto derivative = [](double (*f)(double)) { return [f](double v) { return (f(v + 1e-5) - f(v - 1e-5)) / 2e-5; }; };
    double saved = absolute;
    absolute = std::max(absolute, 1e-6);
    check("gelu_grad", x, derivative(gelu), "{approximate = 0 : i32}");
    check("gelu_grad", x, derivative(geluTanh), "{approximate = 1 : i32}");
    check("silu_grad", x, [](double v) { return sigmoid(v) * (1 + v * (1 - sigmoid(v))); });
    absolute = saved;
    check("relu_grad", x, [](double v) { return v > 0 ? 1 : 0; });
    check("tanh_grad", y, [](double v) { return 1 - v * v; });
    check("sigmoid_grad", y, [](double v) { return v * (1 - v); });
    check("erf_grad", x, [](double v) { return M_2_SQRTPI * std::exp(-v * v); });
  }
}

TEST(ElementwiseKernels, IntegersAndTruthValues) {
  Tensor a = random(Type::I64, {50}, -20, 20), b = random(Type::I64, {50}, -3, 3, 2);
  Tensor result = run("%r = train.div %0, %1 : tensor<50xi64>, tensor<50xi64> -> tensor<50xi64>", {a, b}, {Tensor{Type::I64, {50}, {}, {}}})[0];
  for (size_t i = 0; i < a.values.size(); ++i)
    if (b.values[i] != 0)
      EXPECT_EQ(result.values[i], std::trunc(a.values[i] / b.values[i]));
  Tensor less = run("%r = train.compare lt %0, %1 : tensor<50xi64>, tensor<50xi64> -> tensor<50xi1>", {a, b}, {Tensor{Type::I1, {50}, {}, {}}})[0];
  std::vector<double> expected;
  for (size_t i = 0; i < a.values.size(); ++i)
    expected.push_back(a.values[i] < b.values[i]);
  expectNear(less, expected, 0, 0);
  Tensor x = random(Type::F32, {50}), y = random(Type::F32, {1}, -2, 2, 9);
  Tensor selected = run("%r = train.select %0, %1, %2 : tensor<50xi1>, tensor<50xf32>, tensor<1xf32> -> tensor<50xf32>", {less, x, y}, {Tensor{Type::F32, {50}, {}, {}}})[0];
  for (size_t i = 0; i < 50; ++i)
    EXPECT_EQ(selected.values[i], expected[i] ? x.values[i] : y.values[0]);
  Tensor negated = run("%r = train.not %0 : tensor<50xi1>", {less}, {Tensor{Type::I1, {50}, {}, {}}})[0];
  for (size_t i = 0; i < 50; ++i)
    EXPECT_EQ(negated.values[i], 1 - expected[i]);
}

TEST(ElementwiseKernels, PowersDoNotDependOnWhatTheKernelKnows) {
  Tensor x = random(Type::F32, {40}, 0.1, 3);
  for (double exponent : {2.0, 3.0, 0.5, -1.7}) {
    Tensor y = full(Type::F32, {}, exponent);
    Tensor separate = run("%r = train.pow %0, %1 : tensor<40xf32>, tensor<f32> -> tensor<40xf32>", {x, y}, {Tensor{Type::F32, {40}, {}, {}}})[0];
    Tensor fused = run("%r = train.fused (%0) {\n^bb0(%a: tensor<40xf32>):\n %c = train.constant dense<" + std::to_string(exponent) +
                           "> : tensor<f32> : tensor<f32>\n %p = train.pow %a, %c : tensor<40xf32>, tensor<f32> -> tensor<40xf32>\n train.yield %p : tensor<40xf32>\n} : (tensor<40xf32>) -> tensor<40xf32>",
                       {x}, {Tensor{Type::F32, {40}, {}, {}}})[0];
    EXPECT_EQ(separate.values, fused.values);
    expectNear(separate, map(x, [&](double v) { return std::pow(v, exponent); }), 2e-7, 0);
  }
}

TEST(ElementwiseKernels, FusionRoundsAfterEveryOp) {
  // bf16: (a * b) rounded, then + c rounded; the fused kernel must give the bits of two kernels. Two results, one used inside.
  Tensor a = random(Type::BF16, {6, 100}), b = random(Type::BF16, {100}, -2, 2, 2), c = random(Type::BF16, {6, 1}, -2, 2, 3);
  Tensor out{Type::BF16, {6, 100}, {}, {}};
  Tensor product = run("%r = train.mul %0, %1 : tensor<6x100xbf16>, tensor<100xbf16> -> tensor<6x100xbf16>", {a, b}, {out})[0];
  Tensor sum = run("%r = train.add %0, %1 : tensor<6x100xbf16>, tensor<6x1xbf16> -> tensor<6x100xbf16>", {product, c}, {out})[0];
  auto fused = run("%r:2 = train.fused (%0, %1, %2) {\n^bb0(%a: tensor<6x100xbf16>, %b: tensor<100xbf16>, %c: tensor<6x1xbf16>):\n"
                   " %p = train.mul %a, %b : tensor<6x100xbf16>, tensor<100xbf16> -> tensor<6x100xbf16>\n"
                   " %s = train.add %p, %c : tensor<6x100xbf16>, tensor<6x1xbf16> -> tensor<6x100xbf16>\n"
                   " train.yield %s, %p : tensor<6x100xbf16>, tensor<6x100xbf16>\n}"
                   " : (tensor<6x100xbf16>, tensor<100xbf16>, tensor<6x1xbf16>) -> (tensor<6x100xbf16>, tensor<6x100xbf16>)",
                   {a, b, c}, {out, out});
  EXPECT_EQ(fused[0].values, sum.values);
  EXPECT_EQ(fused[1].values, product.values);
}

TEST(ElementwiseKernels, IotaAndConstants) {
  Tensor out{Type::I64, {3, 35}, {}, {}};
  Tensor iota = run("%r = train.iota 1 {start = 5 : i64, step = -2 : i64} : tensor<3x35xi64>", {}, {out})[0];
  for (int64_t i = 0; i < 3; ++i)
    for (int64_t j = 0; j < 35; ++j)
      EXPECT_EQ(iota.at({i, j}), 5 - 2 * j);
  expectNear(run("%r = train.constant dense<1.5> : tensor<3x35xbf16> : tensor<3x35xbf16>", {}, {Tensor{Type::BF16, {3, 35}, {}, {}}})[0], std::vector<double>(105, 1.5), 0, 0);
  expectNear(run("%r = train.constant dense<[[1, 2, 3], [4, 5, 6]]> : tensor<2x3xi64> : tensor<2x3xi64>", {}, {Tensor{Type::I64, {2, 3}, {}, {}}})[0], {1, 2, 3, 4, 5, 6}, 0, 0);
  // An iota along the first axis, of a type of its own, inside a fused kernel.
  Tensor causal = run("%r = train.fused () {\n %row = train.iota 0 : tensor<9x1xi64>\n %column = train.iota 0 : tensor<20xi64>\n"
                      " %c = train.compare le %column, %row : tensor<20xi64>, tensor<9x1xi64> -> tensor<9x20xi1>\n train.yield %c : tensor<9x20xi1>\n} : () -> tensor<9x20xi1>",
                      {}, {Tensor{Type::I1, {9, 20}, {}, {}}})[0];
  for (int64_t i = 0; i < 9; ++i)
    for (int64_t j = 0; j < 20; ++j)
      EXPECT_EQ(causal.at({i, j}), j <= i);
}

} // namespace

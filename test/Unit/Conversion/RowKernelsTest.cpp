//===- RowKernelsTest.cpp - reductions, rows and losses against double precision===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "KernelHarness.h"
#include <gtest/gtest.h>
#include <algorithm>
#include <cmath>
#include <limits>

using namespace zopt::test;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::string text(const Tensor &tensor) {
  std::string result = "tensor<";
  for (int64_t size : tensor.shape)
    result += std::to_string(size) + "x";
  return result + nameOf(tensor.type) + ">";
}

Tensor like(Type type, std::vector<int64_t> shape) { return Tensor{type, std::move(shape), {}, {}}; }

/// How far results of a type may be from the exact ones, where sums of `terms` numbers of size 1 are inside.
double tolerance(Type type) { return type == Type::F32 ? 3e-6 : type == Type::BF16 ? 4.1e-3 : 1e-13; }

void checkReduce(Type type, std::vector<int64_t> shape, std::vector<int64_t> axes, const std::string &kind, std::vector<int64_t> strides = {}) {
  Tensor x = random(type, shape, -1, 1);
  x.strides = std::move(strides);
  std::vector<int64_t> kept, resultShape;
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    bool isReduced = std::find(axes.begin(), axes.end(), axis) != axes.end();
    resultShape.push_back(isReduced ? 1 : shape[axis]);
  }
  std::vector<double> expected;
  Tensor result = like(type, resultShape);
  expected.assign(result.count(), kind == "max" ? -kInfinity : 0);
  std::vector<int64_t> index(shape.size());
  int64_t terms = x.count() / result.count();
  for (int64_t i = 0; i < x.count(); ++i) {
    for (int64_t axis = shape.size() - 1, rest = i; axis >= 0; rest /= shape[axis], --axis)
      index[axis] = rest % shape[axis];
    int64_t at = 0;
    for (size_t axis = 0; axis < shape.size(); ++axis)
      at = at * resultShape[axis] + (resultShape[axis] == 1 ? 0 : index[axis]);
    expected[at] = kind == "max" ? std::max(expected[at], x.values[i]) : expected[at] + x.values[i];
  }
  if (kind == "mean")
    for (double &value : expected)
      value /= terms;
  std::string axesText;
  for (int64_t axis : axes)
    axesText += (axesText.empty() ? "" : ", ") + std::to_string(axis);
  std::string op = "%r = train.reduce_" + kind + " %0 [" + axesText + "] {keepdims} : " + text(x) + " -> " + text(result);
  SCOPED_TRACE(op);
  double scale = kind == "sum" ? std::sqrt(terms) : 1;
  expectNear(run(op, {x}, {result})[0], expected, tolerance(type), (type == Type::F64 ? 1e-15 : 2e-7) * scale);
}

TEST(ReduceKernels, AnyAxes) {
  for (Type type : {Type::F32, Type::BF16, Type::F64})
    for (const char *kind : {"sum", "mean", "max"}) {
      checkReduce(type, {13, 517}, {1}, kind);       // rows
      checkReduce(type, {13, 10}, {1}, kind);        // rows shorter than a vector
      checkReduce(type, {131, 200}, {0}, kind);      // columns, a rest
      checkReduce(type, {3, 70, 5, 40}, {0, 2}, kind); // columns around a kept axis
    }
  checkReduce(Type::F32, {3, 70, 5, 40}, {1, 3}, "sum"); // rows with a further reduced axis
  checkReduce(Type::F32, {3, 10001}, {0, 1}, "sum");   // everything, a long row
  checkReduce(Type::F32, {300, 1}, {1}, "sum");        // nothing to add
  checkReduce(Type::F32, {300, 1}, {0}, "sum");        // a column of one
  checkReduce(Type::F32, {2, 3, 256}, {0, 1}, "sum");
  checkReduce(Type::I64, {5, 33}, {1}, "sum");
  checkReduce(Type::I64, {5, 33}, {1}, "max");
  checkReduce(Type::F32, {13, 90}, {1}, "sum", {1, 13}); // transposed
  checkReduce(Type::F32, {13, 90}, {0}, "sum", {200, 2});
}

TEST(ReduceKernels, OrderDoesNotDependOnLayout) {
  Tensor x = random(Type::F32, {6, 50, 33}), strided = x, transposed = x;
  strided.strides = {3000, 40, 1};
  transposed.strides = {1, 6 * 33, 6};
  for (const char *axes : {"[2]", "[0, 1]", "[1, 2]", "[0, 1, 2]"}) {
    std::string op = std::string("%r = train.reduce_sum %0 ") + axes + " {keepdims} : tensor<6x50x33xf32> -> ";
    std::vector<int64_t> shape = axes == std::string("[2]") ? std::vector<int64_t>{6, 50, 1} : axes == std::string("[0, 1]") ? std::vector<int64_t>{1, 1, 33} :
                                 axes == std::string("[1, 2]") ? std::vector<int64_t>{6, 1, 1} : std::vector<int64_t>{1, 1, 1};
    Tensor out = like(Type::F32, shape);
    op += text(out);
    Tensor a = run(op, {x}, {out})[0], b = run(op, {strided}, {out})[0], c = run(op, {transposed}, {out})[0];
    EXPECT_EQ(a.values, b.values) << axes;
    EXPECT_EQ(a.values, c.values) << axes;
  }
}

std::vector<double> softmaxRow(const double *x, int64_t n, double *logSumExp = nullptr) {
  double max = *std::max_element(x, x + n), sum = 0;
  std::vector<double> p(n);
  for (int64_t i = 0; i < n; ++i)
    sum += p[i] = std::exp(x[i] - max);
  for (double &value : p)
    value /= sum;
  if (logSumExp)
    *logSumExp = max + std::log(sum);
  return p;
}

TEST(SoftmaxKernels, ForwardAndGradients) {
  for (Type type : {Type::F32, Type::BF16, Type::F64})
    for (int64_t n : {5, 300, 1024}) {
      Tensor x = random(type, {4, 3, n}, -10, 10), dy = random(type, {4, 3, n}, -1, 1, 2), out = like(type, x.shape);
      std::vector<double> p, logs, dp, dlogs;
      for (int64_t row = 0; row < 12; ++row) {
        double lse;
        std::vector<double> probabilities = softmaxRow(&x.values[row * n], n, &lse);
        p.insert(p.end(), probabilities.begin(), probabilities.end());
        for (int64_t i = 0; i < n; ++i)
          logs.push_back(x.values[row * n + i] - lse);
      }
      Tensor y = run("%r = train.softmax %0 : " + text(x), {x}, {out})[0], logY = run("%r = train.log_softmax %0 : " + text(x), {x}, {out})[0];
      expectNear(y, p, 2 * tolerance(type), 1e-30);
      expectNear(logY, logs, tolerance(type), type == Type::F64 ? 1e-13 : 3e-6);
      for (int64_t row = 0; row < 12; ++row) {
        double dot = 0, sum = 0;
        for (int64_t i = row * n; i < (row + 1) * n; ++i) {
          dot += y.values[i] * dy.values[i];
          sum += dy.values[i];
        }
        for (int64_t i = row * n; i < (row + 1) * n; ++i) {
          dp.push_back(y.values[i] * (dy.values[i] - dot));
          dlogs.push_back(dy.values[i] - std::exp(logY.values[i]) * sum);
        }
      }
      double absolute = type == Type::F64 ? 1e-13 : 3e-6;
      expectNear(run("%r = train.softmax_grad %0, %1 : " + text(x), {y, dy}, {out})[0], dp, tolerance(type), absolute);
      expectNear(run("%r = train.log_softmax_grad %0, %1 : " + text(x), {logY, dy}, {out})[0], dlogs, tolerance(type), absolute);
    }
}

// TrainOps.td: a row of -inf has no distribution, so every element is NaN; the rows around it are as ever.
TEST(SoftmaxKernels, RowOfMinusInfinity) {
  for (const char *op : {"softmax", "log_softmax"})
    for (Type type : {Type::F32, Type::BF16, Type::F64})
      for (int64_t n : {1, 5, 16, 20, 37, 300}) {
        Tensor x = random(type, {3, n}, -3, 3);
        std::fill(x.values.begin() + n, x.values.begin() + 2 * n, -kInfinity);
        SCOPED_TRACE(op + (" of " + text(x)));
        // Kept by name: an element of a temporary vector does not outlive it.
        std::vector<Tensor> results = run("%r = train." + std::string(op) + " %0 : " + text(x), {x}, {x});
        for (int64_t row = 0; row < 3; ++row)
          for (int64_t i = 0; i < n; ++i)
            EXPECT_EQ(row == 1, std::isnan(results[0].at({row, i}))) << "element " << i << " of row " << row << " is " << results[0].at({row, i});
      }
}

void checkNorm(Type type, std::vector<int64_t> shape, bool centered, bool affine) {
  int64_t n = shape.back();
  std::vector<int64_t> lead(shape.begin(), shape.end() - 1);
  Type stat = type == Type::F64 ? Type::F64 : Type::F32;
  Tensor x = random(type, shape, 3, 5), gamma = random(type, {n}, 0.5, 1.5, 2), beta = random(type, {n}, -1, 1, 3), dy = random(type, shape, -1, 1, 4);
  int64_t rows = x.count() / n;
  std::vector<double> y, means, rstds, dx, dgamma(n), dbeta(n);
  for (int64_t row = 0; row < rows; ++row) {
    const double *in = &x.values[row * n], *cotangent = &dy.values[row * n];
    double mean = 0, variance = 0, product = 0, sum = 0;
    for (int64_t i = 0; i < n; ++i)
      mean += centered ? in[i] / n : 0;
    for (int64_t i = 0; i < n; ++i)
      variance += (in[i] - mean) * (in[i] - mean) / n;
    double rstd = 1 / std::sqrt(variance + 1e-5);
    means.push_back(mean);
    rstds.push_back(rstd);
    for (int64_t i = 0; i < n; ++i) {
      double normalized = (in[i] - mean) * rstd, g = cotangent[i] * (affine ? gamma.values[i] : 1);
      y.push_back(normalized * (affine ? gamma.values[i] : 1) + (affine && centered ? beta.values[i] : 0));
      product += g * normalized / n;
      sum += centered ? g / n : 0;
      dgamma[i] += cotangent[i] * normalized;
      dbeta[i] += cotangent[i];
    }
    for (int64_t i = 0; i < n; ++i)
      dx.push_back(rstd * (cotangent[i] * (affine ? gamma.values[i] : 1) - sum - (in[i] - mean) * rstd * product));
  }
  Tensor out = like(type, shape), statistic = like(stat, lead), vector = like(type, {n});
  std::string name = centered ? "layer_norm" : "rms_norm";
  std::string gammaText = affine ? " gamma %1 : " + text(gamma) : "", betaText = affine && centered ? " beta %2 : " + text(beta) : "";
  SCOPED_TRACE(name + " " + text(x));
  std::vector<Tensor> inputs = {x};
  if (affine)
    inputs.push_back(gamma);
  if (affine && centered)
    inputs.push_back(beta);
  std::vector<Tensor> outputs = {out};
  if (centered)
    outputs.push_back(statistic);
  outputs.push_back(statistic);
  auto results = run("%r:" + std::to_string(outputs.size()) + " = train." + name + " %0" + gammaText + betaText + " {epsilon = 1.0e-5 : f64} : " + text(x) + " -> " + text(out) + ", " + text(statistic), inputs, outputs);
  double relative = type == Type::F64 ? 1e-12 : tolerance(type), absolute = type == Type::F64 ? 1e-12 : type == Type::F32 ? 5e-6 : 1e-5;
  expectNear(results[0], y, relative, absolute);
  if (centered)
    expectNear(results[1], means, stat == Type::F32 ? 3e-7 : 1e-14, 0);
  expectNear(results.back(), rstds, stat == Type::F32 ? 3e-6 : 1e-12, 0);

  inputs = {x};
  std::string operands = "%0" + (affine ? gammaText : "");
  if (affine)
    inputs.push_back(gamma);
  auto next = [&](const Tensor &tensor) {
    inputs.push_back(tensor);
    return "%" + std::to_string(inputs.size() - 1);
  };
  if (centered)
    operands += " mean " + next(results[1]);
  operands += " rstd " + next(results.back());
  operands += " cotangent " + next(dy);
  std::string tail = " : " + text(x) + ", " + text(statistic) + ", " + text(dy) + (centered ? "" : " -> " + text(out));
  expectNear(run("%r = train." + name + "_grad " + operands + tail, inputs, {out})[0], dx, relative, absolute);
  // With the gradient that goes past the norm: added before the only rounding, in place of it too.
  Tensor addend = random(type, shape, -4, 4, 5);
  std::vector<double> sum = dx;
  for (size_t i = 0; i < sum.size(); ++i)
    sum[i] += addend.values[i];
  operands += " addend " + next(addend) + " : " + text(addend);
  expectNear(run("%r = train." + name + "_grad " + operands + tail, inputs, {out})[0], sum, relative, absolute);
  checkInPlace("%r = train." + name + "_grad " + operands + tail, inputs, {out}, static_cast<int>(inputs.size()) - 1);

  inputs = {x};
  operands = "%0";
  if (centered)
    operands += " mean " + next(results[1]);
  operands += " rstd " + next(results.back());
  operands += " cotangent " + next(dy);
  tail = " : " + text(x) + ", " + text(statistic) + ", " + text(dy) + " -> " + text(vector) + (centered ? ", " + text(vector) : "");
  auto grads = run("%r" + std::string(centered ? ":2" : "") + " = train." + name + "_parameter_grad " + operands + tail, inputs, centered ? std::vector<Tensor>{vector, vector} : std::vector<Tensor>{vector});
  expectNear(grads[0], dgamma, relative, absolute * std::sqrt(rows));
  if (centered)
    expectNear(grads[1], dbeta, relative, absolute * std::sqrt(rows));
}

TEST(NormKernels, ForwardAndGradients) {
  for (Type type : {Type::F32, Type::BF16, Type::F64})
    for (bool centered : {true, false})
      for (bool affine : {true, false}) {
        checkNorm(type, {3, 50, 75}, centered, affine);
        if (affine)
          checkNorm(type, {90, 1, 320}, centered, affine);
      }
}

void checkCrossEntropy(Type type, int64_t rows, int64_t classes, double smoothing) {
  Tensor logits = random(type, {2, rows, classes}, -6, 6), labels = random(Type::I64, {2, rows}, 0, classes, 3);
  for (size_t i = 0; i < labels.values.size(); i += 5)
    labels.values[i] = -100;
  Type stat = type == Type::F64 ? Type::F64 : Type::F32;
  Tensor scale = full(stat, {}, 0.125), scalar = like(stat, {}), lse = like(stat, {2, rows}), out = like(type, logits.shape);
  double loss = 0, count = 0;
  std::vector<double> lses, grad;
  for (int64_t row = 0; row < 2 * rows; ++row) {
    double logSumExp, mean = 0;
    std::vector<double> p = softmaxRow(&logits.values[row * classes], classes, &logSumExp);
    lses.push_back(logSumExp);
    bool counted = labels.values[row] != -100;
    for (int64_t i = 0; i < classes; ++i) {
      double target = (i == labels.values[row] ? 1 - smoothing : 0) + smoothing / classes;
      grad.push_back(counted ? (p[i] - target) * 0.125 : 0);
      mean += logits.values[row * classes + i] / classes;
    }
    if (counted) {
      count += 1;
      loss += (1 - smoothing) * (logSumExp - logits.values[row * classes + static_cast<int64_t>(labels.values[row])]) + smoothing * (logSumExp - mean);
    }
  }
  std::string attributes = " {label_smoothing = " + std::to_string(smoothing) + " : f64} ";
  SCOPED_TRACE(text(logits) + attributes);
  auto results = run("%r:3 = train.cross_entropy %0, %1" + attributes + ": " + text(logits) + ", " + text(labels) + " -> " + text(scalar) + ", " + text(lse), {logits, labels}, {scalar, scalar, lse});
  double relative = type == Type::F64 ? 1e-13 : 1e-6;
  expectNear(results[0], {loss}, relative, 0);
  expectNear(results[1], {count}, 0, 0);
  expectNear(results[2], lses, relative, 0);
  expectNear(run("%r = train.cross_entropy_grad %0, %1, %2, %3" + attributes + ": " + text(logits) + ", " + text(labels) + ", " + text(lse) + ", " + text(scalar) + " -> " + text(out),
                 {logits, labels, results[2], scale}, {out})[0],
             grad, type == Type::F64 ? 1e-12 : tolerance(type) * 2, type == Type::F64 ? 1e-15 : 1e-7);
}

TEST(CrossEntropyKernels, LossAndGradient) {
  for (Type type : {Type::F32, Type::BF16, Type::F64}) {
    checkCrossEntropy(type, 9, 10, 0);
    checkCrossEntropy(type, 33, 1000, 0);
    checkCrossEntropy(type, 9, 300, 0.1);
  }
}

void checkCountCorrect(Type type, int64_t rows, int64_t classes) {
  // Few values, so that the largest one is often there twice.
  Tensor logits = random(type, {2, rows, classes}, -3, 3), labels = random(Type::I64, {2, rows}, 0, classes, 3);
  for (double &value : logits.values)
    value = std::floor(value);
  for (size_t row = 0; row < labels.values.size(); ++row) {
    auto begin = logits.values.begin() + int64_t(row) * classes, end = begin + classes;
    if (row % 3 == 0) // the first of the largest
      labels.values[row] = double(std::max_element(begin, end) - begin);
    if (row % 7 == 1) // the last
      labels.values[row] = double(classes - 1 - (std::max_element(std::make_reverse_iterator(end), std::make_reverse_iterator(begin)) - std::make_reverse_iterator(end)));
    if (row % 5 == 2)
      labels.values[row] = -100;
  }
  // A NaN is not beaten, and beats nothing.
  logits.values[0] = logits.values[size_t(3 * classes + classes - 1)] = NAN;
  double count = 0;
  for (int64_t row = 0; row < 2 * rows; ++row) {
    auto begin = logits.values.begin() + row * classes, end = begin + classes;
    if (std::any_of(begin, end, [](double value) { return std::isnan(value); }))
      continue;
    count += labels.values[size_t(row)] == double(std::max_element(begin, end) - begin);
  }
  Tensor scalar = like(type == Type::F64 ? Type::F64 : Type::F32, {});
  SCOPED_TRACE(text(logits));
  EXPECT_GT(count, 0);
  expectNear(run("%r = train.count_correct %0, %1 : " + text(logits) + ", " + text(labels) + " -> " + text(scalar), {logits, labels}, {scalar})[0], {count}, 0, 0);
}

TEST(CrossEntropyKernels, CountOfCorrectLabels) {
  for (Type type : {Type::F32, Type::BF16, Type::F64}) {
    checkCountCorrect(type, 21, 5);
    checkCountCorrect(type, 10, 37);
    checkCountCorrect(type, 9, 1000);
  }
}

void checkAttention(Type scoresType, Type type, int64_t t, int64_t s, bool causal, int mask) {
  std::vector<int64_t> shape = {2, 3, t, s};
  int64_t d = 20;
  Tensor scores = random(scoresType, shape, -5, 5), dp = random(scoresType, shape, -1, 1, 2);
  Tensor maskTensor = mask == 1 ? random(Type::I1, {2, 1, 1, s}, 0, 2, 3) : random(Type::F32, {1, 1, t, s}, -2, 0, 3);
  Tensor output = random(type, {2, 3, t, d}, -1, 1, 4), cotangent = random(type, {2, 3, t, d}, -1, 1, 5);
  Type stat = scoresType == Type::F64 ? Type::F64 : Type::F32;
  std::vector<double> p, ds, lses;
  for (int64_t row = 0; row < 6 * t; ++row) {
    std::vector<double> x;
    int64_t position = row % t, batch = row / t / 3;
    for (int64_t i = 0; i < s; ++i) {
      double score = scores.values[row * s + i];
      if (mask == 1 && maskTensor.at({batch, 0, 0, i}) == 0)
        score = -kInfinity;
      if (mask == 2)
        score += maskTensor.at({0, 0, position, i});
      x.push_back(causal && i > position + s - t ? -kInfinity : score);
    }
    double lse, delta = 0;
    std::vector<double> probabilities = softmaxRow(x.data(), s, &lse);
    bool sees = std::any_of(x.begin(), x.end(), [](double value) { return value != -kInfinity; });
    lses.push_back(sees ? lse : -kInfinity);
    for (int64_t i = 0; i < d; ++i)
      delta += output.values[row * d + i] * cotangent.values[row * d + i];
    for (int64_t i = 0; i < s; ++i) {
      p.push_back(sees ? probabilities[i] : 0);
      ds.push_back(p.back() * (dp.values[row * s + i] - delta));
    }
  }
  Tensor out = like(type, shape), lse = like(stat, {2, 3, t});
  std::string maskText = mask ? " mask %1 : " + text(maskTensor) : "", causalText = causal ? " {causal}" : "";
  std::vector<Tensor> inputs = {scores};
  if (mask)
    inputs.push_back(maskTensor);
  std::string op = "%r:2 = train.attention_probabilities %0" + maskText + causalText + " : " + text(scores) + " -> " + text(out) + ", " + text(lse);
  SCOPED_TRACE(op);
  auto results = run(op, inputs, {out, lse});
  expectNear(results[0], p, 2 * tolerance(type), 1e-30);
  expectNear(results[1], lses, stat == Type::F32 ? 1e-6 : 1e-13, stat == Type::F32 ? 1e-6 : 1e-13);

  auto next = [&](const Tensor &tensor) {
    inputs.push_back(tensor);
    return "%" + std::to_string(inputs.size() - 1);
  };
  std::string operands = " lse " + next(results[1]) + " dp " + next(dp) + " output " + next(output) + " cotangent " + next(cotangent);
  auto grads = run("%r:2 = train.attention_scores_grad %0" + maskText + operands + causalText + " : " + text(scores) + ", " + text(lse) + ", " + text(dp) + ", " + text(output) + ", " +
                       text(cotangent) + " -> " + text(out) + ", " + text(out),
                   inputs, {out, out});
  expectNear(grads[0], p, scoresType == Type::F64 ? 1e-12 : 2 * tolerance(type), 1e-30);
  expectNear(grads[1], ds, scoresType == Type::F64 ? 1e-12 : 2 * tolerance(type), scoresType == Type::F64 ? 1e-13 : 3e-6);
}

TEST(AttentionKernels, MasksAndDiagonals) {
  for (int mask : {0, 1, 2})
    for (bool causal : {false, true}) {
      checkAttention(Type::F32, Type::F32, 7, 7, causal, mask);
      checkAttention(Type::F32, Type::BF16, 37, 37, causal, mask);
      checkAttention(Type::F32, Type::F32, 33, 64, causal, mask);
    }
  checkAttention(Type::F64, Type::F64, 33, 40, true, 0);
  checkAttention(Type::F32, Type::F32, 20, 11, true, 0); // the first rows see nothing
  checkAttention(Type::F32, Type::F32, 300, 300, true, 0);
}

TEST(AttentionKernels, Rotary) {
  for (bool interleaved : {false, true})
    for (bool inverse : {false, true})
      for (Type type : {Type::F32, Type::BF16}) {
        Tensor x = random(type, {2, 3, 5, 36}), cosine = random(Type::F32, {1, 1, 5, 18}, -1, 1, 2), sine = random(Type::F32, {1, 1, 5, 18}, -1, 1, 3);
        std::vector<double> expected(x.count());
        for (int64_t row = 0; row < 30; ++row)
          for (int64_t i = 0; i < 18; ++i) {
            int64_t first = row * 36 + (interleaved ? 2 * i : i), second = row * 36 + (interleaved ? 2 * i + 1 : i + 18);
            double c = cosine.at({0, 0, row % 5, i}), s = sine.at({0, 0, row % 5, i}) * (inverse ? -1 : 1);
            expected[first] = x.values[first] * c - x.values[second] * s;
            expected[second] = x.values[second] * c + x.values[first] * s;
          }
        std::string attributes = std::string(" {") + (interleaved ? "interleaved" : "") + (interleaved && inverse ? ", " : "") + (inverse ? "inverse" : "") + "}";
        expectNear(run("%r = train.rotary %0, %1, %2" + attributes + " : " + text(x) + ", " + text(cosine), {x, cosine, sine}, {like(type, x.shape)})[0], expected, tolerance(type), 1e-6);
      }
}

} // namespace

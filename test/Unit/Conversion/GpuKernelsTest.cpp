//===- GpuKernelsTest.cpp - kernels that only GPUs have --------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "KernelHarness.h"
#include "zopt/Runtime/Core/ExactSum.h"
#include <cmath>
#include <cstring>
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

/// The sum of squares of a block of 128 elements in the kernel's order: threads of 8 or 4 elements, then pairs of threads half of them apart, a quarter, ...
double blockSum(const double *x, int64_t lanes) {
  double sums[32];
  int64_t threads = 128 / lanes;
  for (int64_t thread = 0; thread < threads; ++thread) {
    const double *own = x + thread * lanes;
    sums[thread] = own[0] * own[0];
    for (int64_t i = 1; i < lanes; ++i)
      sums[thread] = std::fma(own[i], own[i], sums[thread]);
  }
  while (threads /= 2)
    for (int64_t thread = 0; thread < threads; ++thread)
      sums[thread] += sums[thread + threads];
  return sums[0];
}

TEST(ExactNormKernels, SquaresOfAllGradients) {
  // Ranges of less than a round, of a part of one, and of several; blocks of threads that begin and end in the midst of them.
  for (Type type : {Type::BF16, Type::F32, Type::F64}) {
    std::vector<Tensor> gradients;
    std::vector<double> sums;
    for (int64_t blocks : {1, 301, 37, 0, 520}) {
      Tensor &gradient = gradients.emplace_back(random(type, {blocks, 128}, -1, 1, blocks));
      if (blocks > 1) {
        gradient.values[5] = std::ldexp(1, 100); // whose square no fp32 number is
        gradient.values.back() = std::ldexp(1, -90);
      }
      for (int64_t block = 0; block < blocks; ++block)
        sums.push_back(blockSum(gradient.values.data() + block * 128, type == Type::BF16 ? 8 : 4));
    }
    const int64_t count = sums.size();
    for (auto [begin, end, blocks] : {std::tuple<int64_t, int64_t, int64_t>{0, count, 4}, {0, count, 1}, {1, 339, 2}, {0, 1, 1}, {857, count, 1}})
      EXPECT_EQ(rounded(runSquareSums(gradients, begin, end, blocks)), rounded(wordsOf({sums.begin() + begin, sums.begin() + end}))) << begin << " to " << end << " by " << blocks;
    gradients[4].values[7] = kInfinity;
    gradients[4].values[300] = std::numeric_limits<double>::quiet_NaN();
    std::vector<int64_t> words = runSquareSums(gradients, 0, count, 3);
    EXPECT_EQ(words[72], 1);
    EXPECT_EQ(words[73], 1);
  }
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

/// Bytes of bf16, of several kinds of buckets: what is set to 0, and nothing else.
TEST(GpuKernels, PaddingOfManyBuckets) {
  std::vector<ZeroedKind> kinds = {{3, {{5, 6}, {100, 356}, {357, 1000}}}, {1, {{0, 64}}}, {2, {{1, 128}, {900, 1000}}}};
  std::vector<Tensor> buffers, expected;
  for (const ZeroedKind &kind : kinds)
    for (int64_t i = 0; i < kind.count; ++i) {
      buffers.push_back(random(Type::BF16, {1100}, 1, 2, buffers.size()));
      expected.push_back(buffers.back());
      for (auto [begin, end] : kind.stretches)
        std::fill(expected.back().values.begin() + begin, expected.back().values.begin() + end, 0);
    }
  std::vector<Tensor> results = runZeros(kinds, buffers);
  for (size_t i = 0; i < buffers.size(); ++i)
    EXPECT_EQ(results[i].values, expected[i].values) << i;
}

Tensor like(Type type, std::vector<int64_t> shape) { return Tensor{type, std::move(shape), {}, {}}; }

TEST(GpuKernels, ResultsInPlaceOfOperands) {
  Tensor x = random(Type::BF16, {5, 1501}), dy = random(Type::BF16, {5, 1501}, -1, 1, 2), y = like(Type::BF16, x.shape);
  checkInPlace("%r = train.gelu %0 {approximate = 1 : i32} : tensor<5x1501xbf16>", {x}, {y}, 0);
  checkInPlace("%r = train.add %0, %1 : tensor<5x1501xbf16>, tensor<5x1501xbf16> -> tensor<5x1501xbf16>", {x, dy}, {y}, 1);
  for (int64_t n : {70, 1024, 9001}) {
    std::string type = "tensor<3x" + std::to_string(n) + "xbf16>";
    Tensor row = random(Type::BF16, {3, n}), cotangent = random(Type::BF16, {3, n}, -1, 1, 2);
    checkInPlace("%r = train.softmax %0 : " + type, {row}, {like(Type::BF16, row.shape)}, 0);
    checkInPlace("%r = train.softmax_grad %0, %1 : " + type, {row, cotangent}, {like(Type::BF16, row.shape)}, 1);
    Tensor rstd = full(Type::F32, {3}, 0.7);
    checkInPlace("%r = train.rms_norm_grad %0 rstd %1 cotangent %2 : " + type + ", tensor<3xf32>, " + type + " -> " + type, {row, rstd, cotangent}, {like(Type::BF16, row.shape)}, 2);
    Tensor mean = full(Type::F32, {3}, 0.1), addend = random(Type::BF16, {3, n}, -1, 1, 4);
    checkInPlace("%r = train.layer_norm_grad %0 mean %1 rstd %2 cotangent %3 addend %4 : " + type + " : " + type + ", tensor<3xf32>, " + type, {row, mean, rstd, cotangent, addend}, {like(Type::BF16, row.shape)}, 4);
    checkInPlace("%r = train.rms_norm_grad %0 rstd %1 cotangent %2 addend %3 : " + type + " : " + type + ", tensor<3xf32>, " + type + " -> " + type, {row, rstd, cotangent, addend}, {like(Type::BF16, row.shape)}, 3);
  }
  // Logits and their gradient, where the label's element is written by another thread than the one that would read it.
  for (int64_t classes : {10, 1000, 50257}) {
    Tensor logits = random(Type::BF16, {4, classes}, -6, 6), labels = random(Type::I64, {4}, 0, classes, 3), lse = full(Type::F32, {4}, 9), scale = full(Type::F32, {}, 0.25);
    std::string type = "tensor<4x" + std::to_string(classes) + "xbf16>";
    checkInPlace("%r = train.cross_entropy_grad %0, %1, %2, %3 {label_smoothing = 0.1 : f64} : " + type + ", tensor<4xi64>, tensor<4xf32>, tensor<f32> -> " + type, {logits, labels, lse, scale},
                 {like(Type::BF16, logits.shape)}, 0);
  }
}

/// Maxima over windows and their gradients, in channels that lie last, where elements are equal, infinite or not numbers, and windows reach over every border.
TEST(GpuKernels, MaxPooling) {
  struct Case {
    std::vector<int64_t> input, window, strides, pads; // the input without batch and channels
    int64_t channels;
  };
  for (const Case &c : {Case{{9, 12}, {3, 3}, {2, 2}, {1, 1, 1, 1}, 64}, Case{{8, 6}, {2, 2}, {2, 2}, {0, 0, 0, 0}, 8}, Case{{5, 7}, {3, 2}, {1, 2}, {1, 0, 1, 1}, 13}, Case{{17}, {4}, {3}, {2, 2}, 40}})
    for (Type type : {Type::BF16, Type::F32}) {
      const size_t axes = c.input.size();
      Tensor x = like(type, {2, c.channels}), y = x;
      for (size_t axis = 0; axis < axes; ++axis) {
        x.shape.push_back(c.input[axis]);
        y.shape.push_back((c.input[axis] + c.pads[axis] + c.pads[axes + axis] - c.window[axis]) / c.strides[axis] + 1);
      }
      auto channelsLast = [&](Tensor &tensor) {
        tensor.strides.assign(axes + 2, 1);
        for (size_t axis = axes + 2, stride = c.channels; axis-- > 0;)
          if (axis != 1) {
            tensor.strides[axis] = stride;
            stride *= tensor.shape[axis];
          }
      };
      channelsLast(x);
      channelsLast(y);
      std::mt19937 engine(5);
      for (int64_t i = 0; i < x.count(); ++i) {
        int kind = engine() % 40;
        x.values.push_back(kind == 0 ? std::nan("") : kind == 1 ? kInfinity : kind < 12 ? -kInfinity : double(engine() % 5) - 2);
      }
      Tensor indices = y, dy = y;
      indices.type = Type::I8;
      for (int64_t i = 0; i < y.count(); ++i)
        dy.values.push_back(double(engine() % 9) - 4);
      // What every window has.
      std::vector<double> maxima, places, gradient(x.count(), 0);
      auto split = [](int64_t number, const std::vector<int64_t> &shape) {
        std::vector<int64_t> digits(shape.size());
        for (size_t axis = shape.size(); axis-- > 0; number /= shape[axis])
          digits[axis] = number % shape[axis];
        return digits;
      };
      int64_t size = 1;
      for (int64_t n : c.window)
        size *= n;
      for (int64_t i = 0; i < y.count(); ++i) {
        std::vector<int64_t> o = split(i, y.shape);
        double best = -kInfinity;
        int64_t found = -1, source = 0;
        for (int64_t number = 0; number < size; ++number) {
          std::vector<int64_t> k = split(number, c.window), at = {o[0], o[1]};
          bool inside = true;
          int64_t linear = o[0] * c.channels + o[1];
          for (size_t axis = 0; axis < axes; ++axis) {
            at.push_back(o[2 + axis] * c.strides[axis] + k[axis] - c.pads[axis]);
            inside &= at.back() >= 0 && at.back() < c.input[axis];
            linear = linear * c.input[axis] + at.back();
          }
          if (!inside || !(found < 0 || x.at(at) > best || std::isnan(x.at(at))))
            continue;
          best = x.at(at), found = number, source = linear;
        }
        maxima.push_back(best);
        places.push_back(found);
        gradient[source] += dy.values[i];
      }
      auto list = [](const std::vector<int64_t> &values) {
        std::string text;
        for (int64_t value : values)
          text += (text.empty() ? "" : ", ") + std::to_string(value);
        return "[" + text + "]";
      };
      auto named = [](const Tensor &tensor, const std::string &element) {
        std::string text = "tensor<";
        for (int64_t n : tensor.shape)
          text += std::to_string(n) + "x";
        return text + element + ">";
      };
      const std::string element = type == Type::BF16 ? "bf16" : "f32";
      const std::string how = " window " + list(c.window) + " strides " + list(c.strides) + " dilations " + list(std::vector<int64_t>(axes, 1)) + " pads " + list(c.pads) + " : ";
      auto results = run("%r:2 = train.max_pool %0" + how + named(x, element) + " -> " + named(y, element) + ", " + named(y, "i8"), {x}, {y, indices});
      expectNear(results[0], maxima, 0, 0);
      expectNear(results[1], places, 0, 0);
      indices.values = places;
      Tensor dx = x;
      results = run("%r = train.max_pool_grad %0, %1" + how + named(y, "i8") + ", " + named(y, element) + " -> " + named(x, element), {indices, dy}, {dx});
      expectNear(results[0], gradient, 0, 0);
    }
}

TEST(GpuKernels, LongRows) {
  // A vocabulary, in rows with and without padding.
  for (int64_t stride : {50257, 50304}) {
    Tensor logits = random(Type::BF16, {3, 50257}, -6, 6), labels = random(Type::I64, {3}, 0, 50257, 3), lse = like(Type::F32, {3});
    logits.strides = {stride, 1};
    labels.values[1] = -100;
    auto results = run("%r:3 = train.cross_entropy %0, %1 : tensor<3x50257xbf16>, tensor<3xi64> -> tensor<f32>, tensor<3xf32>", {logits, labels}, {like(Type::F32, {}), like(Type::F32, {}), lse});
    std::vector<double> expected;
    for (int64_t row = 0; row < 3; ++row) {
      double sum = 0;
      for (int64_t i = 0; i < 50257; ++i)
        sum += std::exp(logits.values[row * 50257 + i]);
      expected.push_back(std::log(sum));
    }
    expectNear(results[2], expected, 1e-6, 0);
    EXPECT_EQ(results[1].values[0], 2);
  }
  // Rows without a number, and with nothing but -infinity.
  Tensor special{Type::F32, {3, 4}, {1, std::nan(""), 2, 3, -kInfinity, -kInfinity, -kInfinity, -kInfinity, kInfinity, 0, 1, 2}, {}}, labels = full(Type::I64, {3}, 0);
  auto results = run("%r:3 = train.cross_entropy %0, %1 : tensor<3x4xf32>, tensor<3xi64> -> tensor<f32>, tensor<3xf32>", {special, labels}, {like(Type::F32, {}), like(Type::F32, {}), like(Type::F32, {3})});
  EXPECT_TRUE(std::isnan(results[2].values[0]));
  EXPECT_EQ(results[2].values[1], -kInfinity);
  EXPECT_TRUE(std::isnan(results[2].values[2]));
}

/// A loss and its gradient over one reading, in rows `stride` elements apart, against double precision; every fourth label from `ignoredFrom` on is ignored.
void checkCrossEntropyStep(Type type, int64_t rows, int64_t classes, int64_t stride, double smoothing, int64_t ignoredFrom = 1) {
  constexpr double kScale = 0.125;
  std::string name = type == Type::BF16 ? "bf16" : "f32", shape = std::to_string(rows) + "x" + std::to_string(classes) + "x" + name;
  std::string op = "%r:3 = train.cross_entropy_step %0, %1, %2 {ignore_index = -7 : i64, label_smoothing = " + std::to_string(smoothing) + " : f64} : tensor<" + shape + ">, tensor<" + std::to_string(rows) +
                   "xi64>, tensor<f32> -> tensor<f32>";
  SCOPED_TRACE(op + " stride " + std::to_string(stride));
  Tensor logits = random(type, {rows, classes}, -6, 6), labels = random(Type::I64, {rows}, 0, classes, 3), scale = full(Type::F32, {}, kScale), result = like(type, {rows, classes});
  logits.strides = result.strides = {stride, 1};
  labels.values[0] = classes - 1;
  for (int64_t row = ignoredFrom; row < rows; row += 4)
    labels.values[row] = -7;
  double loss = 0, count = 0;
  std::vector<double> gradient;
  for (int64_t row = 0; row < rows; ++row) {
    const double *x = &logits.values[row * classes];
    double sum = 0, mean = 0;
    for (int64_t i = 0; i < classes; ++i) {
      sum += std::exp(x[i]);
      mean += x[i] / classes;
    }
    bool counted = labels.values[row] != -7;
    for (int64_t i = 0; i < classes; ++i)
      gradient.push_back(counted ? kScale * (std::exp(x[i]) / sum - (i == labels.values[row] ? 1 - smoothing : 0) - smoothing / classes) : 0);
    if (!counted)
      continue;
    count += 1;
    loss += (1 - smoothing) * (std::log(sum) - x[static_cast<int64_t>(labels.values[row])]) + smoothing * (std::log(sum) - mean);
  }
  std::vector<Tensor> inputs = {logits, labels, scale}, outputs = {result, like(Type::F32, {}), like(Type::F32, {})};
  auto results = run(op, inputs, outputs);
  expectNear(results[0], gradient, type == Type::BF16 ? 8.2e-3 : 6e-6, 1e-7);
  expectNear(results[1], {loss}, 2e-6, 0);
  expectNear(results[2], {count}, 0, 0);
  checkInPlace(op, inputs, outputs, 0);
}

TEST(GpuKernels, LossAndGradientOverOneReading) {
  for (Type type : {Type::BF16, Type::F32})
    for (double smoothing : {0.0, 0.1}) {
      checkCrossEntropyStep(type, 9, 10, 10, smoothing);
      checkCrossEntropyStep(type, 6, 1000, 1000, smoothing);
      checkCrossEntropyStep(type, 5, 1003, 1024, smoothing);
      checkCrossEntropyStep(type, 3, 50257, 50257, smoothing);
      checkCrossEntropyStep(type, 3, 50257, 50304, smoothing);
    }
  // Nothing counts.
  Tensor logits = random(Type::BF16, {4, 300}, -6, 6), labels = full(Type::I64, {4}, -100), scale = full(Type::F32, {}, 0.5);
  auto results = run("%r:3 = train.cross_entropy_step %0, %1, %2 : tensor<4x300xbf16>, tensor<4xi64>, tensor<f32> -> tensor<f32>", {logits, labels, scale},
                     {like(Type::BF16, {4, 300}), like(Type::F32, {}), like(Type::F32, {})});
  expectNear(results[0], std::vector<double>(1200, 0), 0, 0);
  expectNear(results[1], {0}, 0, 0);
  expectNear(results[2], {0}, 0, 0);
}

/// The bytes are those of the two ops that the step stands for.
TEST(GpuKernels, OneReadingGivesWhatTwoGive) {
  Tensor logits = random(Type::BF16, {3, 50257}, -6, 6), labels = random(Type::I64, {3}, 0, 50257, 3), scale = full(Type::F32, {}, 1.0 / 3), scalar = like(Type::F32, {}), result = like(Type::BF16, {3, 50257});
  logits.strides = result.strides = {50304, 1};
  auto loss = run("%r:3 = train.cross_entropy %0, %1 : tensor<3x50257xbf16>, tensor<3xi64> -> tensor<f32>, tensor<3xf32>", {logits, labels}, {scalar, scalar, like(Type::F32, {3})});
  auto gradient = run("%r = train.cross_entropy_grad %0, %1, %2, %3 : tensor<3x50257xbf16>, tensor<3xi64>, tensor<3xf32>, tensor<f32> -> tensor<3x50257xbf16>", {logits, labels, loss[2], scale}, {result});
  auto step = run("%r:3 = train.cross_entropy_step %0, %1, %2 : tensor<3x50257xbf16>, tensor<3xi64>, tensor<f32> -> tensor<f32>", {logits, labels, scale}, {result, scalar, scalar});
  EXPECT_EQ(step[0].values, gradient[0].values);
  EXPECT_EQ(step[1].values, loss[0].values);
  EXPECT_EQ(step[2].values, loss[1].values);
}

TEST(GpuKernels, ColumnsInSeveralChunks) {
  for (auto [rows, columns] : {std::pair<int64_t, int64_t>(5000, 96), {3001, 7}, {20000, 1}, {700, 2051}}) {
    Tensor x = random(Type::BF16, {rows, columns}, -1, 1), out = like(Type::F32, {columns});
    std::string type = "tensor<" + std::to_string(rows) + "x" + std::to_string(columns) + "xbf16>", result = "tensor<" + std::to_string(columns) + "xbf16>";
    Tensor sums = run("%r = train.reduce_sum %0 [0] : " + type + " -> " + result, {x}, {like(Type::BF16, {columns})})[0];
    std::vector<double> expected(columns);
    for (int64_t i = 0; i < rows * columns; ++i)
      expected[i % columns] += x.values[i];
    expectNear(sums, expected, 4.1e-3, 1e-3);
  }
  // Few long rows are cut, too.
  Tensor x = random(Type::F32, {2, 70001}, -1, 1);
  Tensor sums = run("%r = train.reduce_sum %0 [1] : tensor<2x70001xf32> -> tensor<2xf32>", {x}, {like(Type::F32, {2})})[0];
  std::vector<double> expected(2);
  for (size_t i = 0; i < x.values.size(); ++i)
    expected[i / 70001] += x.values[i];
  expectNear(sums, expected, 3e-6, 1e-4);
}

/// The bits of a launch of its own, also where a thread of the last block stands for several of it (more than 64 chunks of 256 columns), where only some are needed, and where blocks become narrower.
TEST(GpuKernels, TheLastBlockSumsAsALaunchOfItsOwn) {
  auto check = [](const std::string &op, const std::vector<Tensor> &inputs, const std::vector<Tensor> &outputs, bool fits = true) {
    const std::string ptx = ptxOf(op, inputs, outputs);
    EXPECT_EQ(ptx.find("_total") == std::string::npos, fits) << op;
    EXPECT_EQ(ptx.find("fence.acq_rel.gpu") != std::string::npos, fits) << op;
    std::vector<Tensor> joined = run(op, inputs, outputs);
    setTotalsApart(true);
    EXPECT_NE(ptxOf(op, inputs, outputs).find("_total"), std::string::npos) << op;
    std::vector<Tensor> apart = run(op, inputs, outputs);
    setTotalsApart(false);
    for (size_t i = 0; i < joined.size(); ++i)
      EXPECT_EQ(0, std::memcmp(joined[i].values.data(), apart[i].values.data(), joined[i].values.size() * 8)) << "result " << i << ": " << op;
  };
  auto shaped = [](const Tensor &tensor) {
    std::string text = "tensor<";
    for (int64_t size : tensor.shape)
      text += std::to_string(size) + "x";
    return text + nameOf(tensor.type) + ">";
  };
  for (auto [type, rows, columns] : {std::tuple<Type, int64_t, int64_t>{Type::BF16, 9100, 256}, {Type::BF16, 5000, 96}, {Type::BF16, 3001, 7}, {Type::F32, 700, 1027}, {Type::F64, 3000, 70}}) {
    Tensor x = random(type, {rows, columns}, -1, 1), sums = like(type, {columns});
    check("%r = train.reduce_sum %0 [0] : " + shaped(x) + " -> " + shaped(sums), {x}, {sums});
  }
  Tensor x = random(Type::BF16, {3, 2000, 40}, -1, 1), kept = like(Type::BF16, {3, 40});
  check("%r = train.reduce_max %0 [1] : " + shaped(x) + " -> " + shaped(kept), {x}, {kept});
  for (auto [rows, channels] : {std::pair<int64_t, int64_t>{10368, 128}, {6000, 24}}) {
    Tensor input = random(Type::F32, {rows, channels}, -1, 3), mean = like(Type::F32, {channels});
    check("%r:2 = train.batch_statistics %0 : " + shaped(input) + " -> " + shaped(mean), {input}, {mean, mean});
  }
}

/// A norm's gradient with the sums over its rows: the bits of the ops that have one result, and a sum that is right.
void checkNormSums(Type type, int64_t rows, int64_t n, bool centered) {
  Type stat = type == Type::F64 ? Type::F64 : Type::F32;
  std::string name = type == Type::BF16 ? "bf16" : type == Type::F32 ? "f32" : "f64", size = std::to_string(n);
  std::string row = "tensor<" + std::to_string(rows) + "x" + size + "x" + name + ">", vector = "tensor<" + size + "x" + name + ">", wide = "tensor<" + size + "x" + (stat == Type::F64 ? "f64" : "f32") + ">";
  std::string statistic = "tensor<" + std::to_string(rows) + "x" + (stat == Type::F64 ? "f64" : "f32") + ">", op = centered ? "train.layer_norm" : "train.rms_norm";
  Tensor x = random(type, {rows, n}), gamma = random(type, {n}, -2, 2, 2), mean = random(stat, {rows}, -0.1, 0.1, 3), rstd = random(stat, {rows}, 0.5, 1.5, 4), dy = random(type, {rows, n}, -1, 1, 5), addend = random(type, {rows, n}, -1, 1, 6);
  std::string statistics = centered ? " mean %2 rstd %3 cotangent %4" : " rstd %2 cotangent %3", tail = " : " + row + ", " + statistic + ", " + row + (centered ? "" : " -> " + row);
  std::vector<Tensor> inputs = centered ? std::vector<Tensor>{x, gamma, mean, rstd, dy, addend} : std::vector<Tensor>{x, gamma, rstd, dy, addend};
  std::string grad = op + "_grad %0 gamma %1 : " + vector + statistics + " addend %" + std::to_string(inputs.size() - 1) + " : " + row;
  Tensor out = like(type, {rows, n}), sum = like(stat, {n}), parameter = like(type, {n});
  std::vector<Tensor> outputs = centered ? std::vector<Tensor>{out, sum, parameter, sum} : std::vector<Tensor>{out, sum, sum};
  std::string all = "%r:" + std::to_string(outputs.size()) + " = " + grad + " {resultSegmentSizes = array<i32: 1, 1, " + (centered ? "1, " : "") + "1>}" + tail + " parameters " + wide + (centered ? ", " + vector : "") + " sum " + wide;
  SCOPED_TRACE(all);
  std::vector<Tensor> results = run(all, inputs, outputs);
  checkInPlace(all, inputs, outputs, static_cast<int>(inputs.size()) - 1);

  EXPECT_EQ(results[0].values, run("%r = " + grad + tail, inputs, {out})[0].values);
  std::vector<Tensor> fewer = centered ? std::vector<Tensor>{x, mean, rstd, dy} : std::vector<Tensor>{x, rstd, dy};
  std::string parameters = op + "_parameter_grad %0" + (centered ? " mean %1 rstd %2 cotangent %3" : " rstd %1 cotangent %2") + " : " + row + ", " + statistic + ", " + row + " -> " + wide + (centered ? ", " + vector : "");
  std::vector<Tensor> apart = run(std::string(centered ? "%r:2" : "%r") + " = " + parameters, fewer, centered ? std::vector<Tensor>{sum, parameter} : std::vector<Tensor>{sum});
  EXPECT_EQ(results[1].values, apart[0].values);
  if (centered)
    EXPECT_EQ(results[2].values, apart[1].values);
  // Without gamma's gradient.
  std::vector<Tensor> alone = run("%r:2 = " + grad + " {resultSegmentSizes = array<i32: 1, 0, " + (centered ? "0, " : "") + "1>}" + tail + " sum " + wide, inputs, {out, sum});
  EXPECT_EQ(alone[0].values, results[0].values);
  EXPECT_EQ(alone[1].values, results.back().values);

  std::vector<double> expected(n, 0), gammaGrad(n, 0);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < n; ++i) {
      expected[i] += results[0].values[r * n + i];
      gammaGrad[i] += dy.values[r * n + i] * (x.values[r * n + i] - (centered ? mean.values[r] : 0)) * rstd.values[r];
    }
  double tolerance = stat == Type::F64 ? 1e-13 : 2e-6;
  expectNear(results.back(), expected, tolerance, tolerance * std::sqrt(rows) * 10);
  expectNear(results[1], gammaGrad, tolerance, tolerance * std::sqrt(rows) * 10);
}

TEST(GpuKernels, SumsBesideTheGradientOfANorm) {
  for (bool centered : {true, false}) {
    checkNormSums(Type::BF16, 70, 75, centered);    // a warp a row, no vector whole
    checkNormSums(Type::F32, 5, 768, centered);     // fewer rows than a block has groups and the launch blocks
    checkNormSums(Type::F64, 9, 260, centered);
    checkNormSums(Type::BF16, 1100, 24, centered);  // two rows of a group, the last block shorter
    checkNormSums(Type::BF16, 400, 1128, centered); // two rows of a block
    checkNormSums(Type::F32, 3, 17000, centered);   // too long for registers
  }
}

TEST(GpuKernels, AFrequentTokenAndManyThatAreAbsent) {
  // 17% of the positions have one token, some have none: rows inside a chunk, across its ends and over many chunks.
  int64_t positions = 3000, rows = 5000, width = 40;
  Tensor indices = random(Type::I64, {positions}, -rows, rows, 5);
  for (int64_t i = 0; i < positions; i += 6)
    indices.values[i] = 17;
  Tensor cotangent = random(Type::F32, {positions, width}, -1, 1, 6);
  Tensor grad = run("%r = train.gather_grad %0, %1 0 : tensor<3000x40xf32>, tensor<3000xi64> -> tensor<5000x40xf32>", {cotangent, indices}, {like(Type::F32, {rows, width})})[0];
  std::vector<double> expected(rows * width);
  for (int64_t p = 0; p < positions; ++p)
    for (int64_t i = 0; i < width; ++i) {
      int64_t row = static_cast<int64_t>(indices.values[p]);
      expected[(row < 0 ? row + rows : row) * width + i] += cotangent.values[p * width + i];
    }
  expectNear(grad, expected, 1e-6, 1e-5);
}

/// As many rows as threads have several of at a time: four, two and, of an odd number, one.
TEST(GpuKernels, RowsOfATableTogether) {
  for (auto [positions, n] : {std::pair<int64_t, int64_t>{16384, 40}, {8194, 257}, {16385, 8}}) {
    Tensor table = random(Type::BF16, {50, n}), indices = random(Type::I64, {positions}, -50, 50), rows = like(Type::BF16, {positions, n});
    const std::string p = std::to_string(positions), c = std::to_string(n);
    Tensor found = run("%r = train.gather %0, %1 0 : tensor<50x" + c + "xbf16>, tensor<" + p + "xi64> -> tensor<" + p + "x" + c + "xbf16>", {table, indices}, {rows})[0];
    std::vector<double> expected;
    for (double index : indices.values)
      for (int64_t i = 0; i < n; ++i)
        expected.push_back(table.values[(index < 0 ? index + 50 : index) * n + i]);
    EXPECT_EQ(found.values, expected) << p;
  }
  // The width of the indices does not make accesses of the rows narrower.
  const std::string ptx = ptxOf("%r = train.gather %0, %1 0 : tensor<50x768xbf16>, tensor<16384xi64> -> tensor<16384x768xbf16>", {like(Type::BF16, {50, 768}), like(Type::I64, {16384})}, {like(Type::BF16, {16384, 768})});
  EXPECT_NE(ptx.find("st.global.v4.b32"), std::string::npos) << ptx;
}

TEST(GpuKernels, TranspositionsGoThroughTiles) {
  for (Type type : {Type::BF16, Type::F32, Type::I64, Type::I1})
    for (auto [rows, columns] : {std::pair<int64_t, int64_t>(128, 64), {70, 131}, {16, 33}}) {
      std::string name = nameOf(type), r = std::to_string(rows), c = std::to_string(columns);
      Tensor x = random(type, {2, rows, 3, columns}, 0, 2);
      Tensor y = run("%r = train.transpose %0 [0, 3, 2, 1] : tensor<2x" + r + "x3x" + c + "x" + name + "> -> tensor<2x" + c + "x3x" + r + "x" + name + ">", {x},
                     {like(type, {2, columns, 3, rows})})[0];
      for (int64_t a = 0; a < 2; ++a)
        for (int64_t i = 0; i < rows; ++i)
          for (int64_t b = 0; b < 3; ++b)
            for (int64_t j = 0; j < columns; ++j)
              ASSERT_EQ(y.at({a, j, b, i}), x.at({a, i, b, j}));
    }
}

size_t count(const std::string &text, const std::string &part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1))
    ++found;
  return found;
}

TEST(GpuKernels, AccessesAreWide) {
  for (const char *chip : {"sm_80", "sm_90"}) {
    Tensor x = random(Type::BF16, {64, 4096}), y = like(Type::BF16, x.shape);
    std::string ptx = ptxOf("%r = train.add %0, %1 : tensor<64x4096xbf16>, tensor<64x4096xbf16> -> tensor<64x4096xbf16>", {x, x}, {y}, chip);
    EXPECT_EQ(count(ptx, "ld.global"), 2u) << ptx;
    EXPECT_EQ(count(ptx, "ld.global.v4.b32"), 2u);
    EXPECT_EQ(count(ptx, "st.global"), 1u);
    EXPECT_EQ(count(ptx, "st.global.v4.b32"), 1u);
    // A row in registers is read once, whatever the number of passes: 1024 elements of a warp are four loads.
    Tensor row = random(Type::BF16, {64, 1024});
    ptx = ptxOf("%r = train.softmax %0 : tensor<64x1024xbf16>", {row}, {like(Type::BF16, row.shape)}, chip);
    EXPECT_EQ(count(ptx, "ld.global"), 4u) << ptx;
    EXPECT_EQ(count(ptx, "ld.global.v4.b32"), 4u);
    EXPECT_EQ(count(ptx, "st.global.v4.b32"), 4u);
    EXPECT_EQ(count(ptx, "ex2.approx"), 32u);
  }
}

} // namespace

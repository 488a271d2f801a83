//===- MovementKernelsTest.cpp - movement, gather, products and updates against references===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "KernelHarness.h"
#include <gtest/gtest.h>
#include <cmath>
#include <cstring>
#include <limits>
#include <tuple>

using namespace zopt::test;

namespace {

Tensor like(Type type, std::vector<int64_t> shape) { return Tensor{type, std::move(shape), {}, {}}; }

TEST(MovementKernels, TransposeReshapeSliceBroadcast) {
  Tensor x = random(Type::BF16, {3, 20, 4, 33});
  Tensor transposed = run("%r = train.transpose %0 [0, 2, 1, 3] : tensor<3x20x4x33xbf16> -> tensor<3x4x20x33xbf16>", {x}, {like(Type::BF16, {3, 4, 20, 33})})[0];
  Tensor reversed = run("%r = train.transpose %0 [3, 1, 0, 2] : tensor<3x20x4x33xbf16> -> tensor<33x20x3x4xbf16>", {x}, {like(Type::BF16, {33, 20, 3, 4})})[0];
  Tensor sliced = run("%r = train.slice %0 [2, 19, 0, 1] [-1, -3, 2, 5] : tensor<3x20x4x33xbf16> -> tensor<3x5x2x6xbf16>", {x}, {like(Type::BF16, {3, 5, 2, 6})})[0];
  for (int64_t a = 0; a < 3; ++a)
    for (int64_t b = 0; b < 20; ++b)
      for (int64_t c = 0; c < 4; ++c)
        for (int64_t d = 0; d < 33; ++d) {
          EXPECT_EQ(transposed.at({a, c, b, d}), x.at({a, b, c, d}));
          EXPECT_EQ(reversed.at({d, b, a, c}), x.at({a, b, c, d}));
        }
  for (int64_t a = 0; a < 3; ++a)
    for (int64_t b = 0; b < 5; ++b)
      for (int64_t c = 0; c < 2; ++c)
        for (int64_t d = 0; d < 6; ++d)
          EXPECT_EQ(sliced.at({a, b, c, d}), x.at({2 - a, 19 - 3 * b, 2 * c, 1 + 5 * d}));

  Tensor strided = x;
  strided.strides = {1, 4 * 33 * 3, 33 * 3, 3};
  EXPECT_EQ(run("%r = train.reshape %0 : tensor<3x20x4x33xbf16> -> tensor<60x132xbf16>", {strided}, {like(Type::BF16, {60, 132})})[0].values, x.values);

  Tensor row = random(Type::I64, {4, 1}, -9, 9);
  Tensor spread = run("%r = train.broadcast %0 : tensor<4x1xi64> -> tensor<2x4x21xi64>", {row}, {like(Type::I64, {2, 4, 21})})[0];
  for (int64_t i = 0; i < 2 * 4 * 21; ++i)
    EXPECT_EQ(spread.values[i], row.values[i / 21 % 4]);
}

TEST(MovementKernels, NaNsKeepTheirBytes) {
  // A NaN with a payload moves as it is.
  Tensor x = full(Type::F64, {5}, std::numeric_limits<double>::signaling_NaN());
  Tensor y = run("%r = train.broadcast %0 : tensor<5xf64> -> tensor<2x5xf64>", {x}, {like(Type::F64, {2, 5})})[0];
  for (double value : y.values) {
    EXPECT_TRUE(std::isnan(value));
    EXPECT_EQ(0, memcmp(&value, &x.values[0], 8));
  }
}

TEST(MovementKernels, ConcatAndSliceGrad) {
  Tensor a = random(Type::F32, {3, 5, 7}), b = random(Type::F32, {3, 2, 7}, -2, 2, 2), c = random(Type::F32, {3, 1, 7}, -2, 2, 3);
  Tensor joined = run("%r = train.concat 1, %0, %1, %2 : tensor<3x5x7xf32>, tensor<3x2x7xf32>, tensor<3x1x7xf32> -> tensor<3x8x7xf32>", {a, b, c}, {like(Type::F32, {3, 8, 7})})[0];
  for (int64_t i = 0; i < 3; ++i)
    for (int64_t j = 0; j < 8; ++j)
      for (int64_t k = 0; k < 7; ++k)
        EXPECT_EQ(joined.at({i, j, k}), j < 5 ? a.at({i, j, k}) : j < 7 ? b.at({i, j - 5, k}) : c.at({i, 0, k}));
  Tensor grad = run("%r = train.slice_grad %0 [0, 7, 1] [1, -2, 3] : tensor<3x2x7xf32> -> tensor<3x9x21xf32>", {b}, {like(Type::F32, {3, 9, 21})})[0];
  std::vector<double> expected(3 * 9 * 21);
  for (int64_t i = 0; i < 3; ++i)
    for (int64_t j = 0; j < 2; ++j)
      for (int64_t k = 0; k < 7; ++k)
        expected[(i * 9 + 7 - 2 * j) * 21 + 1 + 3 * k] = b.at({i, j, k});
  EXPECT_EQ(grad.values, expected);
}

TEST(GatherKernels, RowsAndTheirGradient) {
  for (Type type : {Type::F32, Type::BF16})
    for (int64_t axis : {0, 1, 2}) {
      std::string name = type == Type::F32 ? "f32" : "bf16";
      std::vector<int64_t> shape = {23, 19, 150};
      Tensor table = random(type, shape), indices = random(Type::I64, {4, 9}, -shape[axis], shape[axis], 2);
      std::vector<int64_t> resultShape(shape.begin(), shape.begin() + axis);
      resultShape.insert(resultShape.end(), {4, 9});
      resultShape.insert(resultShape.end(), shape.begin() + axis + 1, shape.end());
      std::string resultText = "tensor<";
      for (int64_t size : resultShape)
        resultText += std::to_string(size) + "x";
      resultText += name + ">";
      std::string tableText = "tensor<23x19x150x" + name + ">";
      Tensor result = run("%r = train.gather %0, %1 " + std::to_string(axis) + " : " + tableText + ", tensor<4x9xi64> -> " + resultText, {table, indices}, {like(type, resultShape)})[0];
      Tensor cotangent = random(type, resultShape, -1, 1, 3);
      std::vector<double> grad(table.count());
      int64_t inner = 1, outer = 1;
      for (int64_t a = 0; a < 3; ++a)
        (a < axis ? outer : inner) *= a == axis ? 1 : shape[a];
      for (int64_t o = 0; o < outer; ++o)
        for (int64_t p = 0; p < 36; ++p)
          for (int64_t i = 0; i < inner; ++i) {
            int64_t row = static_cast<int64_t>(indices.values[p]);
            row += row < 0 ? shape[axis] : 0;
            EXPECT_EQ(result.values[(o * 36 + p) * inner + i], table.values[(o * shape[axis] + row) * inner + i]);
            // fp32, in order of position.
            double &sum = grad[(o * shape[axis] + row) * inner + i];
            sum = static_cast<float>(sum + cotangent.values[(o * 36 + p) * inner + i]);
          }
      for (double &value : grad)
        value = roundTo(type, value);
      Tensor actual = run("%r = train.gather_grad %0, %1 " + std::to_string(axis) + " : " + resultText + ", tensor<4x9xi64> -> " + tableText, {cotangent, indices}, {like(type, shape)})[0];
      EXPECT_EQ(actual.values, grad) << axis;
    }
}

TEST(GatherKernels, ScalarIndexAndStridedTable) {
  Tensor table = random(Type::F32, {30, 40}), index{Type::I64, {}, {-3}, {}};
  table.strides = {1, 30};
  Tensor row = run("%r = train.gather %0, %1 0 : tensor<30x40xf32>, tensor<i64> -> tensor<40xf32>", {table, index}, {like(Type::F32, {40})})[0];
  for (int64_t i = 0; i < 40; ++i)
    EXPECT_EQ(row.values[i], table.at({27, i}));
}

TEST(MatmulKernels, DoublePrecision) {
  for (bool transposeLhs : {false, true})
    for (bool transposeRhs : {false, true}) {
      int64_t m = 5, n = 71, k = 13;
      Tensor a = random(Type::F64, transposeLhs ? std::vector<int64_t>{2, 1, k, m} : std::vector<int64_t>{2, 1, m, k});
      Tensor b = random(Type::F64, transposeRhs ? std::vector<int64_t>{3, n, k} : std::vector<int64_t>{3, k, n}, -2, 2, 2), bias = random(Type::F64, {n}, -2, 2, 3);
      std::string attributes = std::string(" {scale = 0.5 : f64") + (transposeLhs ? ", transpose_lhs" : "") + (transposeRhs ? ", transpose_rhs" : "") + "}";
      Tensor c = run("%r = train.matmul %0, %1 bias %2 : tensor<71xf64>" + attributes + " : " + (transposeLhs ? "tensor<2x1x13x5xf64>" : "tensor<2x1x5x13xf64>") + ", " +
                         (transposeRhs ? "tensor<3x71x13xf64>" : "tensor<3x13x71xf64>") + " -> tensor<2x3x5x71xf64>",
                     {a, b, bias}, {like(Type::F64, {2, 3, m, n})})[0];
      std::vector<double> expected;
      for (int64_t x = 0; x < 2; ++x)
        for (int64_t y = 0; y < 3; ++y)
          for (int64_t i = 0; i < m; ++i)
            for (int64_t j = 0; j < n; ++j) {
              double sum = 0;
              for (int64_t l = 0; l < k; ++l)
                sum += (transposeLhs ? a.at({x, 0, l, i}) : a.at({x, 0, i, l})) * (transposeRhs ? b.at({y, j, l}) : b.at({y, l, j}));
              expected.push_back(0.5 * sum + bias.values[j]);
            }
      expectNear(c, expected, 1e-14, 1e-14);
    }
}

const char *kAdamW = R"(
train.optimizer @adamw slots ["exp_avg", "exp_avg_sq"] {
^bb0(%p: f32, %g: f32, %m: f32, %v: f32, %lr: f32, %step: f32, %decay: f32):
  %one = arith.constant 1.0 : f32
  %b1 = arith.constant 0.9 : f32
  %b2 = arith.constant 0.999 : f32
  %eps = arith.constant 1.0e-8 : f32
  %c1 = arith.subf %one, %b1 : f32
  %c2 = arith.subf %one, %b2 : f32
  %d = arith.mulf %lr, %decay : f32
  %keep = arith.subf %one, %d : f32
  %p0 = arith.mulf %p, %keep : f32
  %m0 = arith.mulf %m, %b1 : f32
  %m1 = arith.mulf %g, %c1 : f32
  %m2 = arith.addf %m0, %m1 : f32
  %g2 = arith.mulf %g, %g : f32
  %v0 = arith.mulf %v, %b2 : f32
  %v1 = arith.mulf %g2, %c2 : f32
  %v2 = arith.addf %v0, %v1 : f32
  %t1 = math.powf %b1, %step : f32
  %t2 = math.powf %b2, %step : f32
  %u1 = arith.subf %one, %t1 : f32
  %u2 = arith.subf %one, %t2 : f32
  %s2 = math.sqrt %u2 : f32
  %r = math.sqrt %v2 : f32
  %q = arith.divf %r, %s2 : f32
  %e = arith.addf %q, %eps : f32
  %a = arith.divf %lr, %u1 : f32
  %n = arith.divf %m2, %e : f32
  %w = arith.mulf %a, %n : f32
  %p1 = arith.subf %p0, %w : f32
  train.yield %p1, %m2, %v2 : f32, f32, f32
}
)";

TEST(OptimizerKernels, AdamW) {
  for (bool mixed : {false, true}) {
    int64_t n = 5 * 128;
    Type compute = mixed ? Type::BF16 : Type::F32;
    Tensor g = random(compute, {n}, -1, 1), p = random(Type::F32, {n}, -1, 1, 2), m = random(Type::F32, {n}, -0.1, 0.1, 3), v = random(Type::F32, {n}, 0, 0.1, 4);
    Tensor half = random(compute, {n}, -1, 1, 5);
    auto scalar = [](double value) { return full(Type::F32, {1}, value); };
    for (double finite : {0.0, 1.0}) {
      std::vector<Tensor> buffers = {g};
      if (mixed)
        buffers.push_back(half);
      buffers.insert(buffers.end(), {p, m, v, scalar(0.5), scalar(1e-2), scalar(3), scalar(finite), scalar(0.1)});
      std::vector<Tensor> before = buffers;
      runUpdate(kAdamW, compute, compute, mixed, buffers, 1, 4); // blocks 1, 2 and 3 of 5
      size_t master = mixed ? 2 : 1;
      std::vector<double> np = p.values, nm = m.values, nv = v.values;
      if (finite != 0)
        for (int64_t i = 128; i < 4 * 128; ++i) {
          double grad = g.values[i] * 0.5;
          nm[i] = 0.9 * m.values[i] + 0.1 * grad;
          nv[i] = 0.999 * v.values[i] + 0.001 * grad * grad;
          double step = 1e-2 / (1 - std::pow(0.9, 3)) * nm[i] / (std::sqrt(nv[i] / (1 - std::pow(0.999, 3))) + 1e-8);
          np[i] = p.values[i] * (1 - 1e-3) - step;
        }
      double relative = finite != 0 ? 1e-4 : 0; // 1 - 0.999 has 17 bits less in fp32
      expectNear(buffers[master], np, relative, finite != 0 ? 1e-6 : 0);
      expectNear(buffers[master + 1], nm, relative, finite != 0 ? 1e-7 : 0);
      expectNear(buffers[master + 2], nv, relative, finite != 0 ? 1e-8 : 0);
      EXPECT_EQ(buffers[0].values, before[0].values);
      if (mixed)
        for (int64_t i = 0; i < n; ++i)
          EXPECT_EQ(buffers[1].values[i], finite != 0 && i >= 128 && i < 4 * 128 ? roundTo(Type::BF16, buffers[2].values[i]) : half.values[i]);
      for (size_t i = master + 3; i < buffers.size(); ++i)
        EXPECT_EQ(buffers[i].values, before[i].values);
    }
  }
}

const char *kTrusted = R"(
train.optimizer @trusted slots ["seen"] {
^bb0(%p: f32, %g: f32, %seen: f32, %lr: f32, %step: f32, %decay: f32):
  %pull = arith.mulf %decay, %p : f32
  %direction = arith.addf %g, %pull : f32
  %more = arith.addf %seen, %g : f32
  train.yield %direction, %lr, %more : f32, f32, f32
} {trust_ratio = array<f64: 0.01, 10.0>}
)";

// Of an optimizer with a trust ratio: sums of squares of blocks, then the step along the direction, by a rate that is a multiple of the learning rate.
TEST(OptimizerKernels, TrustRatio) {
  const int64_t n = 5 * 128;
  for (Type compute : {Type::F32, Type::BF16}) {
    const bool mixed = compute != Type::F32;
    Tensor g = random(compute, {n}, -1, 1), p = random(Type::F32, {n}, -1, 1, 2), seen = random(Type::F32, {n}, -0.1, 0.1, 3), half = random(compute, {n}, -1, 1, 5);
    auto scalar = [](double value) { return full(Type::F32, {1}, value); };
    const double scale = 0.5, rate = 1e-2, factor = 3, decay = 0.25;
    auto arrays = [&] {
      std::vector<Tensor> buffers = {g};
      if (mixed)
        buffers.push_back(half);
      buffers.insert(buffers.end(), {p, seen});
      return buffers;
    };
    auto withScalars = [&](std::vector<Tensor> buffers) {
      buffers.insert(buffers.end(), {scalar(scale), scalar(rate), scalar(3), scalar(1), scalar(decay), scalar(factor)});
      return buffers;
    };
    std::vector<double> direction(size_t(n), 0), more = seen.values;
    for (int64_t i = 0; i < n; ++i)
      direction[size_t(i)] = scale * g.values[i] + decay * p.values[i];

    std::vector<Tensor> buffers = arrays();
    const size_t first = buffers.size();
    buffers.insert(buffers.end(), 2, full(Type::F64, {5}, -1));
    buffers = withScalars(buffers);
    runParameterNorms(kTrusted, compute, compute, mixed, buffers, 1, 4, /*hasRate=*/true);
    for (int64_t block = 0; block < 5; ++block) {
      double sums[2] = {0, 0};
      for (int64_t i = block * 128; i < (block + 1) * 128; ++i) {
        sums[0] += p.values[i] * p.values[i];
        sums[1] += direction[size_t(i)] * direction[size_t(i)];
      }
      for (int norm = 0; norm < 2; ++norm)
        EXPECT_NEAR(buffers[first + norm].values[block], block >= 1 && block < 4 ? sums[norm] : -1, 1e-6 * sums[norm]) << "block " << block;
    }
    for (size_t i = 0; i < first; ++i)
      EXPECT_EQ(buffers[i].values, arrays()[i].values);

    // Norms whose ratio is within the bounds, below, above, and one that is 0.
    for (auto [parameter, along, ratio] : {std::tuple(3.0, 2.0, 1.5), std::tuple(1.0, 1000.0, 0.01), std::tuple(1000.0, 1.0, 10.0), std::tuple(0.0, 1.0, 1.0), std::tuple(1.0, 0.0, 1.0)}) {
      buffers = arrays();
      buffers.insert(buffers.end(), {scalar(parameter), scalar(along)});
      buffers = withScalars(buffers);
      runUpdate(kTrusted, compute, compute, mixed, buffers, 1, 4, /*hasRate=*/true);
      std::vector<double> moved = p.values;
      for (int64_t i = 128; i < 4 * 128; ++i) {
        moved[size_t(i)] -= rate * factor * ratio * direction[size_t(i)];
        more[size_t(i)] = seen.values[i] + scale * g.values[i];
      }
      expectNear(buffers[first - 2], moved, 1e-6, 1e-6);
      expectNear(buffers[first - 1], more, 1e-6, 1e-6);
      if (mixed)
        for (int64_t i = 0; i < n; ++i)
          EXPECT_EQ(buffers[1].values[i], i >= 128 && i < 4 * 128 ? roundTo(compute, buffers[2].values[i]) : half.values[i]);
    }
  }
}

#ifndef ZOPT_TEST_EMULATED_GPU
TEST(OptimizerKernels, Squares) {
  for (Type type : {Type::F32, Type::BF16}) {
    Tensor g = random(type, {7 * 128}, -1e3, 1e3);
    std::vector<double> sums = runSquares(g);
    ASSERT_EQ(sums.size(), 7u);
    for (int64_t block = 0; block < 7; ++block) {
      double sum = 0;
      for (int64_t i = 0; i < 128; ++i)
        sum += g.values[block * 128 + i] * g.values[block * 128 + i];
      EXPECT_NEAR(sums[block], sum, 1e-13 * sum);
    }
  }
}
#endif

} // namespace

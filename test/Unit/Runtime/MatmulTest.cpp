//===- MatmulTest.cpp - matrix products -----------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Device/Matmul.h"
#include "zopt/Runtime/Core/DataType.h"
#include <cmath>
#include <gtest/gtest.h>
#include <random>

using namespace zopt::runtime;

namespace {

struct Case {
  const char *name;
  std::vector<int64_t> lhs, lhsStrides, rhs, rhsStrides, out, outStrides;
  bool bias = false;
  double scale = 1;
};

Command commandOf(const Case &test, DataType type, DataType outType) {
  Command command;
  command.kind = Command::Kind::Matmul;
  command.lhs = {type, test.lhs, test.lhsStrides};
  command.rhs = {type, test.rhs, test.rhsStrides};
  command.out = {outType, test.out, test.outStrides};
  if (test.bias)
    command.bias = {type, {test.out.back()}, {1}};
  command.scale = test.scale;
  return command;
}

int64_t spanOf(const MatmulOperand &operand) {
  int64_t last = 0;
  for (size_t i = 0; i < operand.shape.size(); ++i)
    last += (operand.shape[i] - 1) * operand.strides[i];
  return last + 1;
}

int64_t positionOf(const MatmulOperand &operand, const std::vector<int64_t> &index) {
  int64_t position = 0;
  for (size_t i = 0; i < index.size(); ++i)
    position += (operand.shape[i] == 1 ? 0 : index[i]) * operand.strides[i];
  return position;
}

std::vector<char> randomElements(DataType type, int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<char> data(size_t(count * sizeOf(type)));
  for (int64_t i = 0; i < count; ++i)
    storeDouble(type, data.data(), i, uniform(random));
  return data;
}

const Case kCases[] = {
    {"plain", {33, 70}, {70, 1}, {70, 45}, {45, 1}, {33, 45}, {45, 1}},
    {"transposed rhs, bias", {33, 70}, {70, 1}, {70, 45}, {1, 70}, {33, 45}, {45, 1}, true},
    {"transposed lhs", {33, 70}, {1, 33}, {70, 45}, {45, 1}, {33, 45}, {45, 1}},
    {"both transposed, scaled", {33, 70}, {1, 33}, {70, 45}, {1, 70}, {33, 45}, {45, 1}, false, 0.25},
    {"transposed out", {33, 70}, {70, 1}, {70, 45}, {45, 1}, {33, 45}, {1, 33}},
    {"heads", {2, 3, 16, 8}, {384, 8, 24, 1}, {2, 3, 8, 16}, {384, 8, 1, 24}, {2, 3, 16, 16}, {768, 256, 16, 1}, false, 0.35},
    {"into heads", {2, 3, 16, 16}, {768, 256, 16, 1}, {2, 3, 16, 8}, {384, 8, 24, 1}, {2, 3, 16, 8}, {384, 8, 24, 1}},
    {"broadcast rhs", {2, 3, 16, 8}, {384, 128, 8, 1}, {1, 1, 8, 16}, {128, 128, 16, 1}, {2, 3, 16, 16}, {768, 256, 16, 1}},
    {"grouped heads", {2, 2, 3, 16, 8}, {768, 384, 128, 8, 1}, {2, 2, 1, 8, 16}, {256, 128, 128, 1, 8}, {2, 2, 3, 16, 16}, {1536, 768, 256, 16, 1}},
    {"one row", {1, 70}, {70, 1}, {70, 45}, {45, 1}, {1, 45}, {45, 1}},
    {"one column", {33, 70}, {70, 1}, {70, 1}, {1, 1}, {33, 1}, {1, 1}},
};

void check(const Case &test, DataType type, DataType outType) {
  SCOPED_TRACE(concat(test.name, " ", nameOf(type), " -> ", nameOf(outType)));
  Command command = commandOf(test, type, outType);
  ASSERT_TRUE(matmulSupports(command));
  int64_t scratchBytes = matmulScratchBytes(command, 2);
  ASSERT_GE(scratchBytes, 0);
  Result<std::unique_ptr<MatmulPrimitive>> primitive = MatmulPrimitive::create(command, 2);
  ASSERT_FALSE(primitive.failed()) << primitive.getStatus().message();
  EXPECT_EQ((*primitive)->scratchBytes(), scratchBytes);
  EXPECT_EQ(std::string((*primitive)->implementation()).substr(0, 4), "brg:");

  std::vector<char> lhs = randomElements(type, spanOf(command.lhs), 1), rhs = randomElements(type, spanOf(command.rhs), 2), bias = randomElements(type, test.out.back(), 3);
  std::vector<char> out(size_t(spanOf(command.out) * sizeOf(outType))), scratch(size_t(scratchBytes + 64));
  Status status = (*primitive)->run(lhs.data(), rhs.data(), out.data(), test.bias ? bias.data() : nullptr, scratch.data());
  ASSERT_FALSE(status.failed()) << status.message();

  int64_t depth = test.lhs.back();
  for (int64_t linear = 0; linear < elementCount(test.out); ++linear) {
    std::vector<int64_t> index(test.out.size());
    for (int64_t rest = linear, i = int64_t(index.size()) - 1; i >= 0; --i) {
      index[i] = rest % test.out[i];
      rest /= test.out[i];
    }
    double expected = 0, magnitude = 0;
    std::vector<int64_t> left = index, right = index;
    for (int64_t k = 0; k < depth; ++k) {
      left.back() = k;
      right[right.size() - 2] = k;
      double product = loadAsDouble(type, lhs.data(), positionOf(command.lhs, left)) * loadAsDouble(type, rhs.data(), positionOf(command.rhs, right));
      expected += product;
      magnitude += std::fabs(product);
    }
    expected *= test.scale;
    if (test.bias)
      expected += loadAsDouble(type, bias.data(), index.back());
    double tolerance = magnitude * 1e-5 + (outType == DataType::BF16 ? std::fabs(expected) * 0x1p-8 : 0);
    ASSERT_NEAR(loadAsDouble(outType, out.data(), positionOf(command.out, index)), expected, tolerance) << "at " << shapeText(index);
  }
}

TEST(Matmul, f32) {
  for (const Case &test : kCases)
    check(test, DataType::F32, DataType::F32);
}

TEST(Matmul, bf16) {
  if (!matmulSupports(commandOf(kCases[0], DataType::BF16, DataType::BF16)))
    GTEST_SKIP() << "this CPU has no bf16 products";
  for (const Case &test : kCases) {
    check(test, DataType::BF16, DataType::BF16);
    check(test, DataType::BF16, DataType::F32);
  }
}

TEST(Matmul, refusesWhatWouldAllocateOrCrawl) {
  Case wide = {"view of wider rows", {32, 16}, {48, 1}, {16, 8}, {8, 1}, {32, 8}, {8, 1}};
  EXPECT_FALSE(matmulSupports(commandOf(wide, DataType::F32, DataType::F32)));
  Case plain = {"f64", {4, 4}, {4, 1}, {4, 4}, {4, 1}, {4, 4}, {4, 1}};
  EXPECT_FALSE(matmulSupports(commandOf(plain, DataType::F64, DataType::F64)));
  EXPECT_EQ(matmulScratchBytes(commandOf(plain, DataType::F64, DataType::F64), 2), -1);
  Case transposedWithBias = {"bias along rows", {33, 70}, {70, 1}, {70, 45}, {45, 1}, {33, 45}, {1, 33}, true};
  EXPECT_FALSE(matmulSupports(commandOf(transposedWithBias, DataType::F32, DataType::F32)));
  Case scaledWithBias = {"scale with bias", {33, 70}, {70, 1}, {70, 45}, {45, 1}, {33, 45}, {45, 1}, true, 0.5};
  EXPECT_FALSE(matmulSupports(commandOf(scaledWithBias, DataType::F32, DataType::F32)));
  EXPECT_TRUE(MatmulPrimitive::create(commandOf(wide, DataType::F32, DataType::F32), 1).failed());
}

} // namespace

//===- ScatterKernelsTest.cpp - scatter against one position after another -===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Built for CPUs and for emulated GPUs: the same sums to the bit.
//
//===----------------------------------------------------------------------===//

#include "KernelHarness.h"
#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>

using namespace zopt::test;

namespace {

std::string text(Type type, const std::vector<int64_t> &shape) {
  std::string result = "tensor<";
  for (int64_t size : shape)
    result += std::to_string(size) + "x";
  return result + nameOf(type) + ">";
}

double combine(const std::string &reduction, double a, double b) {
  if (reduction == "add")
    return a + b;
  if (reduction == "mul")
    return a * b;
  if (reduction == "none")
    return b;
  if (std::isnan(a) || std::isnan(b))
    return std::nan("");
  return reduction == "max" ? std::max(a, b) : std::min(a, b);
}

void check(const std::string &reduction, Type type, std::vector<int64_t> shape, int64_t positions,
           bool special = false) {
  const bool real = type == Type::F32 || type == Type::BF16 || type == Type::F64;
  int64_t rows = shape[0], width = 1;
  std::vector<int64_t> updateShape = shape;
  updateShape[0] = positions;
  for (size_t axis = 1; axis < shape.size(); ++axis)
    width *= shape[axis];
  const double low = real ? -2 : type == Type::I1 ? 0 : -3, high = real || type == Type::I1 ? 2 : 4;
  Tensor data = random(type, shape, low, high), updates = random(type, updateShape, low, high, 2);
  Tensor indices = random(Type::I64, {positions}, static_cast<double>(-rows), static_cast<double>(rows), 3);
  for (int64_t p = 0; p < positions; p += 3) // a row that a third of the positions have: its order is seen in its bits
    indices.values[p] = static_cast<double>(rows / 2);
  if (special)
    updates.values[0] = std::nan("");
  Tensor result = run("%r = train.scatter " + reduction + " %0, %1, %2 : " + text(type, shape) + ", " +
                          text(Type::I64, {positions}) + ", " + text(type, updateShape),
                      {data, indices, updates}, {Tensor{type, shape, {}, {}}})[0];
  // Floats combine in fp32 (f64), and are rounded to their own type once.
  const Type compute = type == Type::BF16 ? Type::F32 : type;
  std::vector<double> expected = data.values;
  for (int64_t p = 0; p < positions; ++p) {
    int64_t row = static_cast<int64_t>(indices.values[p]);
    row = row < 0 ? row + rows : row;
    for (int64_t i = 0; i < width; ++i)
      expected[row * width + i] =
          roundTo(compute, combine(reduction, expected[row * width + i], updates.values[p * width + i]));
  }
  for (size_t i = 0; i < expected.size(); ++i) {
    const double want = roundTo(type, expected[i]);
    ASSERT_TRUE(result.values[i] == want || (std::isnan(want) && std::isnan(result.values[i])))
        << reduction << " " << text(type, shape) << " element " << i << " is " << result.values[i] << ", expected "
        << want;
  }
}

TEST(ScatterKernels, PositionsCombineInOrder) {
  for (const char *reduction : {"none", "add", "mul", "max", "min"})
    for (Type type : {Type::F32, Type::BF16, Type::F64, Type::I64, Type::I32}) {
      if (std::string(reduction) == "mul" && type != Type::F32 && type != Type::F64 && type != Type::BF16)
        continue; // products of doubles do not wrap as integers do
      if (type == Type::F32)
        check(reduction, type, {7}, 20);
      check(reduction, type, {37, 5}, 100);
    }
  check("none", Type::I1, {9, 3}, 12);
}

TEST(ScatterKernels, ManyRowsAndManyPositions) {
  check("max", Type::F32, {5000, 33}, 700, /*special=*/true);
  check("add", Type::F32, {5000}, 3000);
  check("none", Type::BF16, {3, 2, 40}, 1);
}

} // namespace

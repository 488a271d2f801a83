//===- TopKKernelsTest.cpp - sorting rows against a stable sort ------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "KernelHarness.h"
#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <numeric>

using namespace zopt::test;

namespace {

/// Rows with ties in and across chunks, NaN, infinities and zeros of both signs; the last row is nothing but ties.
Tensor makeRows(Type type, int64_t rows, int64_t n) {
  Tensor x = random(type, {rows, n}, -40, 40, unsigned(n));
  for (double &value : x.values)
    value = std::round(value);
  if (type != Type::I64)
    for (int64_t row = 0; row < rows; ++row) {
      const double specials[] = {std::nan(""), std::numeric_limits<double>::infinity(),
                                 -std::numeric_limits<double>::infinity(), -0.0, 0.0};
      for (int64_t i = 0; i < 10; ++i)
        x.values[row * n + (i * 37 + row) % n] = specials[i % 5];
    }
  std::fill(x.values.end() - n, x.values.end(), 3);
  return x;
}

void check(Type type, const char *name, int64_t n, int64_t k, bool smallest, bool strided) {
  const int64_t rows = 2;
  Tensor x = makeRows(type, rows, n), given = x;
  if (strided)
    given.strides = {1, rows};
  const std::string size = std::to_string(n) + "x" + name, taken = std::to_string(k) + "x";
  std::vector<Tensor> results =
      run("%r:2 = train.top_k %0" + std::string(smallest ? " {smallest}" : "") + " : tensor<2x" + size +
              "> -> tensor<2x" + taken + name + ">, tensor<2x" + taken + "i64>",
          {given}, {Tensor{type, {rows, k}, {}, {}}, Tensor{Type::I64, {rows, k}, {}, {}}});
  for (int64_t row = 0; row < rows; ++row) {
    const double *values = x.values.data() + row * n;
    std::vector<int64_t> order(n);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      const double low = smallest ? values[a] : values[b], high = smallest ? values[b] : values[a];
      return std::isnan(high) ? !std::isnan(low) : low < high;
    });
    for (int64_t i = 0; i < k; ++i) {
      ASSERT_EQ(results[1].values[row * k + i], double(order[i])) << "place " << i << " of row " << row << " of " << n;
      const double value = results[0].values[row * k + i], expected = values[order[i]];
      ASSERT_TRUE(value == expected || (std::isnan(value) && std::isnan(expected))) << value << " at " << i;
    }
  }
}

TEST(TopKKernels, ShortRowsAreCounted) {
  check(Type::F32, "f32", 40, 7, false, false);
  check(Type::I64, "i64", 70, 70, true, true);
}

TEST(TopKKernels, LongRowsAreCutAndMerged) {
  check(Type::F32, "f32", 513, 5, false, false);   // the last chunk has one element
  check(Type::BF16, "bf16", 600, 600, true, true); // more than a chunk keeps, and a run without another beside it
}

} // namespace

//===- MatmulRulesTest.cpp - how products map to cuBLASLt -----------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Device/CUDA/MatmulRules.h"
#include "zopt/Runtime/Core/DataType.h"
#include <algorithm>
#include <gtest/gtest.h>

using namespace zopt::runtime;
using namespace zopt::runtime::cuda;

namespace {

using Ints = std::vector<int64_t>;

Command productOf(MatmulOperand lhs, MatmulOperand rhs, MatmulOperand out) {
  Command command;
  command.kind = Command::Kind::Matmul;
  command.lhs = std::move(lhs);
  command.rhs = std::move(rhs);
  command.out = std::move(out);
  return command;
}

int64_t spanOf(const MatmulOperand &operand) {
  int64_t last = 0;
  for (size_t i = 0; i < operand.shape.size(); ++i)
    last += (operand.shape[i] - 1) * operand.strides[i];
  return last + 1;
}

/// The element at a place of out's shape, broadcast.
int64_t elementOf(const MatmulOperand &operand, const Ints &batch, int64_t row, int64_t column) {
  const size_t rank = operand.shape.size();
  int64_t element = row * operand.strides[rank - 2] + column * operand.strides[rank - 1];
  for (size_t i = 0; i + 2 < rank; ++i)
    if (operand.shape[i] != 1)
      element += batch[batch.size() - (rank - 2) + i] * operand.strides[i];
  return element;
}

std::vector<double> numbers(int64_t count, int64_t seed) {
  std::vector<double> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = double((int64_t(i) * 7 + seed) % 11 - 5);
  return values;
}

/// What the library does with a mapping: column-major products.
void runMapping(const MatmulMapping &mapping, const std::vector<double> &a, const std::vector<double> &b, std::vector<double> &d) {
  for (int64_t call = 0; call < mapping.calls(); ++call) {
    int64_t rest = call, offsetA = 0, offsetB = 0, offsetD = 0;
    for (const MatmulMapping::Loop &loop : mapping.loops) {
      offsetA += rest % loop.size * loop.a;
      offsetB += rest % loop.size * loop.b;
      offsetD += rest % loop.size * loop.d;
      rest /= loop.size;
    }
    for (int64_t batch = 0; batch < mapping.batch; ++batch)
      for (int64_t i = 0; i < mapping.m; ++i)
        for (int64_t j = 0; j < mapping.n; ++j) {
          double sum = 0;
          for (int64_t k = 0; k < mapping.k; ++k) {
            const int64_t inA = mapping.transposeA ? k + i * mapping.a.pitch : i + k * mapping.a.pitch;
            const int64_t inB = mapping.transposeB ? j + k * mapping.b.pitch : k + j * mapping.b.pitch;
            sum += a.at(size_t(offsetA + batch * mapping.a.batchStride + inA)) * b.at(size_t(offsetB + batch * mapping.b.batchStride + inB));
          }
          d.at(size_t(offsetD + batch * mapping.d.batchStride + i + j * mapping.d.pitch)) = sum;
        }
  }
}

/// Runs the mapping as the library would and compares every element with the product's definition.
MatmulMapping expectCorrect(const Command &command) {
  Result<MatmulMapping> mapping = mapMatmul(command);
  if (mapping.failed()) {
    ADD_FAILURE() << mapping.getStatus().message();
    return {};
  }
  EXPECT_EQ(mapping->a.rows, mapping->transposeA ? mapping->k : mapping->m);
  EXPECT_EQ(mapping->a.columns, mapping->transposeA ? mapping->m : mapping->k);
  EXPECT_EQ(mapping->b.rows, mapping->transposeB ? mapping->n : mapping->k);
  EXPECT_EQ(mapping->b.columns, mapping->transposeB ? mapping->k : mapping->n);
  EXPECT_EQ(mapping->d.rows, mapping->m);
  EXPECT_EQ(mapping->d.columns, mapping->n);
  for (const LibraryMatrix *matrix : {&mapping->a, &mapping->b, &mapping->d})
    EXPECT_GE(matrix->pitch, matrix->rows);
  const std::vector<double> lhs = numbers(spanOf(command.lhs), 1), rhs = numbers(spanOf(command.rhs), 4);
  std::vector<double> out(size_t(spanOf(command.out)), -1e9);
  runMapping(*mapping, mapping->direct ? lhs : rhs, mapping->direct ? rhs : lhs, out);

  const Ints &shape = command.out.shape;
  const size_t batchAxes = shape.size() - 2;
  Ints batch(batchAxes);
  const int64_t batches = elementCount(Ints(shape.begin(), shape.end() - 2)), depth = command.lhs.shape.back();
  int64_t wrong = 0;
  std::vector<bool> written(out.size());
  for (int64_t index = 0; index < batches; ++index) {
    int64_t rest = index;
    for (size_t i = batchAxes; i-- > 0;) {
      batch[i] = rest % shape[i];
      rest /= shape[i];
    }
    for (int64_t i = 0; i < shape[batchAxes]; ++i)
      for (int64_t j = 0; j < shape[batchAxes + 1]; ++j) {
        double sum = 0;
        for (int64_t k = 0; k < depth; ++k)
          sum += lhs[size_t(elementOf(command.lhs, batch, i, k))] * rhs[size_t(elementOf(command.rhs, batch, k, j))];
        const size_t element = size_t(elementOf(command.out, batch, i, j));
        written[element] = true;
        wrong += out[element] != sum;
      }
  }
  EXPECT_EQ(wrong, 0);
  for (size_t i = 0; i < out.size(); ++i)
    if (!written[i])
      EXPECT_EQ(out[i], -1e9) << "element " << i << " is not out's";
  return *mapping;
}

std::string refusalOf(const Command &command) {
  Result<MatmulMapping> mapping = mapMatmul(command);
  return mapping.failed() ? mapping.getStatus().message() : "";
}

MatmulOperand bf16(Ints shape, Ints strides) { return {DataType::BF16, std::move(shape), std::move(strides)}; }

const Command kPlain = productOf(bf16({5, 7}, {7, 1}), bf16({7, 8}, {8, 1}), bf16({5, 8}, {8, 1}));

TEST(MatmulRules, RowMajorOutIsTheTransposedProduct) {
  MatmulMapping mapping = expectCorrect(kPlain);
  EXPECT_FALSE(mapping.direct);
  EXPECT_FALSE(mapping.transposeA);
  EXPECT_FALSE(mapping.transposeB);
  EXPECT_EQ(mapping.m, 8);
  EXPECT_EQ(mapping.n, 5);
  EXPECT_EQ(mapping.a.pitch, 8);
  EXPECT_EQ(mapping.b.pitch, 7);
  EXPECT_EQ(mapping.batch, 1);
}

TEST(MatmulRules, EveryCombinationOfTranspositionsIsTheSameProduct) {
  for (int layout = 0; layout < 8; ++layout)
    for (int64_t pad : {0, 3})
      for (int64_t rows : {1, 5})
        for (int64_t columns : {1, 6})
          for (int64_t depth : {1, 6}) {
            auto matrix = [&](int64_t r, int64_t c, bool transposed) { return transposed ? bf16({r, c}, {1, r + pad}) : bf16({r, c}, {c + pad, 1}); };
            SCOPED_TRACE(testing::Message() << "layout " << layout << " pad " << pad << ": " << rows << " x " << depth << " x " << columns);
            expectCorrect(productOf(matrix(rows, depth, layout & 1), matrix(depth, columns, layout & 2), matrix(rows, columns, layout & 4)));
          }
}

TEST(MatmulRules, SquareMatricesAreTransposedByTheirStrides) {
  MatmulMapping mapping = expectCorrect(productOf(bf16({4, 4}, {1, 4}), bf16({4, 4}, {4, 1}), bf16({4, 4}, {4, 1})));
  EXPECT_FALSE(mapping.transposeA); // rhs
  EXPECT_TRUE(mapping.transposeB);  // lhs
}

TEST(MatmulRules, BatchesThatContinueTheRowsAreRows) {
  MatmulMapping mapping = expectCorrect(productOf(bf16({3, 2, 5, 7}, {70, 35, 7, 1}), bf16({7, 4}, {4, 1}), bf16({3, 2, 5, 4}, {40, 20, 4, 1})));
  EXPECT_EQ(mapping.n, 30);
  EXPECT_EQ(mapping.batch, 1);
  // So are those of one row.
  mapping = expectCorrect(productOf(bf16({3, 1, 7}, {9, 9, 1}), bf16({1, 7, 4}, {28, 4, 1}), bf16({3, 1, 4}, {8, 8, 1})));
  EXPECT_EQ(mapping.n, 3);
  EXPECT_EQ(mapping.b.pitch, 9);
}

TEST(MatmulRules, BatchesThatContinueTheColumnsAreColumns) {
  // out[b, i, j] = lhs[i, k] x rhs[b, k, j], all with the columns of b after those of b - 1.
  MatmulMapping mapping = expectCorrect(productOf(bf16({1, 5, 7}, {35, 7, 1}), bf16({3, 7, 4}, {4, 12, 1}), bf16({3, 5, 4}, {4, 12, 1})));
  EXPECT_EQ(mapping.m, 12);
  EXPECT_EQ(mapping.batch, 1);
}

TEST(MatmulRules, BatchesOfOneStrideAreTheLibrarys) {
  MatmulMapping mapping = expectCorrect(productOf(bf16({2, 3, 5, 7}, {105, 35, 7, 1}), bf16({2, 3, 7, 4}, {84, 28, 4, 1}), bf16({2, 3, 5, 4}, {60, 20, 4, 1})));
  EXPECT_EQ(mapping.batch, 6);
  EXPECT_TRUE(mapping.loops.empty());
  // A broadcast operand has stride 0.
  mapping = expectCorrect(productOf(bf16({5, 7}, {7, 1}), bf16({3, 7, 4}, {28, 4, 1}), bf16({3, 5, 4}, {20, 4, 1})));
  EXPECT_EQ(mapping.batch, 3);
  EXPECT_EQ(mapping.b.batchStride, 0);
}

TEST(MatmulRules, OtherBatchesAreLoopsAroundTheLargest) {
  // Scores of heads packed as [batch, positions, 3, heads, width].
  const int64_t B = 2, H = 3, T = 4, D = 5;
  MatmulMapping mapping = expectCorrect(productOf(bf16({B, H, T, D}, {T * 3 * H * D, D, 3 * H * D, 1}), bf16({B, H, D, T}, {T * 3 * H * D, D, 1, 3 * H * D}), bf16({B, H, T, T}, {H * T * T, T * T, T, 1})));
  EXPECT_EQ(mapping.batch, H);
  ASSERT_EQ(mapping.loops.size(), 1u);
  EXPECT_EQ(mapping.calls(), B);
}

TEST(MatmulRules, WhatNoLayoutOfTheLibraryIsMustBeCopied) {
  auto with = [](auto change) {
    Command command = kPlain;
    change(command);
    return refusalOf(command);
  };
  EXPECT_EQ(with([](Command &c) { c.lhs.strides = {14, 2}; }), "lhs has no unit stride on its rows or columns");
  EXPECT_EQ(with([](Command &c) { c.rhs.strides = {0, 1}; }), "rhs has no unit stride on its rows or columns");
  EXPECT_EQ(with([](Command &c) { c.out.strides = {4, 1}; }), "out has no unit stride on its rows or columns");
  EXPECT_EQ(with([](Command &c) { c.rhs.shape = {6, 8}; }), "[5, 7] x [6, 8] is not [5, 8]");
  EXPECT_EQ(with([](Command &c) { c.rhs.type = DataType::F32; }), "no product of bf16 and f32 into bf16");
  EXPECT_EQ(with([](Command &c) { c.out.type = DataType::F16; }), "no product of bf16 and bf16 into f16");
  EXPECT_EQ(with([](Command &c) { c.out.type = DataType::F32; }), "");
  EXPECT_EQ(with([](Command &c) { c.out = bf16({2, 5, 8}, {0, 8, 1}); }), "out has stride 0");
  EXPECT_EQ(with([](Command &c) { c.lhs = bf16({3, 5, 7}, {35, 7, 1}), c.out = bf16({2, 5, 8}, {40, 8, 1}); }), "the batches of [3, 5, 7] x [7, 8] do not broadcast to [2, 5, 8]");
}

TEST(MatmulRules, AnEpilogueIsTheLibrarysWhereOneIs) {
  auto with = [](auto change) {
    Command command = kPlain;
    change(command);
    return command;
  };
  auto bias = [](Command &c) { c.bias = bf16({8}, {1}); };
  auto aux = [](Command &c) { c.aux = c.out; };
  EXPECT_EQ(expectCorrect(with(bias)).epilogue, LibraryEpilogue::Bias);
  EXPECT_EQ(expectCorrect(with([&](Command &c) { c.epilogue = Epilogue::Gelu; })).epilogue, LibraryEpilogue::Gelu);
  EXPECT_EQ(expectCorrect(with([&](Command &c) { c.epilogue = Epilogue::Gelu, bias(c); })).epilogue, LibraryEpilogue::GeluBias);
  EXPECT_EQ(expectCorrect(with([&](Command &c) { c.epilogue = Epilogue::Gelu, aux(c); })).epilogue, LibraryEpilogue::GeluAux);
  EXPECT_EQ(expectCorrect(with([&](Command &c) { c.epilogue = Epilogue::Gelu, aux(c), bias(c); })).epilogue, LibraryEpilogue::GeluAuxBias);
  EXPECT_EQ(expectCorrect(with([&](Command &c) { c.epilogue = Epilogue::GeluGrad, aux(c); })).epilogue, LibraryEpilogue::GeluGrad);
  EXPECT_EQ(expectCorrect(with([&](Command &c) { c.epilogue = Epilogue::GeluGrad, aux(c), c.biasGradient = BiasGradient::OutColumns; })).epilogue, LibraryEpilogue::GeluGradBiasGradient);

  EXPECT_EQ(refusalOf(with([&](Command &c) { c.epilogue = Epilogue::GeluGrad; })), "the GeluGrad epilogue has no aux");
  EXPECT_EQ(refusalOf(with([&](Command &c) { c.epilogue = Epilogue::GeluGrad, aux(c), bias(c); })), "the GeluGrad epilogue has a bias");
  EXPECT_EQ(refusalOf(with(aux)), "aux without an epilogue");
  EXPECT_EQ(refusalOf(with([&](Command &c) { c.biasGradient = BiasGradient::OutColumns; })), "a bias gradient over out's rows without the GeluGrad epilogue");
  EXPECT_EQ(refusalOf(with([&](Command &c) { c.biasGradient = BiasGradient::LhsRows, bias(c); })), "a bias gradient over k together with a bias or an epilogue");
  EXPECT_EQ(refusalOf(with([&](Command &c) { bias(c), c.bias.type = DataType::F32; })), "the bias is f32, but out is bf16");
  EXPECT_EQ(refusalOf(with([&](Command &c) { c.bias = bf16({5, 8}, {8, 1}); })), "bias [5, 8] is not one element for each of 8 columns");
  EXPECT_EQ(refusalOf(with([&](Command &c) { bias(c), c.out.strides = {1, 5}; })), "a bias or its gradient needs unit stride on out's columns");
  EXPECT_EQ(refusalOf(with([&](Command &c) { c.epilogue = Epilogue::Gelu, c.aux = bf16({5, 8}, {1, 8}); })), "aux has not out's orientation");
  EXPECT_EQ(refusalOf(with([&](Command &c) { c.epilogue = Epilogue::Gelu, c.aux = bf16({5, 8}, {12, 1}); })), "the pitch of aux, 12, is not a multiple of 8");
}

TEST(MatmulRules, SumsOverKAreOfTheOperandThatTheLibrarySees) {
  Command command = kPlain;
  command.biasGradient = BiasGradient::LhsRows;
  EXPECT_EQ(expectCorrect(command).epilogue, LibraryEpilogue::BiasGradientB);
  command.biasGradient = BiasGradient::RhsColumns;
  EXPECT_EQ(expectCorrect(command).epilogue, LibraryEpilogue::BiasGradientA);
  command.out.strides = {1, 5};
  EXPECT_EQ(expectCorrect(command).epilogue, LibraryEpilogue::BiasGradientB);
  command.biasGradient = BiasGradient::LhsRows;
  EXPECT_EQ(expectCorrect(command).epilogue, LibraryEpilogue::BiasGradientA);

  Command batch = productOf(bf16({3, 5, 7}, {35, 7, 1}), bf16({3, 7, 8}, {56, 8, 1}), bf16({3, 5, 8}, {40, 8, 1}));
  batch.biasGradient = BiasGradient::LhsRows;
  EXPECT_EQ(refusalOf(batch), "a bias gradient of a batch of products");
}

TEST(MatmulRules, ABiasStaysOneElementAColumn) {
  // Without the bias these batches would become columns.
  Command command = productOf(bf16({1, 5, 7}, {35, 7, 1}), bf16({3, 7, 4}, {4, 12, 1}), bf16({3, 5, 4}, {4, 12, 1}));
  command.bias = bf16({4}, {1});
  MatmulMapping mapping = expectCorrect(command);
  EXPECT_EQ(mapping.m, 4);
  EXPECT_EQ(mapping.batch, 3);
}

TEST(MatmulRules, F64HasNoEpilogue) {
  Command command = kPlain;
  for (MatmulOperand *operand : {&command.lhs, &command.rhs, &command.out})
    operand->type = DataType::F64;
  EXPECT_EQ(refusalOf(command), "");
  command.epilogue = Epilogue::Gelu;
  EXPECT_EQ(refusalOf(command), "a product in f64 has no epilogue or bias");
}

} // namespace

//===- LibraryCallsTest.cpp - calls of cuBLASLt, without a GPU ------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Against FakeCudaDriver and FakeCublasLt, whose device memory is the host's. The values on a GPU, and attention, are zopt-gpu-library-benchmark's.
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Device/CUDA/LibraryCalls.h"
#include "zopt/Runtime/Core/DataType.h"
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <gtest/gtest.h>

using namespace zopt::runtime;
using namespace zopt::runtime::cuda;

namespace {

constexpr int64_t kMiB = int64_t(1) << 20;
constexpr int64_t kRows = 16, kColumns = 24, kDepth = 8;

MatmulOperand rowMajor(int64_t rows, int64_t columns) { return {DataType::F32, {rows, columns}, {columns, 1}}; }

/// A matrix of small numbers.
struct Matrix {
  std::vector<float> values;
  explicit Matrix(int64_t count, int64_t seed = -1) : values(size_t(count), -1e9f) {
    for (size_t i = 0; i < values.size() && seed >= 0; ++i)
      values[i] = float((int64_t(i) * 7 + seed) % 11 - 5);
  }
  CUdeviceptr address() { return reinterpret_cast<CUdeviceptr>(values.data()); }
};

class LibraryCalls : public testing::Test {
protected:
  void SetUp() override {
    setenv("ZOPT_CUDA_LIBRARY_PATH", ZOPT_FAKE_CUDA, 1);
    Result<std::unique_ptr<LibraryContext>> made = LibraryContext::create();
    ASSERT_FALSE(made.failed()) << made.getStatus().message();
    context = std::move(*made);
    command.kind = Command::Kind::Matmul;
    command.lhs = rowMajor(kRows, kDepth);
    command.rhs = rowMajor(kDepth, kColumns);
    command.out = rowMajor(kRows, kColumns);
  }

  Status run(int64_t scratchBytes = 0, CUdeviceptr workspace = 0) {
    Result<std::unique_ptr<DeviceMatmul>> matmul = createMatmul(*context, command, scratchBytes);
    if (matmul.failed())
      return matmul.getStatus();
    const CUdeviceptr buffers[] = {lhs.address(), rhs.address(), out.address(), bias.address(), workspace, aux.address(), sums.address(), out.address()};
    return (*matmul)->run(nullptr, buffers);
  }

  float productAt(int64_t row, int64_t column) const {
    float sum = 0;
    for (int64_t k = 0; k < kDepth; ++k)
      sum += lhs.values[size_t(row * kDepth + k)] * rhs.values[size_t(k * kColumns + column)];
    return float(command.scale) * sum;
  }
  float outAt(int64_t row, int64_t column) const { return out.values[size_t(row * kColumns + column)]; }

  std::unique_ptr<LibraryContext> context;
  Command command;
  Matrix lhs{kRows * kDepth, 1}, rhs{kDepth * kColumns, 4}, out{kRows * kColumns}, bias{kColumns, 3}, aux{kRows * kColumns}, sums{64};
};

TEST_F(LibraryCalls, TellsItsVersion) { EXPECT_EQ(context->matmulLibrary(), "cublasLt 13.1.99"); }

TEST_F(LibraryCalls, RunsAProduct) {
  command.scale = 0.5;
  ASSERT_FALSE(run().failed());
  for (int64_t i = 0; i < kRows; ++i)
    for (int64_t j = 0; j < kColumns; ++j)
      EXPECT_EQ(outAt(i, j), productAt(i, j));
}

TEST_F(LibraryCalls, ScalesTheProductAndNotTheBias) {
  command.scale = 2;
  command.bias = {DataType::F32, {kColumns}, {1}};
  ASSERT_FALSE(run().failed());
  EXPECT_EQ(outAt(3, 5), productAt(3, 5) + bias.values[5]);
}

TEST_F(LibraryCalls, AddsToWhatOutHolds) {
  command.buffers = {0, 1, 2, -1, -1, -1, -1, 2};
  for (int i = 0; i < 2; ++i) {
    std::fill(out.values.begin(), out.values.end(), 7.0f);
    ASSERT_FALSE(run().failed());
    EXPECT_EQ(outAt(3, 5), (i ? bias.values[5] : 0) + productAt(3, 5) + 7);
    command.bias = {DataType::F32, {kColumns}, {1}};
  }
  command.epilogue = Epilogue::Gelu;
  EXPECT_EQ(run().message(), "an addend together with an epilogue or a bias gradient");
}

TEST_F(LibraryCalls, GeluLeavesItsInputInAux) {
  command.bias = {DataType::F32, {kColumns}, {1}};
  command.aux = command.out;
  command.epilogue = Epilogue::Gelu;
  ASSERT_FALSE(run().failed());
  const float input = productAt(2, 7) + bias.values[7];
  EXPECT_EQ(aux.values[2 * kColumns + 7], input);
  EXPECT_NEAR(outAt(2, 7), 0.5 * input * (1 + std::tanh(std::sqrt(2 / M_PI) * (input + 0.044715 * std::pow(input, 3)))), 1e-4);
}

TEST_F(LibraryCalls, SumsAnOperandOverK) {
  command.biasGradient = BiasGradient::RhsColumns;
  ASSERT_FALSE(run().failed());
  float sum = 0;
  for (int64_t k = 0; k < kDepth; ++k)
    sum += rhs.values[size_t(k * kColumns + 9)];
  EXPECT_EQ(sums.values[9], sum);
  command.biasGradient = BiasGradient::LhsRows;
  ASSERT_FALSE(run().failed());
  sum = 0;
  for (int64_t k = 0; k < kDepth; ++k)
    sum += lhs.values[size_t(9 * kDepth + k)];
  EXPECT_EQ(sums.values[9], sum);
}

TEST_F(LibraryCalls, CandidatesAreWhatTheLibraryCanRunInTheWorkspace) {
  // The library has 0, 1 (broken), 2 in 2 MiB and 3 in 4 MiB.
  auto candidates = [&](int64_t bytes) {
    Result<std::unique_ptr<DeviceMatmul>> matmul = createMatmul(*context, command, bytes);
    return matmul.failed() ? -1 : (*matmul)->candidates();
  };
  EXPECT_EQ(candidates(0), 2); // and 4, which it only tells where there is no workspace
  EXPECT_EQ(candidates(2 * kMiB + kWorkspaceAlignment), 2);
  EXPECT_EQ(candidates(4 * kMiB + kWorkspaceAlignment), 3);
  command.algorithm = 2;
  Result<std::unique_ptr<DeviceMatmul>> matmul = createMatmul(*context, command, 4 * kMiB + kWorkspaceAlignment);
  ASSERT_FALSE(matmul.failed());
  EXPECT_EQ((*matmul)->workspaceBytes(), 4 * kMiB);
  EXPECT_EQ(createMatmul(*context, command, 0).getStatus().message(), "the plan wants algorithm 2 of a product, but the library has 2");
}

TEST_F(LibraryCalls, WorkspaceIsUsedFromItsFirstAlignedByte) {
  command.algorithm = 2;
  const int64_t bytes = 4 * kMiB + kWorkspaceAlignment;
  std::vector<char> storage(size_t(bytes) + 2 * kWorkspaceAlignment, 1);
  // As far from alignment as an arena allows.
  const CUdeviceptr base = reinterpret_cast<CUdeviceptr>(storage.data()), start = (base + kWorkspaceAlignment - 1) / kWorkspaceAlignment * kWorkspaceAlignment + 64;
  ASSERT_FALSE(run(bytes, start).failed());
  for (size_t i = 0; i < size_t(start - base); ++i)
    EXPECT_EQ(storage[i], 1);
  for (size_t i = size_t(start - base + CUdeviceptr(bytes)); i < storage.size(); ++i)
    EXPECT_EQ(storage[i], 1);
  EXPECT_EQ(outAt(3, 5), productAt(3, 5));
}

TEST_F(LibraryCalls, WhatTheLibraryOffersWithoutWorkspaceComesLast) {
  command.algorithm = 3;
  Result<std::unique_ptr<DeviceMatmul>> matmul = createMatmul(*context, command, 4 * kMiB + kWorkspaceAlignment);
  ASSERT_FALSE(matmul.failed()) << matmul.getStatus().message();
  // 0 is in both lists and counted once.
  EXPECT_EQ((*matmul)->candidates(), 4);
  EXPECT_EQ((*matmul)->plannedCandidates(), 3);
  EXPECT_EQ((*matmul)->workspaceBytes(), 0);
}

TEST_F(LibraryCalls, ChoosesTheFastestAlgorithm) {
  const int64_t bytes = 4 * kMiB + kWorkspaceAlignment;
  std::vector<char> storage(size_t(bytes) + kWorkspaceAlignment);
  const MatmulPlace place = {lhs.address(), rhs.address(), out.address(), 0, reinterpret_cast<CUdeviceptr>(storage.data()), 0, 0, 0};
  auto choose = [&](int64_t scratchBytes, int candidates = kTunedCandidates) {
    Result<MatmulChoice> choice = chooseMatmul(*context, command, scratchBytes, nullptr, {place, place}, candidates);
    EXPECT_FALSE(choice.failed()) << choice.getStatus().message();
    return choice.failed() ? MatmulChoice{-1} : *choice;
  };
  MatmulChoice choice = choose(bytes);
  EXPECT_EQ(choice.algorithm, 2);
  EXPECT_NEAR(choice.milliseconds, 0.05, 0.002);
  EXPECT_NEAR(choice.firstMilliseconds, 0.1, 0.002);
  // The same one is another index where the workspace is smaller, and none at all where it is too small.
  EXPECT_EQ(choose(2 * kMiB + kWorkspaceAlignment).algorithm, 2);
  EXPECT_EQ(choose(0).algorithm, 1);
  // A third of those that are timed are of the second list.
  EXPECT_EQ(choose(bytes, 3).algorithm, 3);
  setenv("FAKE_CUBLASLT_FAST", "0", 1);
  EXPECT_EQ(choose(bytes).algorithm, 0);
  unsetenv("FAKE_CUBLASLT_FAST");
}

TEST_F(LibraryCalls, PlansThatCannotBePreparedAreToldWhereTheyAreMade) {
  command.kind = Command::Kind::Attention;
  command.tensors.assign(5, {DataType::F32, {1, 2, 8, 8}, {128, 64, 8, 1}});
  Command other = command;
  other.causal = true;
  const std::string refusal = createAttention(*context, command, 0).getStatus().message();
  int entered = 0;
  preparePlans(*context, {{&command, 0}, {&other, 0}}, [&] { ++entered; });
  EXPECT_EQ(entered, 0); // the rules have refused them before
  EXPECT_EQ(context->attentionLibrary(), "");
  EXPECT_EQ(createAttention(*context, command, 0).getStatus().message(), refusal);
  EXPECT_NE(refusal, "");
}

TEST_F(LibraryCalls, RefusesWhatTheRulesRefuse) {
  command.lhs.strides = {16, 2};
  EXPECT_EQ(createMatmul(*context, command, 0).getStatus().message(), "lhs has no unit stride on its rows or columns");
}

} // namespace

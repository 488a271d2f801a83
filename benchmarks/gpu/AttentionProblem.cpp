//===- AttentionProblem.cpp - attention commands to check and time --------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "AttentionProblem.h"
#include "../../lib/Runtime/Device/CUDA/AttentionGradient.h"
#include <cmath>

namespace zopt::benchmark {

namespace {

MatmulOperand headsOperand(DataType type, int64_t batch, int64_t heads, int64_t positions, int64_t width, AttentionLayout layout) {
  MatmulOperand operand;
  operand.type = type;
  operand.shape = {batch, heads, positions, width};
  const int64_t row = layout == AttentionLayout::Packed ? 3 * heads * width : heads * width;
  if (layout == AttentionLayout::Dense)
    operand.strides = {heads * positions * width, positions * width, width, 1};
  else
    operand.strides = {positions * row, width, row, 1};
  return operand;
}

} // namespace

AttentionProblem makeAttention(const AttentionSizes &sizes, AttentionLayout layout, DataType type, const std::string &mask) {
  MatmulOperand ofQueries = headsOperand(type, sizes.batch, sizes.heads, sizes.queries, sizes.width, layout);
  MatmulOperand ofKeys = headsOperand(type, sizes.batch, sizes.keyHeads, sizes.keys, sizes.width, layout);
  MatmulOperand output = headsOperand(type, sizes.batch, sizes.heads, sizes.queries, sizes.width, layout == AttentionLayout::Dense ? layout : AttentionLayout::Tokens);
  MatmulOperand lse = headsOperand(DataType::F32, sizes.batch, sizes.heads, sizes.queries, 1, AttentionLayout::Dense);
  AttentionProblem problem;
  Command &forward = problem.forward, &backward = problem.backward;
  forward.kind = Command::Kind::Attention;
  forward.scale = 1 / std::sqrt(double(sizes.width));
  forward.causal = sizes.causal;
  forward.tensors = {ofQueries, ofKeys, ofKeys, output, lse};
  backward = forward;
  backward.kind = Command::Kind::AttentionGrad;
  backward.tensors.insert(backward.tensors.end(), {output, ofQueries, ofKeys, ofKeys});
  if (!mask.empty()) {
    auto has = [&](char axis) { return mask.find(axis) != std::string::npos; };
    MatmulOperand operand = matrixOperand(type, {has('b') ? sizes.batch : 1, has('h') ? sizes.heads : 1, has('q') ? sizes.queries : 1, sizes.keys});
    forward.tensors.push_back(operand);
    backward.tensors.push_back(operand);
  }
  return problem;
}

Result<std::unique_ptr<cuda::DeviceAttention>> makeDeviceAttention(cuda::LibraryContext &context, const Command &command, const CUdeviceptr *buffers, int64_t scratchBytes, const cuda::AttentionOptions &options) {
  if (!command.ownKernels)
    return cuda::createAttention(context, command, scratchBytes, options);
  Result<const cuda::Driver *> driver = cuda::Driver::load();
  if (driver.failed())
    return driver.getStatus();
  static cuda::AttentionGradientKernels *kernels = new cuda::AttentionGradientKernels(**driver, 0); // to the end of the process
  return kernels->prepare(command, buffers, scratchBytes);
}

} // namespace zopt::benchmark

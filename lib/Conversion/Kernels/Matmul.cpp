//===- Matmul.cpp - contractions as loops, where no library has them -------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// For f64, which is for tests: one outer iteration makes a row of the result, 64 columns at a time in registers; the inner axis is summed in order.
//
//===----------------------------------------------------------------------===//

#include "Families.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::kernels;

LogicalResult kernels::generateMatmul(Context &context, train::MatmulOp op) {
  const TensorLayout &lhs = context.operand(0), &rhs = context.operand(1), &result = context.result(0);
  SmallVector<int64_t> batch(ArrayRef(result.shape).drop_back(2));
  int64_t m = result.shape[batch.size()], n = result.shape.back();
  int64_t k = lhs.shape[lhs.shape.size() - (op.getTransposeLhs() ? 2 : 1)];
  // The index space is (batch..., m, k, n).
  SmallVector<int64_t> shape = batch;
  shape.append({m, k, n});
  auto access = [&](unsigned argument, const TensorLayout &layout, int64_t row, int64_t inner, int64_t column, bool write) {
    size_t lead = layout.shape.size() - 2;
    TensorLayout batchPart{layout.elementType, SmallVector<int64_t>(ArrayRef(layout.shape).take_front(lead)), SmallVector<int64_t>(ArrayRef(layout.strides).take_front(lead))};
    Access access = broadcastAccess(argument, batchPart, batch, write);
    access.strides.append({row, inner, column});
    return access;
  };
  int64_t lhsRows = lhs.strides[lhs.shape.size() - 2], lhsColumns = lhs.strides.back(), rhsRows = rhs.strides[rhs.shape.size() - 2], rhsColumns = rhs.strides.back();
  if (op.getTransposeLhs())
    std::swap(lhsRows, lhsColumns);
  if (op.getTransposeRhs())
    std::swap(rhsRows, rhsColumns);
  KernelBuilder kernel(context.context(), "matmul", context.target);
  View a = kernel.argument(access(0, lhs, lhsRows, lhsColumns, 0, false), shape);
  View b = kernel.argument(access(1, rhs, 0, rhsRows, rhsColumns, false), shape);
  View bias;
  if (op.getBias())
    bias = kernel.argument(perColumnAccess(2, context.operand(2), shape.size()), shape);
  View c = kernel.argument(access(context.resultArgument(0), result, result.strides[batch.size()], 0, result.strides.back(), true), shape);

  // A GPU's group handles one vector a thread.
  const int64_t chunkColumns = context.isGpu() ? kernel.spreadElements(n) : 4 * kCpuLanes;
  SmallVector<int64_t> outerShape = batch;
  outerShape.append({m, (n + chunkColumns - 1) / chunkColumns});
  Value outer = kernel.begin(countElements(outerShape), grainFor(std::min(n, chunkColumns) * k));
  SmallVector<Value> coordinates = kernel.delinearize(outer, outerShape);
  Value chunk = coordinates.pop_back_val();
  Type type = train::getComputeType(lhs.elementType);
  double scale = op.getScale().convertToDouble();
  kernel.forColumnChunks(chunk, n, chunkColumns, [&](Value first, ArrayRef<Lanes> blocks) {
    SmallVector<Value> zeros(blocks.size(), kernel.splat(0, type));
    auto at = [&](Value inner, size_t block) {
      SmallVector<Value> full = coordinates;
      full.append({inner, kernel.add(first, block * kCpuLanes)});
      return full;
    };
    SmallVector<Value> sums = kernel.forRange(k, zeros, [&](Value inner, ValueRange carried) {
      Value x = kernel.broadcast(kernel.loadComputeScalar(a, at(inner, 0)));
      SmallVector<Value> next;
      for (auto [block, lanes] : llvm::enumerate(blocks))
        next.push_back(kernel.addF(carried[block], kernel.mulF(x, kernel.loadCompute(b, at(inner, block), lanes))));
      return next;
    });
    for (auto [block, lanes] : llvm::enumerate(blocks)) {
      Value value = sums[block];
      if (scale != 1)
        value = kernel.mulF(value, kernel.splat(scale, type));
      if (op.getBias())
        value = kernel.addF(value, kernel.convert(kernel.loadCompute(bias, at(kernel.index(0), block), lanes), type));
      kernel.storeRounded(value, c, at(kernel.index(0), block), lanes);
    }
  });
  context.add(kernel);
  return success();
}

//===- Norm.cpp - kernels of layer_norm and rms_norm ------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Rows as in Softmax.cpp. The mean and the variance are two passes over the row in the cache, so that a large mean costs no digits. Bytes moved: tensors of the input's shape once.
//
//===----------------------------------------------------------------------===//

#include "NormRow.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::kernels;

using Combine = KernelBuilder::Combine;

static void generateLayerNorm(Context &context, train::LayerNormOp op) {
  const TensorLayout &input = context.operand(0);
  unsigned rank = input.shape.size(), next = 1;
  SmallVector<Access> accesses = {rowAccess(0, input), rowAccess(context.resultArgument(0), context.result(0), true),
                                  perRowAccess(context.resultArgument(1), context.result(1), true), perRowAccess(context.resultArgument(2), context.result(2), true)};
  unsigned gamma = 0, beta = 0;
  for (auto [value, view] : {std::pair(op.getGamma(), &gamma), std::pair(op.getBeta(), &beta)})
    if (value) {
      *view = accesses.size();
      accesses.push_back(perColumnAccess(next, context.operand(next), rank));
      ++next;
    }
  Rows rows(input.shape, accesses);
  KernelBuilder kernel(context.context(), "layer_norm", context.target);
  Row row{kernel, train::getComputeType(input.elementType), {}, {}, rows.n};
  row.at = rows.begin(kernel, row.views);

  Value mean = row.mean(row.sums(1, [&](Value i, Lanes lanes) -> SmallVector<Value> { return {row.load(0, i, lanes)}; })[0]);
  Value means = kernel.broadcast(mean);
  Value variance = row.mean(row.sums(1, [&](Value i, Lanes lanes) -> SmallVector<Value> {
    Value centered = kernel.subF(row.load(0, i, lanes), means);
    return {kernel.mulF(centered, centered)};
  })[0]);
  Value rstd = row.rsqrt(variance, op.getEpsilon().convertToDouble()), rstds = kernel.broadcast(rstd);
  kernel.forLanes(rows.n, [&](Value i, Lanes lanes) {
    Value y = kernel.mulF(kernel.subF(row.load(0, i, lanes), means), rstds);
    if (gamma)
      y = kernel.mulF(y, row.load(gamma, i, lanes));
    if (beta)
      y = kernel.addF(y, row.load(beta, i, lanes));
    row.store(y, 1, i, lanes);
  });
  row.storeScalar(mean, 2);
  row.storeScalar(rstd, 3);
  context.add(kernel);
}

static void generateRMSNorm(Context &context, train::RMSNormOp op) {
  const TensorLayout &input = context.operand(0);
  SmallVector<Access> accesses = {rowAccess(0, input), rowAccess(context.resultArgument(0), context.result(0), true),
                                  perRowAccess(context.resultArgument(1), context.result(1), true)};
  if (op.getGamma())
    accesses.push_back(perColumnAccess(1, context.operand(1), input.shape.size()));
  Rows rows(input.shape, accesses);
  KernelBuilder kernel(context.context(), "rms_norm", context.target);
  Row row{kernel, train::getComputeType(input.elementType), {}, {}, rows.n};
  row.at = rows.begin(kernel, row.views);

  Value square = row.mean(row.sums(1, [&](Value i, Lanes lanes) -> SmallVector<Value> {
    Value x = row.load(0, i, lanes);
    return {kernel.mulF(x, x)};
  })[0]);
  Value rstd = row.rsqrt(square, op.getEpsilon().convertToDouble()), rstds = kernel.broadcast(rstd);
  kernel.forLanes(rows.n, [&](Value i, Lanes lanes) {
    Value y = kernel.mulF(row.load(0, i, lanes), rstds);
    if (op.getGamma())
      y = kernel.mulF(y, row.load(3, i, lanes));
    row.store(y, 1, i, lanes);
  });
  row.storeScalar(rstd, 2);
  context.add(kernel);
}

LogicalResult kernels::generateNorm(Context &context) {
  if (auto op = dyn_cast<train::LayerNormOp>(context.op))
    generateLayerNorm(context, op);
  else if (auto op = dyn_cast<train::RMSNormOp>(context.op))
    generateRMSNorm(context, op);
  else
    return generateNormGrad(context);
  return success();
}

/// dgamma and dbeta: one outer iteration sums 64 columns over all rows. Bytes moved: input and cotangent once.
LogicalResult kernels::generateNormParameterGrad(Context &context) {
  bool centered = isa<train::LayerNormParameterGradOp>(context.op);
  if (context.isGpu())
    return generateNormGrad(context);
  constexpr int64_t kColumns = 4 * kCpuLanes;
  const TensorLayout &input = context.operand(0);
  unsigned rank = input.shape.size(), rstdOperand = centered ? 2 : 1, cotangentOperand = rstdOperand + 1;
  ArrayRef<int64_t> rows = ArrayRef(input.shape).drop_back();
  int64_t columns = input.shape.back(), chunks = (columns + kColumns - 1) / kColumns;
  KernelBuilder kernel(context.context(), context.op->getName().stripDialect(), context.target);
  Type type = train::getComputeType(input.elementType);
  View x = kernel.argument(rowAccess(0, input), input.shape);
  View rstd = kernel.argument(perRowAccess(rstdOperand, context.operand(rstdOperand)), input.shape);
  View dy = kernel.argument(rowAccess(cotangentOperand, context.operand(cotangentOperand)), input.shape);
  View dgamma = kernel.argument(perColumnAccess(context.resultArgument(0), context.result(0), rank, true), input.shape);
  View mean, dbeta;
  if (centered) {
    mean = kernel.argument(perRowAccess(1, context.operand(1)), input.shape);
    dbeta = kernel.argument(perColumnAccess(context.resultArgument(1), context.result(1), rank, true), input.shape);
  }
  Value chunk = kernel.begin(chunks, grainFor(countElements(rows) * std::min(columns, kColumns)));
  kernel.forColumnChunks(chunk, columns, kColumns, [&](Value first, ArrayRef<Lanes> blocks) {
    SmallVector<Value> coordinates;
    SmallVector<Value> zeros(blocks.size() * (centered ? 2 : 1), kernel.splat(0, type));
    SmallVector<Value> sums = kernel.reduceNested(Combine::Sum, rows, coordinates, zeros, [&] {
      SmallVector<Value> at = coordinates;
      at.push_back(first);
      Value rstds = kernel.broadcast(kernel.convert(kernel.loadScalar(rstd, at), type));
      Value means = centered ? kernel.broadcast(kernel.convert(kernel.loadScalar(mean, at), type)) : Value();
      SmallVector<Value> terms, cotangents;
      for (auto [index, lanes] : llvm::enumerate(blocks)) {
        at.back() = kernel.add(first, index * kCpuLanes);
        Value value = kernel.loadCompute(x, at, lanes), cotangent = kernel.loadCompute(dy, at, lanes);
        Value normalized = kernel.mulF(centered ? kernel.subF(value, means) : value, rstds);
        terms.push_back(kernel.mulF(cotangent, normalized));
        cotangents.push_back(cotangent);
      }
      if (centered)
        terms.append(cotangents);
      return terms;
    });
    SmallVector<Value> at(rank, kernel.index(0));
    for (auto [index, lanes] : llvm::enumerate(blocks)) {
      at.back() = kernel.add(first, index * kCpuLanes);
      kernel.storeRounded(sums[index], dgamma, at, lanes);
      if (centered)
        kernel.storeRounded(sums[blocks.size() + index], dbeta, at, lanes);
    }
  });
  context.add(kernel);
  return success();
}

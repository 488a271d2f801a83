//===- Softmax.cpp - kernels of softmax, log_softmax and their gradients ---===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One outer iteration is one row, which stays in the cache between its passes. Bytes moved: operands and result once.
//
//===----------------------------------------------------------------------===//

#include "Families.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::kernels;

using Combine = KernelBuilder::Combine;

static void generateForward(Context &context, bool logarithm) {
  const TensorLayout &input = context.operand(0), &output = context.result(0);
  Rows rows(input.shape, {rowAccess(0, input), rowAccess(1, output, /*write=*/true)});
  KernelBuilder kernel(context.context(), context.op->getName().stripDialect(), context.target);
  SmallVector<View> views;
  SmallVector<Value> at = rows.begin(kernel, views);
  Type type = train::getComputeType(input.elementType);
  auto load = [&](const View &view, Value i, Lanes lanes) {
    at.back() = i;
    return kernel.loadCompute(view, at, lanes);
  };
  Value max = kernel.broadcast(kernel.reduceRow(rows.n, Combine::Max, type, [&](Value i, Lanes lanes) -> SmallVector<Value> { return {load(views[0], i, lanes)}; })[0]);
  // e^(x - max) is kept in the result where that holds it exactly. A GPU has it in registers, or computes it again.
  bool keeps = !logarithm && output.elementType == type && !kernel.isGpu();
  auto exponential = [&](Value i, Lanes lanes) { return kernel.expF(kernel.subF(load(views[0], i, lanes), max)); };
  Value sum = kernel.reduceRow(rows.n, Combine::Sum, type, [&](Value i, Lanes lanes) -> SmallVector<Value> {
    Value e = exponential(i, lanes);
    if (keeps)
      kernel.store(e, views[1], at, lanes);
    return {e};
  })[0];
  if (logarithm) {
    Value logSum = kernel.broadcast(kernel.logF(sum));
    kernel.forLanes(rows.n, [&](Value i, Lanes lanes) {
      kernel.storeRounded(kernel.subF(kernel.subF(load(views[0], i, lanes), max), logSum), views[1], at, lanes);
    });
  } else {
    Value factor = kernel.broadcast(kernel.divF(kernel.scalar(1, type), sum));
    kernel.forLanes(rows.n, [&](Value i, Lanes lanes) {
      Value e = keeps ? load(views[1], i, lanes) : exponential(i, lanes);
      kernel.storeRounded(kernel.mulF(e, factor), views[1], at, lanes);
    });
  }
  context.add(kernel);
}

static void generateGrad(Context &context, bool logarithm) {
  const TensorLayout &output = context.operand(0), &cotangent = context.operand(1), &result = context.result(0);
  Rows rows(output.shape, {rowAccess(0, output), rowAccess(1, cotangent), rowAccess(2, result, /*write=*/true)});
  KernelBuilder kernel(context.context(), context.op->getName().stripDialect(), context.target);
  SmallVector<View> views;
  SmallVector<Value> at = rows.begin(kernel, views);
  Type type = train::getComputeType(output.elementType);
  auto load = [&](const View &view, Value i, Lanes lanes) {
    at.back() = i;
    return kernel.loadCompute(view, at, lanes);
  };
  Value sum = kernel.broadcast(kernel.reduceRow(rows.n, Combine::Sum, type, [&](Value i, Lanes lanes) -> SmallVector<Value> {
    Value dy = load(views[1], i, lanes);
    return {logarithm ? dy : kernel.mulF(dy, load(views[0], i, lanes))};
  })[0]);
  kernel.forLanes(rows.n, [&](Value i, Lanes lanes) {
    Value y = load(views[0], i, lanes), dy = load(views[1], i, lanes);
    Value dx = logarithm ? kernel.subF(dy, kernel.mulF(kernel.expF(y), sum)) : kernel.mulF(y, kernel.subF(dy, sum));
    kernel.storeRounded(dx, views[2], at, lanes);
  });
  context.add(kernel);
}

LogicalResult kernels::generateSoftmax(Context &context) {
  if (isa<train::SoftmaxOp, train::LogSoftmaxOp>(context.op))
    generateForward(context, isa<train::LogSoftmaxOp>(context.op));
  else
    generateGrad(context, isa<train::LogSoftmaxGradOp>(context.op));
  return success();
}

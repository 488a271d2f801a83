//===- Scatter.cpp - the kernels of scatter ---------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "GatherSpace.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::kernels;

using train::ScatterReduction;

static Value combineRows(KernelBuilder &kernel, ScatterReduction reduction, Value a, Value b, bool isUnsigned) {
  OpBuilder &builder = kernel.builder;
  const bool real = isa<FloatType>(getElementTypeOrSelf(a.getType()));
  switch (reduction) {
  case ScatterReduction::none:
    return b;
  case ScatterReduction::add:
    return real ? kernel.addF(a, b) : arith::AddIOp::create(builder, kernel.loc, a, b);
  case ScatterReduction::mul:
    return real ? kernel.mulF(a, b) : arith::MulIOp::create(builder, kernel.loc, a, b);
  case ScatterReduction::max:
    if (isUnsigned)
      return arith::MaxUIOp::create(builder, kernel.loc, a, b);
    return real ? kernel.maxF(a, b) : arith::MaxSIOp::create(builder, kernel.loc, a, b);
  case ScatterReduction::min:
    if (isUnsigned)
      return arith::MinUIOp::create(builder, kernel.loc, a, b);
    return real ? Value(arith::MinimumFOp::create(builder, kernel.loc, a, b))
                : arith::MinSIOp::create(builder, kernel.loc, a, b);
  }
  llvm_unreachable("unknown reduction");
}

/// The positions are sorted by index, in one kernel on a CPU and five on a GPU. The last kernel gives every row of the
/// result to one outer iteration, which combines the data's row with its updates in registers, in order of position,
/// and writes it once: the same bits on both. Bytes moved: data, updates and result once, and those of the sort.
LogicalResult kernels::generateScatter(Context &context, train::ScatterOp op) {
  const TensorLayout &dataLayout = context.operand(0), &updateLayout = context.operand(2),
                     &resultLayout = context.result(0);
  const int64_t size = dataLayout.shape[0];
  const bool computes = isa<FloatType>(dataLayout.elementType) && op.getReduction() != ScatterReduction::none;
  Type i32 = IntegerType::get(context.context(), 32), indexType = IndexType::get(context.context());
  const bool isUnsigned = getElementTypeOrSelf(op.getData().getType()).isUnsignedInteger();
  SortedPositions sorted;
  int64_t bounds = size + 2;
  if (context.isGpu()) {
    GpuSort sort(context, 1, context.operand(1), size);
    sort.sort();
    sorted = {sort.starts, sort.sorted, size, sort.positions};
    bounds = sort.paddedSize;
  } else {
    sorted = sortPositions(context, 1, context.operand(1), size);
  }

  // What lies behind axis 0, collapsed alike in all three.
  SmallVector<int64_t> inner(ArrayRef(dataLayout.shape).drop_front());
  SmallVector<Access> rows;
  auto addRows = [&](unsigned argument, const TensorLayout &layout) {
    rows.push_back(Access{argument, layout.elementType, SmallVector<int64_t>(ArrayRef(layout.strides).drop_front()), 0,
                          false, layout.alignment});
  };
  addRows(0, dataLayout);
  addRows(2, updateLayout);
  addRows(context.resultArgument(0), resultLayout);
  collapseAxes(inner, rows);
  KernelBuilder kernel(context.context(), "scatter", context.target);
  auto declare = [&](unsigned index, const TensorLayout &layout, int64_t count) {
    Access access = rows[index];
    access.strides.insert(access.strides.begin(), layout.strides[0]);
    access.write = index == 2;
    return kernel.argument(access, concatenate({count}, inner));
  };
  View data = declare(0, dataLayout, size), updates = declare(1, updateLayout, updateLayout.shape[0]),
       result = declare(2, resultLayout, size);
  View starts = kernel.linear(sorted.starts, i32, bounds), order = kernel.linear(sorted.order, i32, sorted.positions);

  SmallVector<int64_t> outerShape = concatenate({size}, ArrayRef(inner).drop_back());
  kernel.spreadElements(inner.back());
  Value outer = kernel.begin(countElements(outerShape), grainFor(inner.back()));
  OpBuilder &b = kernel.builder;
  SmallVector<Value> at = kernel.delinearize(outer, outerShape);
  auto bound = [&](Value slot) -> Value {
    return arith::IndexCastOp::create(b, kernel.loc, indexType, kernel.loadScalar(starts, slot));
  };
  Value first = bound(at[0]), last = bound(kernel.add(at[0], 1));
  if (op.getReduction() == ScatterReduction::none) // the last one alone
    first = arith::MaxSIOp::create(b, kernel.loc, first, kernel.add(last, -1));
  at.push_back(Value());
  kernel.forLanes(inner.back(), [&](Value i, Lanes lanes) {
    at.back() = i;
    Value own = computes ? kernel.loadCompute(data, at, lanes) : kernel.load(data, at, lanes);
    auto loop = scf::ForOp::create(b, kernel.loc, first, last, kernel.index(1), ValueRange{own});
    {
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPointToStart(loop.getBody());
      SmallVector<Value> source = at;
      source[0] =
          arith::IndexCastOp::create(b, kernel.loc, indexType, kernel.loadScalar(order, loop.getInductionVar()));
      Value update = computes ? kernel.loadCompute(updates, source, lanes) : kernel.load(updates, source, lanes);
      scf::YieldOp::create(b, kernel.loc,
                           combineRows(kernel, op.getReduction(), loop.getRegionIterArg(0), update, isUnsigned));
    }
    if (computes)
      kernel.storeRounded(loop.getResult(0), result, at, lanes);
    else
      kernel.store(loop.getResult(0), result, at, lanes);
  });
  context.add(kernel);
  return success();
}

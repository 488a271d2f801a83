//===- Gather.cpp - kernels of gather and its gradient ---------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "GatherSpace.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::kernels;

GatherSpace kernels::makeGatherSpace(unsigned tableArgument, const TensorLayout &table, unsigned indexArgument, const TensorLayout &indices, unsigned movedArgument,
                             const TensorLayout &moved, int64_t axis) {
  GatherSpace space;
  int64_t indexRank = indices.shape.size();
  space.before = axis;
  space.tableSize = table.shape[axis];
  space.rows.append(moved.shape.begin(), moved.shape.begin() + axis + indexRank);
  space.inner.append(table.shape.begin() + axis + 1, table.shape.end());
  SmallVector<Access> inner = {{0, table.elementType, SmallVector<int64_t>(ArrayRef(table.strides).drop_front(axis + 1)), 0, false, table.alignment},
                               {0, moved.elementType, SmallVector<int64_t>(ArrayRef(moved.strides).drop_front(axis + indexRank)), 0, false, moved.alignment}};
  collapseAxes(space.inner, inner);
  space.table = Access{tableArgument, table.elementType, {table.strides[axis]}, 0, false, table.alignment};
  space.table.strides.append(table.strides.begin(), table.strides.begin() + axis);
  space.table.strides.append(indexRank, 0);
  space.table.strides.append(inner[0].strides);
  space.moved = Access{movedArgument, moved.elementType, SmallVector<int64_t>(ArrayRef(moved.strides).take_front(axis + indexRank)), 0, false, moved.alignment};
  space.moved.strides.append(inner[1].strides);
  space.indices = Access{indexArgument, indices.elementType, SmallVector<int64_t>(axis, 0)};
  space.indices.strides.append(indices.strides);
  return space;
}

Value kernels::normalizeIndex(KernelBuilder &kernel, Value raw, int64_t size) {
  OpBuilder &b = kernel.builder;
  Value value = raw.getType().isIndex() ? raw : arith::IndexCastOp::create(b, kernel.loc, b.getIndexType(), raw);
  Value negative = arith::CmpIOp::create(b, kernel.loc, arith::CmpIPredicate::slt, value, kernel.index(0));
  value = arith::SelectOp::create(b, kernel.loc, negative, kernel.add(value, size), value);
  value = arith::MaxSIOp::create(b, kernel.loc, value, kernel.index(0));
  return arith::MinSIOp::create(b, kernel.loc, value, kernel.index(size - 1));
}

SmallVector<int64_t> kernels::concatenate(ArrayRef<int64_t> a, ArrayRef<int64_t> b) {
  SmallVector<int64_t> result(a);
  result.append(b.begin(), b.end());
  return result;
}

/// GPU: rows that a thread has in flight, and iterations that are left at least: several blocks for each multiprocessor.
static constexpr int64_t kRowsTogether = 4, kLeastIterations = 4096;

/// Bytes moved: the result twice (read from the table, written), the indices once.
LogicalResult kernels::generateGather(Context &context, train::GatherOp op) {
  GatherSpace space = makeGatherSpace(0, context.operand(0), 1, context.operand(1), context.resultArgument(0), context.result(0), op.getAxis());
  space.moved.write = true;
  SmallVector<int64_t> movedShape = concatenate(space.rows, space.inner);
  KernelBuilder kernel(context.context(), "gather", context.target);
  View table = kernel.argument(space.table, concatenate({space.tableSize}, movedShape));
  // Over the rows' elements too: indices are not moved, so their width must not make accesses narrower.
  space.indices.strides.append(space.inner.size(), 0);
  View indices = kernel.argument(space.indices, movedShape);
  View result = kernel.argument(space.moved, movedShape);

  SmallVector<int64_t> outerShape = concatenate(space.rows, ArrayRef(space.inner).drop_back());
  kernel.spreadElements(space.inner.back());
  // A row is known when its index has come. On a GPU a thread asks for the indices of several rows, then for its parts of all of them: 64 bytes in flight.
  const int64_t count = countElements(outerShape);
  int64_t together = context.isGpu() ? kRowsTogether : 1;
  while (together > 1 && (count % together != 0 || count / together < kLeastIterations))
    together /= 2;
  Value outer = kernel.begin(count / together, grainFor(together * space.inner.back()));
  SmallVector<SmallVector<Value>> places;
  SmallVector<Value> rows;
  for (int64_t part = 0; part < together; ++part)
    places.push_back(kernel.delinearize(kernel.add(kernel.mul(outer, together), part), outerShape));
  for (ArrayRef<Value> place : places) {
    SmallVector<Value> at(place.take_front(space.rows.size()));
    at.append(space.inner.size(), Value());
    rows.push_back(kernel.loadScalar(indices, at));
  }
  for (Value &row : rows)
    row = normalizeIndex(kernel, row, space.tableSize);
  kernel.forLanes(space.inner.back(), [&](Value i, Lanes lanes) {
    for (auto [row, place] : llvm::zip(rows, places)) {
      SmallVector<Value> destination = place, source = {row};
      destination.push_back(i);
      source.append(destination);
      kernel.store(kernel.load(table, source, lanes), result, destination, lanes);
    }
  });
  context.add(kernel);
  return success();
}

SortedPositions kernels::sortPositions(Context &context, unsigned indexArgument, const TensorLayout &indexLayout, int64_t size) {
  Type i32 = IntegerType::get(context.context(), 32), indexType = IndexType::get(context.context());
  int64_t positions = countElements(indexLayout.shape);
  unsigned startsArgument = context.addWorkspace((size + 2) * 4);
  unsigned orderArgument = context.addWorkspace(positions * 4);
  KernelBuilder kernel(context.context(), "sort_indices", context.target);
  SmallVector<int64_t> indexShape = indexLayout.shape;
  SmallVector<Access> access = {{indexArgument, indexLayout.elementType, indexLayout.strides}};
  collapseAxes(indexShape, access);
  View indices = kernel.argument(access[0], indexShape);
  View starts = kernel.linear(startsArgument, i32, size + 2, /*write=*/true);
  View order = kernel.linear(orderArgument, i32, positions, /*write=*/true);
  kernel.begin(1, 1);
  OpBuilder &b = kernel.builder;
  Value one = kernel.constant(b.getI32IntegerAttr(1));
  auto rowOf = [&](Value position) { return normalizeIndex(kernel, kernel.loadScalar(indices, kernel.delinearize(position, indexShape)), size); };
  // starts[v + 2] counts row v ...
  kernel.forLanes(size + 2, [&](Value i, Lanes lanes) { kernel.store(kernel.splatInt(0, i32), starts, i, lanes); });
  kernel.forRange(kernel.index(0), kernel.index(positions), 1, [&](Value position) {
    Value slot = kernel.add(rowOf(position), 2);
    kernel.storeScalar(arith::AddIOp::create(b, kernel.loc, kernel.loadScalar(starts, slot), one), starts, slot);
  });
  // ... then starts[v + 1] is where row v begins ...
  kernel.forRange(kernel.index(2), kernel.index(size + 2), 1, [&](Value slot) {
    Value previous = kernel.loadScalar(starts, Value(arith::SubIOp::create(b, kernel.loc, slot, kernel.index(1))));
    kernel.storeScalar(arith::AddIOp::create(b, kernel.loc, kernel.loadScalar(starts, slot), previous), starts, slot);
  });
  // ... and moves to its end, which is where row v + 1 begins.
  kernel.forRange(kernel.index(0), kernel.index(positions), 1, [&](Value position) {
    Value slot = kernel.add(rowOf(position), 1);
    Value place = kernel.loadScalar(starts, slot);
    kernel.storeScalar(arith::IndexCastOp::create(b, kernel.loc, i32, position), order, Value(arith::IndexCastOp::create(b, kernel.loc, indexType, place)));
    kernel.storeScalar(arith::AddIOp::create(b, kernel.loc, place, one), starts, slot);
  });
  context.add(kernel);
  return {startsArgument, orderArgument, size, positions};
}

/// Two kernels. The first sorts the positions by index. The second gives every row of the result to one outer iteration, which sums the cotangents of its positions in registers and writes it once.
/// Bytes moved: cotangent and result once, 8 bytes a position and 4 a row of the table.
LogicalResult kernels::generateGatherGrad(Context &context, train::GatherGradOp op) {
  if (context.isGpu())
    return generateGatherGradOnGpu(context, op);
  const TensorLayout &indexLayout = context.operand(1);
  GatherSpace space = makeGatherSpace(context.resultArgument(0), context.result(0), 1, indexLayout, 0, context.operand(0), op.getAxis());
  space.table.write = true;
  Type i32 = IntegerType::get(context.context(), 32), indexType = IndexType::get(context.context());
  auto [startsArgument, orderArgument, size, positions] = sortPositions(context, 1, indexLayout, space.tableSize);

  KernelBuilder kernel(context.context(), "gather_grad", context.target);
  SmallVector<int64_t> movedShape = concatenate(space.rows, space.inner);
  View cotangent = kernel.argument(space.moved, movedShape);
  View starts = kernel.linear(startsArgument, i32, size + 2);
  View order = kernel.linear(orderArgument, i32, positions);
  View result = kernel.argument(space.table, concatenate({size}, movedShape));
  ArrayRef<int64_t> beforeShape = ArrayRef(space.rows).take_front(space.before);
  SmallVector<int64_t> outerShape = concatenate(beforeShape, {size});
  outerShape.append(space.inner.begin(), space.inner.end() - 1);
  int64_t row = space.inner.back();
  Value outer = kernel.begin(countElements(outerShape), grainFor(row));
  OpBuilder &b = kernel.builder;
  SmallVector<Value> coordinates = kernel.delinearize(outer, outerShape);
  Value tableRow = coordinates[space.before];
  auto bound = [&](Value slot) -> Value { return arith::IndexCastOp::create(b, kernel.loc, indexType, kernel.loadScalar(starts, slot)); };
  Value first = bound(tableRow), last = bound(kernel.add(tableRow, 1));
  SmallVector<Value> innerOuter(coordinates.begin() + space.before + 1, coordinates.end());
  Type compute = train::getComputeType(context.result(0).elementType);
  ArrayRef<int64_t> indexShape = indexLayout.shape;

  auto sumBlock = [&](Value i, ArrayRef<Lanes> blocks) {
    // Each block of 16 columns has its sum in a register.
    SmallVector<Value> zeros(blocks.size(), kernel.splat(0, compute));
    auto loop = scf::ForOp::create(b, kernel.loc, first, last, kernel.index(1), zeros);
    {
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPointToStart(loop.getBody());
      Value position = arith::IndexCastOp::create(b, kernel.loc, indexType, kernel.loadScalar(order, loop.getInductionVar()));
      SmallVector<Value> source(ArrayRef(coordinates).take_front(space.before));
      source.append(kernel.delinearize(position, indexShape));
      source.append(innerOuter);
      source.push_back(Value());
      SmallVector<Value> sums;
      for (auto [block, lanes] : llvm::enumerate(blocks)) {
        source.back() = kernel.add(i, block * kCpuLanes);
        sums.push_back(kernel.addF(loop.getRegionIterArg(block), kernel.loadCompute(cotangent, source, lanes)));
      }
      scf::YieldOp::create(b, kernel.loc, sums);
    }
    SmallVector<Value> destination = {tableRow};
    destination.append(coordinates.begin(), coordinates.begin() + space.before);
    destination.append(indexShape.size(), Value());
    destination.append(innerOuter);
    destination.push_back(Value());
    for (auto [block, lanes] : llvm::enumerate(blocks)) {
      destination.back() = kernel.add(i, block * kCpuLanes);
      kernel.storeRounded(loop.getResult(block), result, destination, lanes);
    }
  };
  constexpr int64_t kColumns = 8 * kCpuLanes;
  int64_t whole = row / kColumns * kColumns;
  if (whole > 0)
    kernel.forRange(kernel.index(0), kernel.index(whole), kColumns, [&](Value i) { sumBlock(i, SmallVector<Lanes>(8)); });
  if (row != whole) {
    SmallVector<Lanes> rest;
    for (int64_t i = whole; i < row; i += kCpuLanes)
      rest.push_back(Lanes{std::min(kCpuLanes, row - i)});
    sumBlock(kernel.index(whole), rest);
  }
  context.add(kernel);
  return success();
}

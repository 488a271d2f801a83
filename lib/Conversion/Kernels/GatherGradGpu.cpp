//===- GatherGradGpu.cpp - the gradient of gather, on GPUs -----------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// An embedding's gradient: every row of the table gets the sum of its positions' cotangents, in order of position
// within chunks of 32 positions and then in order of chunks, whatever the threads do.
//
//   sort_indices      positions by row (SortIndicesGpu.cpp)
//   sum               chunks of the sorted positions: rows that lie inside are done; what crosses the chunk's ends is a
//   partial sum in fp32 finish            adds partial sums in order, and zeroes rows without positions
//
// A row that has a sixth of all positions is spread over as many blocks as it has chunks. Bytes moved: cotangent and
// table's gradient once; a position about 40 bytes, a row 16; partial sums at most a 16th of the cotangent's elements,
// in fp32.
//
//===----------------------------------------------------------------------===//

#include "GatherSpace.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::kernels;

/// Sorted positions that one group of threads sums.
static constexpr int64_t kChunk = 32;
/// Positions whose cotangents are in flight together.
static constexpr int64_t kUnroll = 4;
/// Rows that a group finishes: most have nothing but a zero to write, and waiting for where they start takes longer.
static constexpr int64_t kRowsTogether = 4;

namespace {

struct Part;

struct GatherGrad : GpuSort {
  GatherSpace space;
  unsigned partials;

  GatherGrad(Context &context, train::GatherGradOp op)
      : GpuSort(context, 1, context.operand(1), context.result(0).shape[op.getAxis()]),
        space(makeGatherSpace(context.resultArgument(0), context.result(0), 1, context.operand(1), 0,
                              context.operand(0), op.getAxis())) {
    space.table.write = true;
  }

  void sum();
  void finish();
  void finishRowOf(KernelBuilder &kernel, const Part &part, const View &partialView, const View &result, Value row, Value first, Value end);

  /// The iterations of sum and finish: axes before the gathered one, `middle` of chunks or rows, axes after it, chunks of the last axis. Gives the two sides' coordinates around the middle.
  SmallVector<int64_t> outerShape(int64_t middle, int64_t columnChunks) {
    SmallVector<int64_t> shape = concatenate(ArrayRef(space.rows).take_front(space.before), {middle});
    shape.append(space.inner.begin(), space.inner.end() - 1);
    shape.push_back(columnChunks);
    return shape;
  }
  SmallVector<int64_t> partialShape() {
    SmallVector<int64_t> shape = {static_cast<int64_t>(llvm::divideCeil(positions, kChunk)), 2};
    shape.append(space.rows.begin(), space.rows.begin() + space.before);
    shape.append(space.inner);
    return shape;
  }
  Type computeType() { return train::getComputeType(context.result(0).elementType); }
  View declarePartials(KernelBuilder &kernel, bool write) {
    return kernel.argument(rowAccess(partials, TensorLayout::contiguous(RankedTensorType::get(partialShape(), computeType())), write), partialShape());
  }
  View declareResult(KernelBuilder &kernel) { return kernel.argument(space.table, concatenate({size}, concatenate(space.rows, space.inner))); }
};

/// The place of a group's work in sum and finish.
struct Part {
  SmallVector<Value> before, after;
  Value middle, column;
  Lanes lanes;

  Part(KernelBuilder &kernel, GatherGrad &grad, Value outer, ArrayRef<int64_t> shape, int64_t width) {
    SmallVector<Value> at = kernel.delinearize(outer, shape);
    before.assign(at.begin(), at.begin() + grad.space.before);
    middle = at[grad.space.before];
    after.assign(at.begin() + grad.space.before + 1, at.end() - 1);
    column = kernel.add(kernel.mul(at.back(), width), kernel.placeAt(0));
    int64_t row = grad.space.inner.back();
    if (row % width != 0)
      lanes = kernel.lanesBelow(column, kernel.index(row), row % kernel.lanes() == 0);
  }
  /// Indices (first..., before..., middle..., after..., column).
  SmallVector<Value> at(ArrayRef<Value> first, ArrayRef<Value> middleAt) const {
    SmallVector<Value> full(first);
    full.append(before);
    full.append(middleAt.begin(), middleAt.end());
    full.append(after);
    full.push_back(column);
    return full;
  }
};

} // namespace

void GatherGrad::sum() {
  KernelBuilder kernel(context.context(), "gather_grad_sum", context.target);
  OpBuilder &b = kernel.builder;
  Location loc = kernel.loc;
  View cotangent = kernel.argument(space.moved, concatenate(space.rows, space.inner));
  View sortedView = integers(kernel, sorted, positions), rowView = integers(kernel, rowsOfSorted, positions), startView = integers(kernel, starts, paddedSize);
  View result = declareResult(kernel), partialView = declarePartials(kernel, /*write=*/true);
  const int64_t width = kernel.spreadElements(space.inner.back()), chunks = llvm::divideCeil(positions, kChunk);
  SmallVector<int64_t> shape = outerShape(chunks, llvm::divideCeil(space.inner.back(), width));
  Part part(kernel, *this, kernel.begin(countElements(shape), 1), shape, width);
  Value low = kernel.mul(part.middle, kChunk), high = kernel.add(low, kChunk), last = kernel.index(positions - 1);
  Type type = computeType();

  auto flush = [&](Value row, Value total) {
    Value first = load(kernel, startView, row), end = load(kernel, startView, kernel.add(row, 1));
    auto compare = [&](arith::CmpIPredicate predicate, Value x, Value y) -> Value { return arith::CmpIOp::create(b, loc, predicate, x, y); };
    Value begins = compare(arith::CmpIPredicate::uge, first, low);
    Value inside = arith::AndIOp::create(b, loc, begins, compare(arith::CmpIPredicate::ule, end, high));
    auto branch = scf::IfOp::create(b, loc, inside, /*withElseRegion=*/true);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(branch.thenBlock());
    kernel.storeRounded(total, result, part.at({row}, SmallVector<Value>(indexLayout.shape.size(), kernel.index(0))), part.lanes);
    b.setInsertionPointToStart(branch.elseBlock());
    // The row that goes on from the chunk before, or else the one that goes on after this one.
    Value side = arith::SelectOp::create(b, loc, begins, kernel.index(1), kernel.index(0));
    kernel.store(total, partialView, part.at({part.middle, side}, {}), part.lanes);
  };
  Value zeros = kernel.splat(0, type);
  auto loop = scf::ForOp::create(b, loc, kernel.index(0), kernel.index(kChunk), kernel.index(kUnroll), ValueRange{load(kernel, rowView, low), zeros});
  {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(loop.getBody());
    // All addresses before the cotangents: a thread waits for the first of these only once.
    SmallVector<Value> rows, places, terms, exists;
    for (int64_t step = 0; step < kUnroll; ++step) {
      Value at = kernel.add(low, kernel.add(loop.getInductionVar(), step));
      exists.push_back(arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ule, at, last));
      at = arith::MinUIOp::create(b, loc, at, last);
      rows.push_back(load(kernel, rowView, at));
      places.push_back(load(kernel, sortedView, at));
    }
    for (Value position : places)
      terms.push_back(kernel.loadCompute(cotangent, part.at({}, kernel.delinearize(position, indexLayout.shape)), part.lanes));
    Value row = loop.getRegionIterArg(0), total = loop.getRegionIterArg(1);
    for (int64_t step = 0; step < kUnroll; ++step) {
      Value isNew = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ne, rows[step], row);
      kernel.ifThen(isNew, [&] { flush(row, total); });
      total = kernel.addF(arith::SelectOp::create(b, loc, isNew, zeros, total), arith::SelectOp::create(b, loc, exists[step], terms[step], zeros));
      row = rows[step];
    }
    scf::YieldOp::create(b, loc, ValueRange{row, total});
  }
  flush(loop.getResult(0), loop.getResult(1));
  context.add(kernel);
}

void GatherGrad::finish() {
  KernelBuilder kernel(context.context(), "gather_grad_finish", context.target);
  OpBuilder &b = kernel.builder;
  Location loc = kernel.loc;
  View startView = integers(kernel, starts, paddedSize), partialView = declarePartials(kernel, /*write=*/false), result = declareResult(kernel);
  const int64_t width = kernel.spreadElements(space.inner.back());
  SmallVector<int64_t> shape = outerShape(llvm::divideCeil(size, kRowsTogether), llvm::divideCeil(space.inner.back(), width));
  Part part(kernel, *this, kernel.begin(countElements(shape), 1), shape, width);
  SmallVector<Value> rows, bounds;
  for (int64_t i = 0; i <= kRowsTogether; ++i) {
    rows.push_back(kernel.add(kernel.mul(part.middle, kRowsTogether), i));
    bounds.push_back(load(kernel, startView, size % kRowsTogether == 0 ? rows[i] : arith::MinUIOp::create(b, loc, rows[i], kernel.index(size)).getResult()));
  }
  for (int64_t i = 0; i < kRowsTogether; ++i) {
    auto finishRow = [&] { finishRowOf(kernel, part, partialView, result, rows[i], bounds[i], bounds[i + 1]); };
    if (size % kRowsTogether == 0)
      finishRow();
    else
      kernel.ifThen(arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ult, rows[i], kernel.index(size)), finishRow);
  }
  context.add(kernel);
}

void GatherGrad::finishRowOf(KernelBuilder &kernel, const Part &part, const View &partialView, const View &result, Value row, Value first, Value end) {
  OpBuilder &b = kernel.builder;
  Location loc = kernel.loc;
  Value isEmpty = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, first, end);
  auto chunkOf = [&](Value position) -> Value { return arith::DivUIOp::create(b, loc, position, kernel.index(kChunk)); };
  Value firstChunk = chunkOf(first), endChunk = chunkOf(kernel.add(end, kChunk - 1)); // one behind the last
  Value crosses = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ugt, endChunk, kernel.add(firstChunk, 1));
  Type type = computeType();
  auto store = [&](Value total) { kernel.storeRounded(total, result, part.at({row}, SmallVector<Value>(indexLayout.shape.size(), kernel.index(0))), part.lanes); };
  auto branch = scf::IfOp::create(b, loc, isEmpty, /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(branch.thenBlock());
  store(kernel.splat(0, type));
  b.setInsertionPointToStart(branch.elseBlock());
  kernel.ifThen(crosses, [&] {
    Value total = kernel.load(partialView, part.at({firstChunk, kernel.index(1)}, {}), part.lanes);
    // A frequent row has hundreds of them: eight are in flight.
    constexpr int64_t kInFlight = 8;
    auto addPartials = [&](Value from, Value to, int64_t step, Value init) {
      auto loop = scf::ForOp::create(b, loc, from, to, kernel.index(step), init);
      OpBuilder::InsertionGuard inner(b);
      b.setInsertionPointToStart(loop.getBody());
      SmallVector<Value> loaded;
      for (int64_t chunk = 0; chunk < step; ++chunk)
        loaded.push_back(kernel.load(partialView, part.at({kernel.add(loop.getInductionVar(), chunk), kernel.index(0)}, {}), part.lanes));
      Value sum = loop.getRegionIterArg(0);
      for (Value next : loaded)
        sum = kernel.addF(sum, next);
      scf::YieldOp::create(b, loc, sum);
      return loop.getResult(0);
    };
    Value second = kernel.add(firstChunk, 1);
    Value rounds = arith::DivUIOp::create(b, loc, arith::SubIOp::create(b, loc, endChunk, second), kernel.index(kInFlight));
    Value middle = kernel.add(second, kernel.mul(rounds, kInFlight));
    store(addPartials(middle, endChunk, 1, addPartials(second, middle, kInFlight, total)));
  });
}

LogicalResult kernels::generateGatherGradOnGpu(Context &context, train::GatherGradOp op) {
  GatherGrad grad(context, op);
  grad.partials = context.addWorkspace(countElements(grad.partialShape()) * grad.computeType().getIntOrFloatBitWidth() / 8);
  grad.sort();
  grad.sum();
  grad.finish();
  return success();
}

//===- SortIndicesGpu.cpp - positions in order of their rows, on GPUs ------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A stable sort by counting, whatever the threads do:
//
//   clear, count      how many positions each row has: integer atomics, whose order does not matter
//   start             where each row's positions begin (a scan)
//   place             positions to their row's list, in the order of atomics
//   rank              each position to its place in the list: the number of smaller ones there
//
// Bytes moved: about 40 a position, 16 a row.
//
//===----------------------------------------------------------------------===//

#include "GatherSpace.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::kernels;

/// Threads of the scan, and the rows that they handle at once.
static constexpr int64_t kScanThreads = 1024, kScanLanes = 4, kScanTile = kScanThreads * kScanLanes;

GpuSort::GpuSort(Context &context, unsigned indexArgument, const TensorLayout &indices, int64_t size)
    : context(context), indexArgument(indexArgument), indexLayout(indices), size(size),
      positions(countElements(indices.shape)), paddedSize(llvm::alignTo(size + 1, kScanTile)),
      i32(IntegerType::get(context.context(), 32)), indexType(IndexType::get(context.context())) {
  for (unsigned *workspace : {&counts, &starts, &cursors})
    *workspace = context.addWorkspace(paddedSize * 4);
  for (unsigned *workspace : {&unordered, &sorted, &rowsOfSorted})
    *workspace = context.addWorkspace(positions * 4);
}

View GpuSort::integers(KernelBuilder &kernel, unsigned workspace, int64_t count, bool write) {
  return kernel.argument(Access{workspace, i32, {1}, 0, write, /*alignment=*/16}, {count});
}

Value GpuSort::load(KernelBuilder &kernel, const View &view, Value at) {
  return arith::IndexCastOp::create(kernel.builder, kernel.loc, indexType, kernel.loadScalar(view, at));
}

Value GpuSort::narrow(KernelBuilder &kernel, Value value) {
  return arith::IndexCastOp::create(kernel.builder, kernel.loc, i32, value);
}

std::function<Value(Value)> GpuSort::declareRowOf(KernelBuilder &kernel) {
  SmallVector<int64_t> shape = indexLayout.shape;
  SmallVector<Access> access = {rowAccess(indexArgument, indexLayout)};
  collapseAxes(shape, access);
  View view = kernel.argument(access[0], shape);
  return [this, &kernel, shape, view](Value position) {
    return normalizeIndex(kernel, kernel.loadScalar(view, kernel.delinearize(position, shape)), size);
  };
}

void GpuSort::clear() {
  KernelBuilder kernel(context.context(), "sort_indices_clear", context.target);
  View view = integers(kernel, counts, paddedSize, /*write=*/true);
  int64_t chunk = kernel.spreadElements(paddedSize);
  Value outer = kernel.begin(llvm::divideCeil(paddedSize, chunk), 1);
  kernel.forLanesOfChunk(kernel.mul(outer, chunk), chunk, paddedSize,
                         [&](Value i, Lanes lanes) { kernel.store(kernel.splatInt(0, i32), view, i, lanes); });
  context.add(kernel);
}

void GpuSort::count() {
  KernelBuilder kernel(context.context(), "sort_indices_count", context.target);
  auto rowOf = declareRowOf(kernel);
  View view = integers(kernel, counts, paddedSize, /*write=*/true);
  kernel.setSpread({/*lanes=*/1, /*threads=*/1, /*groups=*/256});
  Value position = kernel.begin(positions, 1);
  Value one = kernel.constant(kernel.builder.getI32IntegerAttr(1));
  memref::AtomicRMWOp::create(kernel.builder, kernel.loc, arith::AtomicRMWKind::addi, one, view.memref,
                              rowOf(position));
  context.add(kernel);
}

/// A block scans a tile of rows; what lies before the tile it adds up itself.
void GpuSort::start() {
  KernelBuilder kernel(context.context(), "sort_indices_start", context.target);
  OpBuilder &b = kernel.builder;
  Location loc = kernel.loc;
  View countView = integers(kernel, counts, paddedSize), startView = integers(kernel, starts, paddedSize, true),
       cursorView = integers(kernel, cursors, paddedSize, true);
  kernel.setSpread({kScanLanes, kScanThreads});
  Value tile = kernel.begin(paddedSize / kScanTile, 1), thread = kernel.thread();
  auto add = [&](Value x, Value y) -> Value { return arith::AddIOp::create(b, loc, x, y); };
  Value zeros = kernel.splatInt(0, i32), zero = kernel.constant(b.getI32IntegerAttr(0));
  auto loop = scf::ForOp::create(b, loc, kernel.index(0), tile, kernel.index(1), zeros);
  {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(loop.getBody());
    Value earlier =
        kernel.load(countView, kernel.add(kernel.mul(loop.getInductionVar(), kScanTile), kernel.placeAt(0)));
    scf::YieldOp::create(b, loc, add(loop.getRegionIterArg(0), earlier));
  }
  auto sumLanes = [&](Value vector) { return kernel.horizontal(KernelBuilder::Combine::Sum, vector); };
  Value base = kernel.groupReduce(KernelBuilder::Combine::Sum, sumLanes(loop.getResult(0)));
  Value place = kernel.add(kernel.mul(tile, kScanTile), kernel.placeAt(0)), own = kernel.load(countView, place),
        ownSum = sumLanes(own);
  // Inclusive sums over the threads before, at doubling distances.
  Value memory = kernel.workgroupMemory({kScanThreads}, i32), sum = ownSum;
  memref::StoreOp::create(b, loc, sum, memory, thread);
  for (int64_t distance = 1; distance < kScanThreads; distance *= 2) {
    kernel.barrier();
    Value reaches = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::uge, thread, kernel.index(distance));
    Value from = arith::SelectOp::create(b, loc, reaches, kernel.add(thread, -distance), thread);
    Value other =
        arith::SelectOp::create(b, loc, reaches, memref::LoadOp::create(b, loc, memory, ValueRange{from}), zero);
    sum = add(sum, other);
    kernel.barrier();
    memref::StoreOp::create(b, loc, sum, memory, thread);
  }
  Value running = add(base, arith::SubIOp::create(b, loc, sum, ownSum));
  SmallVector<Value> lanes;
  for (int64_t lane = 0; lane < kScanLanes; ++lane) {
    lanes.push_back(running);
    running = add(running, vector::ExtractOp::create(b, loc, own, lane));
  }
  Value first = vector::FromElementsOp::create(b, loc, VectorType::get({kScanLanes}, i32), lanes);
  kernel.store(first, startView, place);
  kernel.store(first, cursorView, place);
  context.add(kernel);
}

void GpuSort::place() {
  KernelBuilder kernel(context.context(), "sort_indices_place", context.target);
  OpBuilder &b = kernel.builder;
  auto rowOf = declareRowOf(kernel);
  View cursorView = integers(kernel, cursors, paddedSize, true),
       unorderedView = integers(kernel, unordered, positions, true);
  kernel.setSpread({/*lanes=*/1, /*threads=*/1, /*groups=*/256});
  Value position = kernel.begin(positions, 1);
  Value one = kernel.constant(b.getI32IntegerAttr(1));
  Value slot =
      memref::AtomicRMWOp::create(b, kernel.loc, arith::AtomicRMWKind::addi, one, cursorView.memref, rowOf(position));
  kernel.storeHere(narrow(kernel, position), unorderedView,
                   Value(arith::IndexCastOp::create(b, kernel.loc, indexType, slot)));
  context.add(kernel);
}

void GpuSort::rank() {
  KernelBuilder kernel(context.context(), "sort_indices_rank", context.target);
  OpBuilder &b = kernel.builder;
  Location loc = kernel.loc;
  auto rowOf = declareRowOf(kernel);
  View startView = integers(kernel, starts, paddedSize), unorderedView = integers(kernel, unordered, positions);
  View sortedView = integers(kernel, sorted, positions, true),
       rowView = integers(kernel, rowsOfSorted, positions, true);
  kernel.setSpread({/*lanes=*/1, /*threads=*/1, /*groups=*/256});
  Value slot = kernel.begin(positions, 1);
  Value position = kernel.loadScalar(unorderedView, slot);
  Value row = rowOf(arith::IndexCastOp::create(b, loc, indexType, position));
  Value first = load(kernel, startView, row), last = load(kernel, startView, kernel.add(row, 1));
  auto loop = scf::ForOp::create(b, loc, first, last, kernel.index(1), narrow(kernel, first));
  {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(loop.getBody());
    Value smaller = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt,
                                          kernel.loadScalar(unorderedView, loop.getInductionVar()), position);
    scf::YieldOp::create(
        b, loc,
        Value(arith::AddIOp::create(b, loc, loop.getRegionIterArg(0), arith::ExtUIOp::create(b, loc, i32, smaller))));
  }
  Value rank = arith::IndexCastOp::create(b, loc, indexType, loop.getResult(0));
  kernel.storeHere(position, sortedView, rank);
  kernel.storeHere(narrow(kernel, row), rowView, rank);
  context.add(kernel);
}

void GpuSort::sort() {
  clear();
  count();
  start();
  place();
  rank();
}

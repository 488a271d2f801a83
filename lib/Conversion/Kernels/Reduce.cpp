//===- Reduce.cpp - kernels of reduce_sum, _mean, _max and _prod -----------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Where the last axis is reduced, one outer iteration makes one element of the result from 16 (or 64) partial sums; where it is kept, one makes up to 128 neighbouring elements, with a row's
// elements in registers. Further reduced axes are loops outside of these, in blocks of 64 whose sums are added up. So the order depends on the shape alone: reduced axes are never merged, whatever
// the layout. Bytes moved: operand and result once.
//
//===----------------------------------------------------------------------===//

#include "Families.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::kernels;

using Combine = KernelBuilder::Combine;

/// Elements of a long row that are summed before the sum is added to a total.
static constexpr int64_t kRowBlock = 4096;
/// Columns that one outer iteration of a column reduction handles.
static constexpr int64_t kColumns = 8 * kCpuLanes;

namespace {

struct Reduction {
  Context &context;
  Combine kind;
  Type compute;
  Access input, output;
  SmallVector<int64_t> kept, reduced; // sizes; input is over (kept..., reduced...) or, by columns, (kept but the last..., reduced..., the last kept)
  bool byRows;

  void analyze(ArrayRef<int64_t> axes, bool keepdims);
  void generateRows();
  void generateColumns();
  void generateRowsOnGpu();
  void generateColumnsOnGpu();
  Value finish(KernelBuilder &kernel, Value value);
  int64_t count() const { return countElements(reduced); }
};

} // namespace

void Reduction::analyze(ArrayRef<int64_t> axes, bool keepdims) {
  const TensorLayout &source = context.operand(0), &destination = context.result(0);
  SmallVector<Access> keptAccesses = {{0, source.elementType, {}, 0, false, source.alignment}, {1, destination.elementType, {}, 0, true, destination.alignment}};
  SmallVector<int64_t> reducedStrides;
  bool lastReduced = true;
  for (int64_t axis = 0, resultAxis = 0, rank = source.shape.size(); axis < rank; ++axis) {
    bool isReduced = llvm::is_contained(axes, axis);
    if (source.shape[axis] != 1)
      lastReduced = isReduced;
    if (isReduced) {
      if (source.shape[axis] != 1) {
        reduced.push_back(source.shape[axis]);
        reducedStrides.push_back(source.strides[axis]);
      }
      resultAxis += keepdims;
      continue;
    }
    kept.push_back(source.shape[axis]);
    keptAccesses[0].strides.push_back(source.strides[axis]);
    keptAccesses[1].strides.push_back(destination.strides[resultAxis++]);
  }
  byRows = lastReduced;
  collapseAxes(kept, keptAccesses);
  if (reduced.empty()) { // nothing but axes of size 1
    reduced.push_back(1);
    reducedStrides.push_back(0);
  }
  input = keptAccesses[0];
  output = keptAccesses[1];
  // Reduced axes go behind the kept ones, or before the last of them.
  input.strides.insert(byRows ? input.strides.end() : input.strides.end() - 1, reducedStrides.begin(), reducedStrides.end());
}

Value Reduction::finish(KernelBuilder &kernel, Value value) {
  if (!isa<train::ReduceMeanOp>(context.op))
    return value;
  OpBuilder &b = kernel.builder;
  bool isVector = isa<VectorType>(value.getType());
  if (isa<IntegerType>(compute)) {
    const bool isUnsigned = getElementTypeOrSelf(context.op->getOperand(0).getType()).isUnsignedInteger();
    Value divisor = isVector ? kernel.splatInt(count(), compute) : kernel.constant(b.getIntegerAttr(compute, count()));
    if (isUnsigned)
      return arith::DivUIOp::create(b, kernel.loc, value, divisor);
    return arith::DivSIOp::create(b, kernel.loc, value, divisor);
  }
  return kernel.divF(value, isVector ? kernel.splat(count(), compute) : kernel.scalar(count(), compute));
}

void Reduction::generateRows() {
  SmallVector<int64_t> shape = kept;
  shape.append(reduced);
  KernelBuilder kernel(context.context(), context.op->getName().stripDialect(), context.target);
  View source = kernel.argument(input, shape);
  View destination = kernel.argument(output, kept);
  Value outer = kernel.begin(countElements(kept), grainFor(count()));
  SmallVector<Value> coordinates = kernel.delinearize(outer, kept);
  Value identity = kernel.horizontal(kind, kernel.identity(kind, compute));
  int64_t row = reduced.back();

  auto reducePart = [&](Value base, int64_t n) {
    return kernel.reduceRow(n, kind, compute, [&](Value i, Lanes lanes) -> SmallVector<Value> {
      coordinates.push_back(base ? kernel.add(base, i) : i);
      Value terms = kernel.loadCompute(source, coordinates, lanes);
      coordinates.pop_back();
      return {terms};
    });
  };
  auto leaf = [&]() -> SmallVector<Value> {
    if (row <= 2 * kRowBlock)
      return reducePart(Value(), row);
    int64_t blocks = row / kRowBlock;
    Value total = kernel.reduceRange(kind, blocks, identity, [&](Value i) { return reducePart(kernel.mul(i, kRowBlock), kRowBlock); })[0];
    if (row % kRowBlock != 0)
      total = kernel.combine(kind, total, reducePart(kernel.index(blocks * kRowBlock), row % kRowBlock)[0]);
    return {total};
  };
  SmallVector<Value> full = kernel.reduceNested(kind, ArrayRef(reduced).drop_back(), coordinates, identity, leaf);
  kernel.storeRoundedScalar(finish(kernel, full[0]), destination, coordinates);
  context.add(kernel);
}

void Reduction::generateColumns() {
  int64_t columns = kept.back(), chunks = (columns + kColumns - 1) / kColumns;
  SmallVector<int64_t> shape(ArrayRef(kept).drop_back());
  shape.append(reduced);
  shape.push_back(columns);
  KernelBuilder kernel(context.context(), context.op->getName().stripDialect(), context.target);
  View source = kernel.argument(input, shape);
  View destination = kernel.argument(output, kept);
  SmallVector<int64_t> outerShape(kept);
  outerShape.back() = chunks;
  Value outer = kernel.begin(countElements(outerShape), grainFor(count() * std::min(columns, kColumns)));
  SmallVector<Value> coordinates = kernel.delinearize(outer, outerShape);
  Value chunk = coordinates.pop_back_val();

  auto reduceChunk = [&](Value first, ArrayRef<Lanes> blocks) {
    SmallVector<Value> identities(blocks.size(), kernel.identity(kind, compute));
    SmallVector<Value> full = kernel.reduceNested(kind, reduced, coordinates, identities, [&] {
      SmallVector<Value> terms;
      for (auto [index, lanes] : llvm::enumerate(blocks)) {
        coordinates.push_back(kernel.add(first, index * kCpuLanes));
        terms.push_back(kernel.loadCompute(source, coordinates, lanes));
        coordinates.pop_back();
      }
      return terms;
    });
    for (auto [index, lanes] : llvm::enumerate(blocks)) {
      coordinates.push_back(kernel.add(first, index * kCpuLanes));
      kernel.storeRounded(finish(kernel, full[index]), destination, coordinates, lanes);
      coordinates.pop_back();
    }
  };
  kernel.forColumnChunks(chunk, columns, kColumns, reduceChunk);
  context.add(kernel);
}

//===----------------------------------------------------------------------===//
// GPUs
//===----------------------------------------------------------------------===//

/// Elements that a block reduces at once where there are few, long rows.
static constexpr int64_t kGpuChunk = 16384;

/// The reduced axes are one row, in row-major order whatever the layout. Rows that are too few to fill the GPU are cut into chunks, whose results a second launch reduces.
void Reduction::generateRowsOnGpu() {
  const int64_t n = count(), keptCount = countElements(kept);
  const int64_t chunks = n > 2 * kGpuChunk && keptCount < 256 ? llvm::divideCeil(n, kGpuChunk) : 1;
  const int64_t length = chunks > 1 ? kGpuChunk : n;
  // Addresses may have fewer axes than the order.
  SmallVector<Access> inner = {input};
  inner[0].strides.erase(inner[0].strides.begin(), inner[0].strides.begin() + kept.size());
  SmallVector<int64_t> rowShape = reduced;
  collapseAxes(rowShape, inner);
  Access access = input;
  access.strides.truncate(kept.size());
  access.strides.append(inner[0].strides);
  SmallVector<int64_t> shape = kept;
  shape.append(rowShape);

  const unsigned workspace = chunks > 1 ? context.addWorkspace(keptCount * chunks * llvm::divideCeil(compute.getIntOrFloatBitWidth(), 8)) : 0;
  TensorLayout partialLayout = TensorLayout::contiguous(RankedTensorType::get({keptCount, chunks}, compute));
  {
    KernelBuilder kernel(context.context(), context.op->getName().stripDialect(), context.target);
    View source = kernel.argument(access, shape), destination;
    destination = chunks > 1 ? kernel.linear(workspace, compute, keptCount * chunks, /*write=*/true) : kernel.argument(output, kept);
    kernel.spreadRow(length);
    Value outer = kernel.begin(keptCount * chunks, 1);
    SmallVector<int64_t> outerShape = kept;
    outerShape.push_back(chunks);
    SmallVector<Value> at = kernel.delinearize(outer, outerShape);
    Value base = chunks > 1 ? kernel.mul(at.back(), length) : Value();
    at.pop_back();
    SmallVector<Value> keptAt = at;
    Value sum = kernel.reduceRow(length, kind, compute, [&](Value i, Lanes lanes) -> SmallVector<Value> {
      if (base)
        i = kernel.add(base, i);
      if (n % length != 0) // the last chunk
        lanes = kernel.lanesBelow(i, kernel.index(n), n % kernel.lanes() == 0);
      at = keptAt;
      Value terms;
      if (rowShape.size() == 1) {
        at.push_back(i);
        terms = kernel.loadCompute(source, at, lanes);
      } else {
        terms = kernel.convert(kernel.loadLanes(source, i, lanes, [&](Value place) {
          SmallVector<Value> full = keptAt;
          full.append(kernel.delinearize(place, rowShape));
          return full;
        }), compute);
      }
      return {kernel.keepValid(terms, kernel.identity(kind, compute), lanes)};
    })[0];
    if (chunks > 1)
      kernel.storeScalar(sum, destination, outer);
    else
      kernel.storeRoundedScalar(finish(kernel, sum), destination, keptAt);
    context.add(kernel);
  }
  if (chunks == 1)
    return;
  KernelBuilder kernel(context.context(), (context.op->getName().stripDialect() + "_total").str(), context.target);
  View partial = kernel.argument(rowAccess(workspace, partialLayout), partialLayout.shape), destination = kernel.argument(output, kept);
  kernel.spreadRow(chunks);
  Value outer = kernel.begin(keptCount, 1);
  Value sum = kernel.reduceRow(chunks, kind, compute, [&](Value i, Lanes lanes) -> SmallVector<Value> { return {kernel.load(partial, {outer, i}, lanes)}; })[0];
  kernel.storeRoundedScalar(finish(kernel, sum), destination, kernel.delinearize(outer, kept));
  context.add(kernel);
}

void Reduction::generateColumnsOnGpu() {
  SmallVector<int64_t> outer(ArrayRef(kept).drop_back());
  SmallVector<Access> inner = {input};
  inner[0].strides.erase(inner[0].strides.begin(), inner[0].strides.begin() + outer.size());
  inner[0].strides.pop_back();
  SmallVector<int64_t> rowShape = reduced;
  collapseAxes(rowShape, inner);
  Access access = input;
  access.strides.truncate(outer.size());
  access.strides.append(inner[0].strides);
  access.strides.push_back(input.strides.back());
  SmallVector<int64_t> shape = outer;
  shape.append(rowShape);
  shape.push_back(kept.back());
  View source;
  ColumnReduction reduction;
  reduction.name = context.op->getName().stripDialect();
  reduction.outer = outer;
  reduction.rows = count();
  reduction.columns = kept.back();
  reduction.kind = kind;
  reduction.results = 1;
  reduction.type = compute;
  reduction.lanes = std::max<int64_t>(1, 16 / llvm::divideCeil(input.elementType.getIntOrFloatBitWidth(), 8));
  reduction.destinations = {output};
  reduction.declare = [&](KernelBuilder &kernel) { source = kernel.argument(access, shape); };
  reduction.terms = [&](KernelBuilder &kernel, ValueRange outerAt, Value row, Value column, const Lanes &lanes) -> SmallVector<Value> {
    SmallVector<Value> at(outerAt);
    at.append(kernel.delinearize(row, rowShape));
    at.push_back(column);
    return {kernel.loadCompute(source, at, lanes)};
  };
  reduction.finish = [&](KernelBuilder &kernel, ArrayRef<Value> totals, ValueRange, Value) -> SmallVector<Value> { return {finish(kernel, totals[0])}; };
  generateColumnReduction(context, reduction);
}

LogicalResult kernels::generateReduce(Context &context) {
  ArrayRef<int64_t> axes;
  bool keepdims = false;
  Combine kind = Combine::Sum;
  if (auto sum = dyn_cast<train::ReduceSumOp>(context.op)) {
    axes = sum.getAxes();
    keepdims = sum.getKeepdims();
  } else if (auto mean = dyn_cast<train::ReduceMeanOp>(context.op)) {
    axes = mean.getAxes();
    keepdims = mean.getKeepdims();
  } else if (auto product = dyn_cast<train::ReduceProdOp>(context.op)) {
    axes = product.getAxes();
    keepdims = product.getKeepdims();
    kind = Combine::Product;
  } else {
    auto max = cast<train::ReduceMaxOp>(context.op);
    axes = max.getAxes();
    keepdims = max.getKeepdims();
    kind = getElementTypeOrSelf(max.getInput().getType()).isUnsignedInteger() ? Combine::MaxUnsigned : Combine::Max;
  }
  Type elementType = context.operand(0).elementType;
  if (elementType.isInteger(1))
    return context.op->emitOpError("has no kernel for i1");
  Type compute = isa<FloatType>(elementType) ? Type(train::getComputeType(elementType)) : elementType;
  Reduction reduction{context, kind, compute, {}, {}, {}, {}, true};
  reduction.analyze(axes, keepdims);
  if (context.isGpu())
    reduction.byRows ? reduction.generateRowsOnGpu() : reduction.generateColumnsOnGpu();
  else if (reduction.byRows)
    reduction.generateRows();
  else
    reduction.generateColumns();
  return success();
}

//===- ColumnsCpu.cpp - reductions over rows, on CPUs ----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// An outer iteration reduces a chunk of rows, in their order, for up to 64 neighbouring columns in registers; a second
// launch reduces the chunks' results. The order depends on the number of rows and columns alone.
//
//===----------------------------------------------------------------------===//

#include "Families.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::kernels;

/// Columns of an outer iteration: four vectors for each result, and what the terms read, fit the registers.
static constexpr int64_t kColumns = 4 * kCpuLanes;
/// Rows of a chunk: rounding errors grow with the square root of both this and the number of chunks.
static constexpr int64_t kChunkRows = 256;

void kernels::generateColumnReductionOnCpu(Context &context, const ColumnReduction &reduction) {
  const int64_t rows = reduction.rows, columns = reduction.columns;
  const int64_t chunks = llvm::divideCeil(rows, kChunkRows), columnChunks = llvm::divideCeil(columns, kColumns);
  SmallVector<unsigned> workspaces;
  for (unsigned k = 0; k < reduction.results; ++k)
    workspaces.push_back(addPartials(context, reduction, chunks));
  {
    KernelBuilder kernel(context.context(), reduction.name, context.target);
    reduction.declare(kernel);
    SmallVector<View> partials;
    for (unsigned workspace : workspaces)
      partials.push_back(declarePartials(kernel, reduction, chunks, workspace, /*write=*/true));
    SmallVector<int64_t> outerShape = {chunks};
    outerShape.append(reduction.outer);
    outerShape.push_back(columnChunks);
    Value iteration = kernel.begin(countElements(outerShape), grainFor(kChunkRows * std::min(columns, kColumns)));
    SmallVector<Value> at = kernel.delinearize(iteration, outerShape);
    Value columnChunk = at.pop_back_val();
    ValueRange outer = ValueRange(at).drop_front();
    Value low = kernel.mul(at[0], kChunkRows), high = kernel.add(low, kChunkRows);
    if (rows % kChunkRows != 0)
      high = arith::MinUIOp::create(kernel.builder, kernel.loc, high, kernel.index(rows));
    kernel.forColumnChunks(columnChunk, columns, kColumns, [&](Value first, ArrayRef<Lanes> blocks) {
      auto columnOf = [&](size_t block) { return kernel.add(first, block * kCpuLanes); };
      SmallVector<Value> identities(blocks.size() * reduction.results, kernel.identity(reduction.kind, reduction.type));
      auto loop = scf::ForOp::create(kernel.builder, kernel.loc, low, high, kernel.index(1), identities);
      {
        OpBuilder::InsertionGuard guard(kernel.builder);
        kernel.builder.setInsertionPointToStart(loop.getBody());
        SmallVector<Value> sums;
        for (auto [block, lanes] : llvm::enumerate(blocks))
          for (Value term : reduction.terms(kernel, outer, loop.getInductionVar(), columnOf(block), lanes))
            sums.push_back(kernel.combine(reduction.kind, loop.getRegionIterArg(sums.size()), term));
        scf::YieldOp::create(kernel.builder, kernel.loc, sums);
      }
      auto sum = loop.getResults().begin();
      for (auto [block, lanes] : llvm::enumerate(blocks))
        for (const View &view : partials) {
          SmallVector<Value> place(at);
          place.push_back(columnOf(block));
          kernel.store(*sum++, view, place, lanes);
        }
    });
    context.add(kernel);
  }
  KernelBuilder kernel(context.context(), (reduction.name + "_total").str(), context.target);
  SmallVector<View> partials;
  for (unsigned workspace : workspaces)
    partials.push_back(declarePartials(kernel, reduction, chunks, workspace, /*write=*/false));
  SmallVector<View> results = declareColumnResults(kernel, reduction);
  SmallVector<int64_t> outerShape = reduction.outer;
  outerShape.push_back(columns);
  Value iteration = kernel.begin(countElements(outerShape), grainFor(chunks));
  SmallVector<Value> outer = kernel.delinearize(iteration, outerShape);
  Value column = outer.pop_back_val();
  auto load = [&](const View &view, Value chunk) {
    SmallVector<Value> place = {chunk};
    place.append(outer);
    place.push_back(column);
    return kernel.loadScalar(view, place);
  };
  Value zero = kernel.index(0);
  auto begin = llvm::map_to_vector(partials, [&](const View &view) { return load(view, zero); });
  SmallVector<Value> totals = kernel.forRange(chunks - 1, begin, [&](Value i, ValueRange carried) {
    Value chunk = kernel.add(i, 1);
    SmallVector<Value> next;
    for (auto [view, sum] : llvm::zip(partials, carried))
      next.push_back(kernel.combine(reduction.kind, sum, load(view, chunk)));
    return next;
  });
  storeColumnResults(kernel, reduction, results, totals, outer, column);
  context.add(kernel);
}

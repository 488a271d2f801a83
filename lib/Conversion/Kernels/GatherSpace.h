//===- GatherSpace.h - the index space of gathers --------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_CONVERSION_KERNELS_GATHERSPACE_H
#define ZOPT_LIB_CONVERSION_KERNELS_GATHERSPACE_H

#include "Families.h"

namespace zopt::kernels {

/// The index space of a gather: the axes before the gathered one, those of the indices, and those after it. One outer iteration moves one row, the collapsed last axes.
struct GatherSpace {
  llvm::SmallVector<int64_t> rows; // axes before, then axes of the indices
  unsigned before;           // how many are before
  llvm::SmallVector<int64_t> inner;
  Access table;              // over (table axis, rows..., inner...)
  Access moved;              // over (rows..., inner...): the gathered side
  Access indices;            // over rows
  int64_t tableSize;
};

GatherSpace makeGatherSpace(unsigned tableArgument, const TensorLayout &table, unsigned indexArgument, const TensorLayout &indices, unsigned movedArgument, const TensorLayout &moved, int64_t axis);

/// An index as a row of the table: negative ones count from the end. The runtime has checked those that the data brings; the clamp keeps any other from leaving the table.
mlir::Value normalizeIndex(KernelBuilder &kernel, mlir::Value raw, int64_t size);

llvm::SmallVector<int64_t> concatenate(llvm::ArrayRef<int64_t> a, llvm::ArrayRef<int64_t> b);

/// CPU: the positions of each row of the table, in order. Adds the kernel that sorts them, stably, by counting: positions order[starts[v]] .. order[starts[v + 1] - 1] select row v. Two workspaces of i32.
struct SortedPositions {
  unsigned starts, order; // arguments
  int64_t size, positions;
};
SortedPositions sortPositions(Context &context, unsigned indexArgument, const TensorLayout &indices, int64_t size);

/// GPU (SortIndicesGpu.cpp): the same order, by five kernels. Positions sorted[starts[v]] .. sorted[starts[v + 1] - 1]
/// select row v, in order; rowsOfSorted tells the row of each.
struct GpuSort {
  GpuSort(Context &context, unsigned indexArgument, const TensorLayout &indices, int64_t size);
  /// Adds the kernels.
  void sort();

  /// A workspace as a vector of i32.
  View integers(KernelBuilder &kernel, unsigned workspace, int64_t count, bool write = false);
  mlir::Value load(KernelBuilder &kernel, const View &view, mlir::Value at);
  mlir::Value narrow(KernelBuilder &kernel, mlir::Value value);
  /// A function of positions: the row that the index there selects.
  std::function<mlir::Value(mlir::Value)> declareRowOf(KernelBuilder &kernel);

  Context &context;
  unsigned indexArgument;
  const TensorLayout &indexLayout;
  int64_t size, positions, paddedSize; // the scan's tiles are whole and hold one more than the rows
  mlir::Type i32, indexType;
  unsigned counts, starts, cursors, unordered, sorted, rowsOfSorted;

private:
  void clear();
  void count();
  void start();
  void place();
  void rank();
};

/// GatherGradGpu.cpp
mlir::LogicalResult generateGatherGradOnGpu(Context &context, train::GatherGradOp op);

} // namespace zopt::kernels

#endif // ZOPT_LIB_CONVERSION_KERNELS_GATHERSPACE_H

//===- Views.h - tensors as strided views of storage -------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A tensor value lies in a storage at an offset, with a stride an axis. Movement ops mostly change offset, shape and strides, and move nothing.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_CONVERSION_ZEROTOPLAN_VIEWS_H
#define ZOPT_LIB_CONVERSION_ZEROTOPLAN_VIEWS_H

#include "zopt/Conversion/KernelGeneration.h"
#include <optional>

namespace zopt {

/// Index of a storage; see StorageTable.
using StorageId = int32_t;

/// Bytes of an element in memory; i1 takes one.
int64_t getElementBytes(mlir::Type elementType);

/// Zeros behind the end of an axis, the one of `from` elements that are `stride` apart: up to `to` elements may be read, and written with zeros. Says nothing (`to` is 0) about most views.
struct ZeroPadding {
  int64_t from = 0, to = 0, stride = 0;
};

struct View {
  StorageId storage = -1;
  int64_t offset = 0; // elements
  TensorLayout layout;
  ZeroPadding padding = {}; // stays true of whatever view of the same axis

  /// Row-major at the start of `storage`.
  static View contiguous(StorageId storage, mlir::RankedTensorType type, int64_t offset = 0) { return {storage, offset, TensorLayout::contiguous(type)}; }
  int64_t getByteOffset() const { return offset * getElementBytes(layout.elementType); }
  int64_t getElements() const;
  bool isContiguous() const { return layout.isContiguous(); }
  /// Whether the elements fill a contiguous range, each once, in any order of axes.
  bool isDense() const;
};

/// The view that holds the op's result, where it needs no copy; `input` holds the operand.
std::optional<View> viewResult(mlir::Operation *op, const View &input);

/// The view that the operand must be written to, so that the op's result lies in `result`.
std::optional<View> viewOperand(mlir::Operation *op, const View &result);

/// `view` with other axes, elements in the same row-major order; nothing where strides cannot express that.
std::optional<View> reshapeView(const View &view, llvm::ArrayRef<int64_t> shape);

/// Part of `view`: `sizes` elements from `starts`, each `steps` apart.
View sliceView(const View &view, llvm::ArrayRef<int64_t> starts, llvm::ArrayRef<int64_t> sizes, llvm::ArrayRef<int64_t> steps);

/// Whether `op` only moves elements of its one operand.
bool isMovement(mlir::Operation *op);

} // namespace zopt

#endif // ZOPT_LIB_CONVERSION_ZEROTOPLAN_VIEWS_H

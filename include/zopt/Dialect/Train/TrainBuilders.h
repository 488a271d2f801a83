//===- TrainBuilders.h - short forms to build train ops ----------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// Builders that compute the result type, for code that writes graphs: derivatives, losses, decompositions. Operands must satisfy the op's
// constraints; a violation shows as a verifier error of the op that was built.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_DIALECT_TRAIN_TRAINBUILDERS_H
#define ZOPT_DIALECT_TRAIN_TRAINBUILDERS_H

#include "zopt/Dialect/Train/Train.h"

namespace zopt::train {

inline mlir::RankedTensorType getTensorType(mlir::Value value) {
  return llvm::cast<mlir::RankedTensorType>(value.getType());
}

/// A splat constant, rounded to the element type.
mlir::Value splat(mlir::OpBuilder &builder, mlir::Location loc, mlir::RankedTensorType type, double value);
/// A rank-0 constant of an element type; broadcasts against anything.
mlir::Value scalar(mlir::OpBuilder &builder, mlir::Location loc, mlir::Type elementType, double value);

// Elementwise with NumPy broadcasting: the result has the broadcast shape and the operands' element type.
mlir::Value add(mlir::OpBuilder &builder, mlir::Location loc, mlir::Value lhs, mlir::Value rhs);
mlir::Value sub(mlir::OpBuilder &builder, mlir::Location loc, mlir::Value lhs, mlir::Value rhs);
mlir::Value mul(mlir::OpBuilder &builder, mlir::Location loc, mlir::Value lhs, mlir::Value rhs);
mlir::Value div(mlir::OpBuilder &builder, mlir::Location loc, mlir::Value lhs, mlir::Value rhs);
mlir::Value compare(mlir::OpBuilder &builder, mlir::Location loc, ComparePredicate predicate, mlir::Value lhs, mlir::Value rhs);
mlir::Value select(mlir::OpBuilder &builder, mlir::Location loc, mlir::Value condition, mlir::Value onTrue, mlir::Value onFalse);

/// The same elements in another element type; the value itself where it has that type.
mlir::Value cast(mlir::OpBuilder &builder, mlir::Location loc, mlir::Value value, mlir::Type elementType);
/// Row-major reshape; the value itself where it has that shape.
mlir::Value reshape(mlir::OpBuilder &builder, mlir::Location loc, mlir::Value value, llvm::ArrayRef<int64_t> shape);
/// Broadcast; the value itself where it has that shape.
mlir::Value broadcast(mlir::OpBuilder &builder, mlir::Location loc, mlir::Value value, llvm::ArrayRef<int64_t> shape);
mlir::Value transpose(mlir::OpBuilder &builder, mlir::Location loc, mlir::Value value, llvm::ArrayRef<int64_t> permutation);
/// Sum over sorted axes.
mlir::Value reduceSum(mlir::OpBuilder &builder, mlir::Location loc, mlir::Value value, llvm::ArrayRef<int64_t> axes, bool keepdims = false);

/// The transpose of broadcasting: sums the axes that a value of `shape` was broadcast along to get to this value's shape.
mlir::Value reduceTo(mlir::OpBuilder &builder, mlir::Location loc, mlir::Value value, llvm::ArrayRef<int64_t> shape);

} // namespace zopt::train

#endif // ZOPT_DIALECT_TRAIN_TRAINBUILDERS_H

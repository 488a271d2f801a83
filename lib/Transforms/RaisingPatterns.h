//===- RaisingPatterns.h - what the raising passes share ---------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Matchers for the forward level. They only look: nothing here changes the IR but the builders and eraseDeadOps.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_TRANSFORMS_RAISINGPATTERNS_H
#define ZOPT_LIB_TRANSFORMS_RAISINGPATTERNS_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/PatternMatch.h"
#include "zopt/Dialect/Train/TrainBuilders.h"
#include "llvm/ADT/DenseMap.h"
#include <optional>

namespace zopt {

/// The number that every element of a constant has, also through reshapes and broadcasts. True is 1.
std::optional<double> getSplat(mlir::Value value);
bool isSplat(mlir::Value value, double expected);

/// `value` = `source` * `factor` with a constant factor, and `source` of the same type.
struct Scaling {
  mlir::Value source;
  double factor;
};
/// Looks at one train.mul or train.div.
std::optional<Scaling> matchScaling(mlir::Value value);

/// Whether two values are equal because they are the same, or made by equal ops from the same operands.
bool isSameValue(mlir::Value a, mlir::Value b);

/// The square root of what a norm divides by: `numerator` / sqrt(mean(`squared`^2 over the last axis, kept as 1) + `epsilon`).
struct DivisionByRoot {
  mlir::Value numerator;
  mlir::Value squared;
  double epsilon;
};
/// Looks at a train.mul or train.div. The root may be spelled as Sqrt, Sqrt and Reciprocal, Rsqrt or Pow. The result has the numerator's type.
std::optional<DivisionByRoot> matchDivisionByRoot(mlir::Operation *op);

/// The operand of a mean over the last axis with that axis kept as 1, null for others.
mlir::Value matchRowMean(mlir::Value value);

/// Whether `value` is a vector of `size` elements: it has one axis, or comes from a state or a constant that has leading axes of 1. An activation of one sample at one
/// position is none, so that what is raised does not depend on the batch.
bool isVector(mlir::Value value, int64_t size);
/// Such a value with one axis.
mlir::Value asVector(mlir::OpBuilder &builder, mlir::Location loc, mlir::Value value);

/// The other operand of a commutative binary op.
mlir::Value getOther(mlir::Operation *op, mlir::Value operand);

/// The value with its last two axes exchanged; joins the transpose that makes the value.
mlir::Value exchangeLastAxes(mlir::OpBuilder &builder, mlir::Location loc, mlir::Value value);

/// Whether a gradient may flow to a value: whether it is computed, by ops on floats, from a trained state. Remembers what it has seen.
class GradientReach {
public:
  bool reaches(mlir::Value value);

private:
  llvm::DenseMap<mlir::Operation *, bool> known;
};

/// Erases ops without uses and effects, in one sweep.
void eraseDeadOps(mlir::func::FuncOp function);

/// What zopt-simplify-movement does beside the folds of its ops.
void populateSimplifyMovementPatterns(mlir::RewritePatternSet &patterns);

} // namespace zopt

#endif // ZOPT_LIB_TRANSFORMS_RAISINGPATTERNS_H

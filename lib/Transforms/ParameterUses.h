//===- ParameterUses.h - who reads which parameters --------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A parameter is used by an op that computes with it and something else. Ops that compute from parameters alone (a transpose, a cast) are not uses: what they make is as large as the parameter,
// and it is made again wherever it is needed, so that no weight becomes a residual.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_TRANSFORMS_PARAMETERUSES_H
#define ZOPT_LIB_TRANSFORMS_PARAMETERUSES_H

#include "zopt/Dialect/Train/Train.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/SmallVector.h"

namespace zopt {

/// An operand that holds a parameter, or a value computed from parameters alone.
struct ParameterUse {
  mlir::OpOperand *operand;
  int64_t position;                             // of the owner in its block
  llvm::SmallVector<mlir::StringAttr, 2> names; // the parameters behind it
};

class ParameterUses {
public:
  /// Looks through the one block of `function`; `isParameter` says which states count.
  ParameterUses(mlir::func::FuncOp function, llvm::function_ref<bool(mlir::StringAttr)> isParameter);

  /// In program order.
  llvm::ArrayRef<ParameterUse> getUses() const { return uses; }
  /// Whether `value` is a parameter or computed from parameters alone.
  bool isDerived(mlir::Value value) const { return parametersOf.contains(value); }
  /// Position of train.backward, or the number of ops where there is none.
  int64_t getBackwardPosition() const { return backwardPosition; }

private:
  llvm::SmallVector<ParameterUse> uses;
  llvm::DenseMap<mlir::Value, llvm::SmallVector<mlir::StringAttr, 2>> parametersOf;
  int64_t backwardPosition = 0;
};

/// The function that a step's micro-batch runs through: @micro_step, or @forward in a forward plan; null if there is none.
mlir::func::FuncOp getMicroStep(mlir::ModuleOp module);

} // namespace zopt

#endif // ZOPT_LIB_TRANSFORMS_PARAMETERUSES_H

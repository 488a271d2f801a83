//===- Residuals.h - values between forward and backward ---------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_TRANSFORMS_RESIDUALS_H
#define ZOPT_LIB_TRANSFORMS_RESIDUALS_H

#include "zopt/Dialect/Train/Train.h"
#include "zopt/Dialect/Zero/Zero.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace zopt {

/// Holds the zero::ResidualDecision of an op's results, as a string.
constexpr llvm::StringLiteral kResidualAttrName = "zero.residual";

/// Ops before train.backward with a result that is used after it, in program order. Reads of states and constants are none: they cost nothing to make again.
inline llvm::SmallVector<mlir::Operation *> findResiduals(mlir::func::FuncOp function) {
  llvm::SmallVector<mlir::Operation *> residuals;
  auto backwards = function.getOps<train::BackwardOp>();
  if (backwards.empty())
    return residuals;
  mlir::Operation *backward = *backwards.begin();
  for (mlir::Operation &op : function.getBody().front()) {
    if (&op == backward)
      break;
    if (mlir::isa<train::ReadStateOp>(op) || op.hasTrait<mlir::OpTrait::ConstantLike>())
      continue;
    if (llvm::any_of(op.getUsers(), [&](mlir::Operation *user) { return backward->isBeforeInBlock(user); }))
      residuals.push_back(&op);
  }
  return residuals;
}

} // namespace zopt

#endif // ZOPT_LIB_TRANSFORMS_RESIDUALS_H

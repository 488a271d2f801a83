//===- RunningAverages.h - where running averages take effect ----*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_TRANSFORMS_RUNNINGAVERAGES_H
#define ZOPT_LIB_TRANSFORMS_RUNNINGAVERAGES_H

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"

namespace zopt {

/// Behind the name of a running average: the state that holds what micro-steps have moved it by.
constexpr llvm::StringLiteral kMovement = ".movement";

/// Writes into @apply_step that every running average moves by the mean over ranks of what zopt-add-running-averages
/// adds up, where `isApplied` (an i1 scalar) holds.
void applyRunningAverages(mlir::OpBuilder &builder, mlir::ModuleOp module, mlir::Value isApplied);

} // namespace zopt

#endif // ZOPT_LIB_TRANSFORMS_RUNNINGAVERAGES_H

//===- OptimizerRules.h - update rules as text -------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_TRANSFORMS_OPTIMIZERRULES_H
#define ZOPT_LIB_TRANSFORMS_OPTIMIZERRULES_H

#include "zopt/Dialect/Train/Train.h"
#include "mlir/IR/BuiltinOps.h"

namespace zopt {

/// Names of all rules, for messages.
constexpr llvm::StringLiteral kOptimizers = "adamw, adam, sgd, adagrad, lion, lamb or muon";

/// The numbers that a rule is made with; what a rule does not use is ignored.
struct OptimizerSettings {
  double beta1 = 0.9, beta2 = 0.999;
  double epsilon = 1e-8;
  double momentum = 0;
  int64_t newtonSchulz = 5;    ///< iterations of muon
  bool cyclesMomentum = false; ///< beta1 is an argument of the rule's body (adamw, adam, lamb and lion)
  bool nesterov = false;
  double averageDecay = 0; ///< of the moving average of parameters, a last slot `ema`; 0: none
};

/// Whether the rule `name` has a beta1, which a schedule may cycle.
bool hasBetas(llvm::StringRef name);

/// Adds the rule `name` (kOptimizers) in front of `before`, as scalar arithmetic of `elementType` (f32 or f64). Null, without a message, where there is no such rule.
train::OptimizerOp createOptimizer(mlir::Operation *before, llvm::StringRef name, const OptimizerSettings &settings, mlir::FloatType elementType);

} // namespace zopt

#endif // ZOPT_LIB_TRANSFORMS_OPTIMIZERRULES_H

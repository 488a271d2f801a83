//===- StepStates.h - names that the passes of a step agree on ---*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Functions, states and attributes of the step level (docs/Levels.md).
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_TRANSFORMS_STEPSTATES_H
#define ZOPT_LIB_TRANSFORMS_STEPSTATES_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "zopt/Dialect/Train/Train.h"
#include <optional>
#include <string>

namespace zopt {

// Functions.
constexpr llvm::StringLiteral kForward = "forward";
constexpr llvm::StringLiteral kMicroStep = "micro_step";
constexpr llvm::StringLiteral kApplyStep = "apply_step";
constexpr llvm::StringLiteral kEvaluationStep = "eval_step";

// Scalar states. Set by micro-steps:
constexpr llvm::StringLiteral kLossSum = "zopt.loss_sum";
constexpr llvm::StringLiteral kCount = "zopt.count";
// set by the runtime before a step:
constexpr llvm::StringLiteral kRate = "zopt.lr";
constexpr llvm::StringLiteral kRateIfSkipped = "zopt.lr_if_skipped"; // in place of the rate where the step before was skipped
constexpr llvm::StringLiteral kMomentum = "zopt.momentum"; // where a schedule cycles it
constexpr llvm::StringLiteral kMomentumIfSkipped = "zopt.momentum_if_skipped";
constexpr llvm::StringLiteral kClip = "zopt.clip";                  // largest gradient norm, 0: no clipping
constexpr llvm::StringLiteral kStep = "zopt.step";
// set by the runtime, for random numbers; zopt-add-random-state says what they hold:
constexpr llvm::StringLiteral kSeed = "zopt.seed";
constexpr llvm::StringLiteral kRandomStep = "zopt.random_step";
constexpr llvm::StringLiteral kFirstSample = "zopt.first_sample";
// set by @apply_step and read by the runtime:
constexpr llvm::StringLiteral kLoss = "zopt.loss";
constexpr llvm::StringLiteral kNorm = "zopt.norm";
constexpr llvm::StringLiteral kFinite = "zopt.finite";
constexpr llvm::StringLiteral kGradientScale = "zopt.gradient_scale";

/// kLossSum, kLoss and kEvaluationLossSum of a term alone, where the loss is a sum of terms: `zopt.loss_sum.mse:value`.
inline std::string getTermState(llvm::StringRef state, llvm::StringRef term) { return (state + "." + term).str(); }
/// The term of such a name, or nothing.
inline std::optional<llvm::StringRef> getTermOf(llvm::StringRef state, llvm::StringRef name) {
  return name.consume_front(state) && name.consume_front(".") ? std::optional(name) : std::nullopt;
}

// Results of @eval_step, summed over the micro-batch:
constexpr llvm::StringLiteral kEvaluationLossSum = "zopt.eval_loss_sum";
constexpr llvm::StringLiteral kEvaluationCount = "zopt.eval_count";
constexpr llvm::StringLiteral kEvaluationCorrect = "zopt.eval_correct";

// Attributes.
constexpr llvm::StringLiteral kLevel = "train.level";
constexpr llvm::StringLiteral kMode = "train.mode";
constexpr llvm::StringLiteral kName = "train.name";
constexpr llvm::StringLiteral kLabel = "train.label";
constexpr llvm::StringLiteral kLimit = "train.limit";
constexpr llvm::StringLiteral kIgnoreIndex = "train.ignore_index";
constexpr llvm::StringLiteral kLossAverage = "train.loss_average";
constexpr llvm::StringLiteral kLabelPositions = "train.label_positions";
constexpr llvm::StringLiteral kLearningRateAttribute = "train.learning_rate";
constexpr llvm::StringLiteral kScheduleAttribute = "train.schedule";
constexpr llvm::StringLiteral kFlopsAttribute = "train.flops"; // of the products of one micro-step of one rank, nothing computed twice
constexpr llvm::StringLiteral kLossMark = "train.loss"; // on ops that compute the loss, between zopt-add-loss and zopt-mixed-precision

/// Adds a state where `builder` stands.
inline train::StateOp createState(mlir::OpBuilder &builder, mlir::Location loc, llvm::StringRef name, mlir::RankedTensorType type, train::Role role, double init) {
  return train::StateOp::create(builder, loc, builder.getStringAttr(name), mlir::TypeAttr::get(type),
                                train::RoleAttr::get(builder.getContext(), role), builder.getFloatAttr(type.getElementType(), init),
                                /*trained=*/mlir::UnitAttr(), /*source_name=*/mlir::StringAttr(), /*source_permutation=*/mlir::DenseI64ArrayAttr(),
                                /*tied=*/mlir::ArrayAttr(), /*no_decay=*/mlir::UnitAttr());
}

/// Adds a state in front of the module's first function, which is looked for: many states are made with one builder.
inline train::StateOp createState(mlir::ModuleOp module, llvm::StringRef name, mlir::RankedTensorType type, train::Role role, double init) {
  auto builder = mlir::OpBuilder::atBlockEnd(module.getBody());
  auto functions = module.getOps<mlir::func::FuncOp>();
  if (!functions.empty())
    builder.setInsertionPoint(*functions.begin());
  return createState(builder, module.getLoc(), name, type, role, init);
}

inline train::StateOp createScalarState(mlir::ModuleOp module, llvm::StringRef name, mlir::Type elementType, double init) {
  return createState(module, name, mlir::RankedTensorType::get({}, elementType), train::Role::scalar, init);
}

} // namespace zopt

#endif // ZOPT_LIB_TRANSFORMS_STEPSTATES_H

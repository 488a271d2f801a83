//===- LossScale.h - the loss scale of fp16 ----------------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Gradients of fp16 are made of a loss that is multiplied by a scale, so that small ones do not vanish, and are divided
// by it before anything looks at them. The scale is a scalar state; how it changes is on the module as
// `train.loss_scale`, a dictionary: `window`, `hysteresis`, `consecutive` and `minimum` for a dynamic scale, empty for
// a static one. docs/Precision.md has the algorithm.
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_TRANSFORMS_LOSSSCALE_H
#define ZOPT_LIB_TRANSFORMS_LOSSSCALE_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"

namespace zopt {

constexpr llvm::StringLiteral kLossScaleAttribute = "train.loss_scale";
constexpr llvm::StringLiteral kLossScale = "zopt.loss_scale";
/// Finite steps since the last overflow, from 1 again where the scale has grown.
constexpr llvm::StringLiteral kStableSteps = "zopt.stable_steps";
/// Overflows that are left before the scale falls, plus 1.
constexpr llvm::StringLiteral kHysteresis = "zopt.hysteresis";
/// 1 after an overflow at the least scale: it cannot fall any more, and the run ends.
constexpr llvm::StringLiteral kScaleExhausted = "zopt.loss_scale_exhausted";

struct LossScaleSettings {
  bool dynamic = true;
  double initial = 65536; ///< or the static scale
  int64_t window = 1000, hysteresis = 2;
  bool consecutiveHysteresis = false;
  double minimum = 1;
};

/// Adds the scale's states and multiplies the seed of train.backward by it. `microStep` has one train.backward.
void scaleLoss(mlir::ModuleOp module, mlir::func::FuncOp microStep, const LossScaleSettings &settings);

/// In @apply_step: changes a dynamic scale as DeepSpeed's DynamicLossScaler.update_scale does. `isFinite` (tensor<i1>)
/// says whether the gradients were. A static scale stays.
void updateLossScale(mlir::OpBuilder &builder, mlir::ModuleOp module, mlir::Value scale, mlir::Value isFinite);

} // namespace zopt

#endif // ZOPT_LIB_TRANSFORMS_LOSSSCALE_H

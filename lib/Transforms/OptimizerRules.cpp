//===- OptimizerRules.cpp - update rules as text -------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One rule a string, in the operation order of PyTorch's single-tensor implementations. `T` is the element type, `$name` a number of OptimizerSettings.
// The arguments are those of train.optimizer: parameter, gradient, slots, learning rate, step (1, 2, ...) and weight decay.
//
// What depends on scalars alone is taken in double and rounded once, as PyTorch does: in fp32, 1 - 0.999^step would be off by 1.3e-5 at the first steps, where the correction
// matters most. Values named `_wide` are double; where T is double, the lines marked `$convert` go and the names lose the mark.
//
//===----------------------------------------------------------------------===//

#include "OptimizerRules.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Parser/Parser.h"
#include <cmath>

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

// p *= 1 - lr * decay; then Adam's update.
static constexpr StringLiteral kAdamW = R"mlir(
train.optimizer @adamw slots ["exp_avg", "exp_avg_sq"] {
^bb0(%p: T, %g: T, %m: T, %v: T, %lr: T, %step: T, %decay: T):
  %one = arith.constant 1.0 : T
  %shrink = arith.mulf %lr, %decay : T
  %keep = arith.subf %one, %shrink : T
  %p0 = arith.mulf %p, %keep : T
  $moments
  %numerator = arith.mulf %step_size, %m1 : T
  %change = arith.divf %numerator, %denominator : T
  %p1 = arith.subf %p0, %change : T
  train.yield %p1, %m1, %v1 : T, T, T
}
)mlir";

// g += decay * p; then Adam's update.
static constexpr StringLiteral kAdam = R"mlir(
train.optimizer @adam slots ["exp_avg", "exp_avg_sq"] {
^bb0(%p: T, %gradient: T, %m: T, %v: T, %lr: T, %step: T, %decay: T):
  %one = arith.constant 1.0 : T
  %penalty = arith.mulf %decay, %p : T
  %g = arith.addf %gradient, %penalty : T
  $moments
  %numerator = arith.mulf %step_size, %m1 : T
  %change = arith.divf %numerator, %denominator : T
  %p1 = arith.subf %p, %change : T
  train.yield %p1, %m1, %v1 : T, T, T
}
)mlir";

// m += (g - m) (1 - beta1); v = v beta2 + (1 - beta2) g g; step_size = lr / (1 - beta1^step); denominator = sqrt(v) / sqrt(1 - beta2^step) + eps.
static constexpr StringLiteral kMoments = R"mlir(
  $convert %step_wide = arith.extf %step : T to f64
  $convert %lr_wide = arith.extf %lr : T to f64
  %one_wide = arith.constant 1.0 : f64
  %log_beta1 = arith.constant $log_beta1 : f64
  %log_beta2 = arith.constant $log_beta2 : f64
  %power1 = arith.mulf %step_wide, %log_beta1 : f64
  %decayed1 = math.exp %power1 : f64
  %bias1 = arith.subf %one_wide, %decayed1 : f64
  %step_size_wide = arith.divf %lr_wide, %bias1 : f64
  $convert %step_size = arith.truncf %step_size_wide : f64 to T
  %power2 = arith.mulf %step_wide, %log_beta2 : f64
  %decayed2 = math.exp %power2 : f64
  %bias2 = arith.subf %one_wide, %decayed2 : f64
  %bias2_root_wide = math.sqrt %bias2 : f64
  $convert %bias2_root = arith.truncf %bias2_root_wide : f64 to T
  %rate1 = arith.constant $one_minus_beta1 : T
  %rate2 = arith.constant $one_minus_beta2 : T
  %beta2 = arith.constant $beta2 : T
  %eps = arith.constant $eps : T
  %towards = arith.subf %g, %m : T
  %towards1 = arith.mulf %towards, %rate1 : T
  %m1 = arith.addf %m, %towards1 : T
  %v0 = arith.mulf %v, %beta2 : T
  %g2 = arith.mulf %rate2, %g : T
  %g3 = arith.mulf %g2, %g : T
  %v1 = arith.addf %v0, %g3 : T
  %root = math.sqrt %v1 : T
  %corrected = arith.divf %root, %bias2_root : T
  %denominator = arith.addf %corrected, %eps : T
)mlir";

// g += decay * p; p -= lr * g.
static constexpr StringLiteral kSgd = R"mlir(
train.optimizer @sgd slots [] {
^bb0(%p: T, %gradient: T, %lr: T, %step: T, %decay: T):
  %penalty = arith.mulf %decay, %p : T
  %g = arith.addf %gradient, %penalty : T
  %change = arith.mulf %lr, %g : T
  %p1 = arith.subf %p, %change : T
  train.yield %p1 : T
}
)mlir";

// g += decay * p; m = momentum * m + g; p -= lr * m. From m = 0 the first step sets m = g, as PyTorch does.
static constexpr StringLiteral kSgdMomentum = R"mlir(
train.optimizer @sgd slots ["momentum"] {
^bb0(%p: T, %gradient: T, %m: T, %lr: T, %step: T, %decay: T):
  %momentum = arith.constant $momentum : T
  %penalty = arith.mulf %decay, %p : T
  %g = arith.addf %gradient, %penalty : T
  %m0 = arith.mulf %momentum, %m : T
  %m1 = arith.addf %m0, %g : T
  %change = arith.mulf %lr, %m1 : T
  %p1 = arith.subf %p, %change : T
  train.yield %p1, %m1 : T, T
}
)mlir";

static void replaceAll(std::string &text, StringRef from, StringRef to) {
  for (size_t at = text.find(from.str()); at != std::string::npos; at = text.find(from.str(), at + to.size()))
    text.replace(at, from.size(), to.str());
}

OptimizerOp zopt::createOptimizer(Operation *before, StringRef name, const OptimizerSettings &settings, FloatType elementType) {
  StringRef rule = llvm::StringSwitch<StringRef>(name)
                       .Case("adamw", kAdamW)
                       .Case("adam", kAdam)
                       .Case("sgd", settings.momentum == 0 ? kSgd : kSgdMomentum)
                       .Default("");
  if (rule.empty())
    return {};

  std::string text = rule.str();
  replaceAll(text, "$moments", kMoments);
  std::pair<StringRef, double> numbers[] = {
      {"$one_minus_beta1", 1.0 - settings.beta1}, {"$one_minus_beta2", 1.0 - settings.beta2}, {"$beta2", settings.beta2},
      {"$log_beta1", std::log(settings.beta1)},   {"$log_beta2", std::log(settings.beta2)},   {"$eps", settings.epsilon},
      {"$momentum", settings.momentum}};
  for (auto [placeholder, number] : numbers)
    replaceAll(text, placeholder, llvm::formatv("{0:e17}", number).str());
  bool isDouble = elementType.isF64();
  for (size_t at = text.find("$convert "); at != std::string::npos; at = text.find("$convert ", at))
    text.erase(at, isDouble ? text.find('\n', at) - at : StringRef("$convert ").size());
  // The constant 1 of the parameter's type may stand beside the double one.
  if (isDouble) {
    replaceAll(text, "%one_wide", "%one_double");
    replaceAll(text, "_wide", "");
  }
  std::string type;
  llvm::raw_string_ostream(type) << elementType;
  for (StringRef before : {": ", ", ", "to "})
    replaceAll(text, before.str() + "T", before.str() + type);

  MLIRContext *context = before->getContext();
  context->loadDialect<arith::ArithDialect, math::MathDialect>();
  Block parsed;
  if (failed(parseSourceString(text, &parsed, ParserConfig(context, /*verifyAfterParse=*/false))))
    return {};
  auto op = cast<OptimizerOp>(parsed.front());
  op->moveBefore(before);
  return op;
}

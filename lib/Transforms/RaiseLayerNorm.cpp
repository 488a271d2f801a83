//===- RaiseLayerNorm.cpp - raise layer normalization --------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RaisingPatterns.h"
#include "zopt/Transforms/Passes.h"

namespace zopt {
#define GEN_PASS_DEF_RAISELAYERNORM
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

/// x where the value is x - mean(x).
static Value matchCentered(Value value) {
  auto sub = value.getDefiningOp<SubOp>();
  if (!sub || sub.getLhs().getType() != sub.getType())
    return {};
  Value averaged = matchRowMean(sub.getRhs());
  return averaged && isSameValue(averaged, sub.getLhs()) ? sub.getLhs() : Value();
}

/// Replaces `op` by a layer_norm at its place.
static void replaceByNorm(Operation *op, Value input, Value gamma, Value beta, APFloat epsilon) {
  OpBuilder builder(op);
  Location loc = op->getLoc();
  RankedTensorType type = getTensorType(input);
  auto statistics = RankedTensorType::get(type.getShape().drop_back(), getComputeType(type.getElementType()));
  auto norm = LayerNormOp::create(builder, loc, type, statistics, statistics, input, gamma ? asVector(builder, loc, gamma) : Value(),
                                  beta ? asVector(builder, loc, beta) : Value(), epsilon);
  op->getResult(0).replaceAllUsesWith(norm.getResult());
}

static bool raiseCore(Operation *op) {
  std::optional<DivisionByRoot> division = matchDivisionByRoot(op);
  Value input = division ? matchCentered(division->numerator) : Value();
  if (!input || !isSameValue(division->numerator, division->squared))
    return false;
  replaceByNorm(op, input, {}, {}, APFloat(division->epsilon));
  return true;
}

/// Takes a product with a vector in as gamma, a sum with one as beta.
static bool raiseAffine(Operation *op) {
  for (Value operand : op->getOperands()) {
    auto norm = operand.getDefiningOp<LayerNormOp>();
    if (!norm || operand != norm.getResult() || !operand.hasOneUse() || norm.getBeta() || operand.getType() != op->getResult(0).getType() ||
        !isVector(getOther(op, operand), getTensorType(operand).getShape().back()))
      continue;
    if (isa<AddOp>(op))
      replaceByNorm(op, norm.getInput(), norm.getGamma(), getOther(op, operand), norm.getEpsilon());
    else if (!norm.getGamma())
      replaceByNorm(op, norm.getInput(), getOther(op, operand), {}, norm.getEpsilon());
    else
      continue;
    return true;
  }
  return false;
}

namespace {

struct RaiseLayerNormPass : zopt::impl::RaiseLayerNormBase<RaiseLayerNormPass> {
  void runOnOperation() override {
    // In program order: gamma and beta come behind what they belong to.
    bool changed = false;
    for (Block &block : getOperation().getBody()) {
      for (Operation &op : block) {
        if (isa<MulOp, DivOp>(op))
          changed |= raiseCore(&op);
        if (isa<MulOp, AddOp>(op) && !op.use_empty())
          changed |= raiseAffine(&op);
      }
    }
    if (changed)
      eraseDeadOps(getOperation());
    else
      markAllAnalysesPreserved();
  }
};

} // namespace

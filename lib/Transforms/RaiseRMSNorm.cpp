//===- RaiseRMSNorm.cpp - raise root-mean-square normalization -----------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RaisingPatterns.h"
#include "zopt/Transforms/Passes.h"

namespace zopt {
#define GEN_PASS_DEF_RAISERMSNORM
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

/// Replaces `op` by an rms_norm at its place.
static void replaceByNorm(Operation *op, Value input, Value gamma, APFloat epsilon) {
  OpBuilder builder(op);
  Location loc = op->getLoc();
  RankedTensorType type = getTensorType(input);
  auto statistics = RankedTensorType::get(type.getShape().drop_back(), getComputeType(type.getElementType()));
  auto norm = RMSNormOp::create(builder, loc, type, statistics, input, gamma ? asVector(builder, loc, gamma) : Value(), epsilon);
  op->getResult(0).replaceAllUsesWith(norm.getResult());
}

static bool raiseCore(Operation *op) {
  std::optional<DivisionByRoot> division = matchDivisionByRoot(op);
  if (!division || !isSameValue(division->numerator, division->squared))
    return false;
  replaceByNorm(op, division->numerator, {}, APFloat(division->epsilon));
  return true;
}

/// Drops the casts around a norm that is computed in fp32: rms_norm does so of itself. Statistics that are used keep the wide norm.
static bool raiseCasts(CastOp narrow) {
  auto norm = narrow.getInput().getDefiningOp<RMSNormOp>();
  auto widen = norm ? norm.getInput().getDefiningOp<CastOp>() : CastOp();
  if (!widen || norm.getGamma() || !norm.getResult().hasOneUse() || !norm.getRstd().use_empty() || widen.getInput().getType() != narrow.getType())
    return false;
  RankedTensorType inner = getTensorType(widen), outer = getTensorType(narrow);
  if (!isa<FloatType>(outer.getElementType()) || inner.getElementType() != getComputeType(outer.getElementType()))
    return false;
  replaceByNorm(narrow, widen.getInput(), {}, norm.getEpsilon());
  return true;
}

static bool raiseGamma(MulOp mul) {
  for (Value operand : mul->getOperands()) {
    auto norm = operand.getDefiningOp<RMSNormOp>();
    if (!norm || operand != norm.getResult() || !operand.hasOneUse() || norm.getGamma() || operand.getType() != mul.getType() ||
        !isVector(getOther(mul, operand), getTensorType(operand).getShape().back()))
      continue;
    replaceByNorm(mul, norm.getInput(), getOther(mul, operand), norm.getEpsilon());
    return true;
  }
  return false;
}

namespace {

struct RaiseRMSNormPass : zopt::impl::RaiseRMSNormBase<RaiseRMSNormPass> {
  void runOnOperation() override {
    // In program order: casts and gamma come behind what they belong to.
    bool changed = false;
    for (Block &block : getOperation().getBody()) {
      for (Operation &op : block) {
        if (isa<MulOp, DivOp>(op))
          changed |= raiseCore(&op);
        else if (auto narrow = dyn_cast<CastOp>(op))
          changed |= raiseCasts(narrow);
        if (auto mul = dyn_cast<MulOp>(op); mul && !mul->use_empty())
          changed |= raiseGamma(mul);
      }
    }
    if (changed)
      eraseDeadOps(getOperation());
    else
      markAllAnalysesPreserved();
  }
};

} // namespace

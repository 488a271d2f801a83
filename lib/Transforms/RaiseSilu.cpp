//===- RaiseSilu.cpp - raise the sigmoid linear unit ---------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RaisingPatterns.h"
#include "zopt/Transforms/Passes.h"

namespace zopt {
#define GEN_PASS_DEF_RAISESILU
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

/// x where the value is 1 + e^-x.
static Value matchLogisticDenominator(Value value) {
  auto add = value.getDefiningOp<AddOp>();
  if (!add)
    return {};
  for (Value operand : {add.getLhs(), add.getRhs()}) {
    auto exp = operand.getDefiningOp<ExpOp>();
    auto neg = exp ? exp.getInput().getDefiningOp<NegOp>() : NegOp();
    if (neg && exp.getType() == add.getType() && isSplat(getOther(add, operand), 1.0))
      return neg.getInput();
  }
  return {};
}

/// x where the op computes x * sigmoid(x) or x / (1 + e^-x).
static Value matchSilu(Operation *op) {
  if (auto mul = dyn_cast<MulOp>(op)) {
    for (Value operand : mul->getOperands())
      if (auto sigmoid = operand.getDefiningOp<SigmoidOp>(); sigmoid && sigmoid.getInput() == getOther(mul, operand))
        return sigmoid.getInput();
  } else if (auto div = dyn_cast<DivOp>(op)) {
    if (matchLogisticDenominator(div.getRhs()) == div.getLhs())
      return div.getLhs();
  }
  return {};
}

namespace {

struct RaiseSiluPass : zopt::impl::RaiseSiluBase<RaiseSiluPass> {
  void runOnOperation() override {
    bool changed = false;
    for (Block &block : getOperation().getBody()) {
      for (Operation &op : block) {
        Value input = matchSilu(&op);
        if (!input || !isa<FloatType>(getTensorType(input).getElementType()))
          continue;
        OpBuilder builder(&op);
        op.getResult(0).replaceAllUsesWith(SiluOp::create(builder, op.getLoc(), input));
        changed = true;
      }
    }
    if (changed)
      eraseDeadOps(getOperation());
    else
      markAllAnalysesPreserved();
  }
};

} // namespace

//===- FuseCrossEntropy.cpp - a loss and its gradient over one reading ---------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The logits of a language model are its largest tensor. The factor of their gradient is known before the loss is, so one kernel makes both while a row is in a cache: four passes over the tensor become three,
// of which memory sees two.
//
//===----------------------------------------------------------------------===//

#include "zopt/Dialect/Train/TrainBuilders.h"
#include "zopt/Transforms/Passes.h"
#include "mlir/Analysis/SliceAnalysis.h"

namespace zopt {
#define GEN_PASS_DEF_FUSECROSSENTROPY
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

namespace {

struct FuseCrossEntropyPass : zopt::impl::FuseCrossEntropyBase<FuseCrossEntropyPass> {
  void runOnOperation() override {
    for (auto loss : llvm::make_early_inc_range(getOperation().getBody().front().getOps<CrossEntropyOp>()))
      fuse(loss);
  }

private:
  void fuse(CrossEntropyOp loss) {
    if (!loss.getLse().hasOneUse())
      return;
    auto gradient = dyn_cast<CrossEntropyGradOp>(*loss.getLse().getUsers().begin());
    if (!gradient || gradient->getBlock() != loss->getBlock() || gradient.getLogits() != loss.getLogits() || gradient.getLabels() != loss.getLabels() || gradient.getIgnoreIndex() != loss.getIgnoreIndex() ||
        gradient.getLabelSmoothing() != loss.getLabelSmoothing())
      return;
    // What the factor is computed from moves before the loss; it must not depend on it, nor be of it.
    if (gradient.getScale().getDefiningOp() == loss)
      return;
    SetVector<Operation *> slice;
    BackwardSliceOptions options;
    options.filter = [&](Operation *op) { return op->getBlock() == loss->getBlock() && loss->isBeforeInBlock(op); };
    options.inclusive = true;
    if (Operation *scale = gradient.getScale().getDefiningOp(); scale && failed(getBackwardSlice(scale, &slice, options)))
      return;
    if (llvm::any_of(slice, [&](Operation *op) { return !isPure(op) || llvm::is_contained(op->getOperands(), loss.getLoss()) || llvm::is_contained(op->getOperands(), loss.getCount()); }))
      return;
    for (Operation &op : llvm::make_early_inc_range(*loss->getBlock()))
      if (slice.contains(&op))
        op.moveBefore(loss);
    OpBuilder builder(loss);
    auto step = CrossEntropyStepOp::create(builder, builder.getFusedLoc({loss.getLoc(), gradient.getLoc()}), gradient.getType(), loss.getLoss().getType(), loss.getCount().getType(), loss.getLogits(),
                                           loss.getLabels(), gradient.getScale(), loss.getIgnoreIndexAttr(), loss.getLabelSmoothingAttr());
    loss.getLoss().replaceAllUsesWith(step.getLoss());
    loss.getCount().replaceAllUsesWith(step.getCount());
    gradient.getResult().replaceAllUsesWith(step.getResult());
    gradient.erase();
    loss.erase();
  }
};

} // namespace

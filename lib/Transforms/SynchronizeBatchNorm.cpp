//===- SynchronizeBatchNorm.cpp - statistics of all ranks -----------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "StepStates.h"
#include "zopt/Dialect/Train/TrainBuilders.h"
#include "zopt/Transforms/Passes.h"

namespace zopt {
#define GEN_PASS_DEF_SYNCHRONIZEBATCHNORMPASS
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

namespace {

class SynchronizeBatchNormPass : public zopt::impl::SynchronizeBatchNormPassBase<SynchronizeBatchNormPass> {
public:
  void runOnOperation() override {
    auto forward = getOperation().lookupSymbol<func::FuncOp>(kForward);
    if (!forward)
      return;
    for (auto norm : forward.getOps<BatchNormOp>())
      if (norm.getTraining())
        norm.setSynchronized(true);
    for (auto statistics : llvm::make_early_inc_range(forward.getOps<BatchStatisticsOp>()))
      synchronize(statistics);
  }

private:
  /// Ranks have equally many elements: the mean is the mean of means, the variance that of variances plus squared
  /// distances of the means.
  static void synchronize(BatchStatisticsOp op) {
    OpBuilder builder(op->getContext());
    builder.setInsertionPointAfter(op);
    Location loc = op.getLoc();
    Value mean = MeanOverRanksOp::create(builder, loc, op.getMean().getType(), op.getMean());
    Value distance = sub(builder, loc, op.getMean(), mean);
    Value local = add(builder, loc, op.getVariance(), mul(builder, loc, distance, distance));
    Value variance = MeanOverRanksOp::create(builder, loc, local.getType(), local);
    op.getMean().replaceUsesWithIf(mean, [&](OpOperand &use) {
      return use.getOwner() != mean.getDefiningOp() && use.getOwner() != distance.getDefiningOp();
    });
    op.getVariance().replaceAllUsesExcept(variance, local.getDefiningOp());
  }
};

} // namespace

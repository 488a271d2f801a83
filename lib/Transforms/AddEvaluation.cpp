//===- AddEvaluation.cpp - forward and loss for held-out data -------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "StepStates.h"
#include "zopt/Transforms/Passes.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

namespace zopt {
#define GEN_PASS_DEF_ADDEVALUATIONPASS
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

namespace {

class AddEvaluationPass : public zopt::impl::AddEvaluationPassBase<AddEvaluationPass> {
public:
  void runOnOperation() override {
    ModuleOp module = getOperation();
    auto step = module.lookupSymbol<func::FuncOp>(kMicroStep);
    if (!step || !step.getBody().hasOneBlock()) {
      module.emitError() << "module has no @" << kMicroStep << " of one block to evaluate by";
      return signalPassFailure();
    }
    if (module.lookupSymbol(kEvaluationStep)) {
      module.emitError() << "module has @" << kEvaluationStep << " already";
      return signalPassFailure();
    }
    SmallVector<BackwardOp> starts(step.getOps<BackwardOp>());
    if (starts.size() != 1 || starts.front()->getNextNode() != step.getBody().front().getTerminator()) {
      step.emitError() << "@" << kMicroStep << " does not end in one train.backward: evaluation is derived before the backward graph is";
      return signalPassFailure();
    }
    func::FuncOp evaluation = step.clone();
    evaluation.setName(kEvaluationStep);
    OpBuilder builder(&getContext());
    builder.setInsertionPointAfter(step);
    builder.insert(evaluation);
    if (failed(derive(evaluation)))
      signalPassFailure();
  }

private:
  /// A result of @eval_step.
  struct Sum {
    StringRef name;
    Value value;
  };

  LogicalResult derive(func::FuncOp function) {
    Block &block = function.getBody().front();
    auto backward = *function.getOps<BackwardOp>().begin();
    SmallVector<Sum> sums = {{kEvaluationLossSum, backward.getLoss()}, {kEvaluationCount, {}}};
    for (Operation &op : llvm::make_early_inc_range(block.without_terminator())) {
      auto accumulate = dyn_cast<AccumulateOp>(op);
      if (accumulate && accumulate.getState() == kCount)
        sums[1].value = accumulate.getValue();
      if (isa<AccumulateOp, BackwardOp, WriteStateOp>(op))
        op.erase();
    }
    if (!sums[1].value)
      return function.emitError() << "@" << kMicroStep << " does not count its labels in '" << kCount << "'";

    OpBuilder builder(&getContext());
    if (auto loss = sums[0].value.getDefiningOp<CrossEntropyOp>()) {
      builder.setInsertionPointAfter(loss);
      auto correct = CountCorrectOp::create(builder, loss.getLoc(), loss.getCount().getType(), loss.getLogits(), loss.getLabels(), loss.getIgnoreIndexAttr());
      if (loss->hasAttr(kLossMark))
        correct->setAttr(kLossMark, builder.getUnitAttr());
      sums.push_back({kEvaluationCorrect, correct.getCount()});
    }
    if (failed(leaveTrainingMode(block)))
      return failure();

    Operation *terminator = block.getTerminator();
    builder.setInsertionPoint(terminator);
    SmallVector<Value> values;
    for (auto [index, sum] : llvm::enumerate(sums)) {
      auto name = builder.getDictionaryAttr(builder.getNamedAttr(kName, builder.getStringAttr(sum.name)));
      if (failed(function.insertResult(index, sum.value.getType(), name)))
        return failure();
      values.push_back(sum.value);
    }
    func::ReturnOp::create(builder, terminator->getLoc(), values);
    terminator->erase();
    for (Operation &op : llvm::make_early_inc_range(llvm::reverse(block)))
      if (isOpTriviallyDead(&op))
        op.erase();
    return success();
  }

  /// Every op that has one takes its inference form.
  static LogicalResult leaveTrainingMode(Block &block) {
    for (Operation &op : llvm::make_early_inc_range(block.without_terminator())) {
      auto training = dyn_cast<TrainingModeOpInterface>(op);
      if (!training)
        continue;
      OpBuilder builder(&op);
      SmallVector<Value> values = training.buildEvaluation(builder);
      if (values.size() != op.getNumResults())
        return op.emitOpError("has no inference form");
      for (auto [result, value] : llvm::zip_equal(op.getResults(), values)) {
        if (value)
          result.replaceAllUsesWith(value);
        else if (!result.use_empty())
          return op.emitOpError() << "gives result " << result.getResultNumber() << " in training only, but evaluation uses it";
      }
      op.erase();
    }
    return success();
  }
};

} // namespace

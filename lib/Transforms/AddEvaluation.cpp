//===- AddEvaluation.cpp - forward and loss for held-out data -------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RunningAverages.h"
#include "StepStates.h"
#include "zopt/Dialect/Train/TrainBuilders.h"
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
    std::string name;
    Value value;
  };

  LogicalResult derive(func::FuncOp function) {
    Block &block = function.getBody().front();
    auto backward = *function.getOps<BackwardOp>().begin();
    SmallVector<Sum> sums = {{kEvaluationLossSum.str(), backward.getLoss()}, {kEvaluationCount.str(), {}}};
    auto average = getOperation()->getAttrOfType<StringAttr>(kLossAverage);
    for (auto accumulate : function.getOps<AccumulateOp>())
      if (accumulate.getState().ends_with(kMovement) && failed(takeRunningAverage(accumulate)))
        return failure();
    for (Operation &op : llvm::make_early_inc_range(block.without_terminator())) {
      auto accumulate = dyn_cast<AccumulateOp>(op);
      if (accumulate && accumulate.getState() == kCount)
        sums[1].value = accumulate.getValue();
      if (std::optional<StringRef> term = accumulate ? getTermOf(kLossSum, accumulate.getState()) : std::nullopt) {
        // The sum itself, as that of the loss: what is averaged by micro-batch was divided by its count.
        auto share =
            average && average.getValue() == "micro-batch" ? accumulate.getValue().getDefiningOp<DivOp>() : DivOp();
        sums.push_back({getTermState(kEvaluationLossSum, *term), share ? share.getLhs() : accumulate.getValue()});
      }
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
      sums.push_back({kEvaluationCorrect.str(), correct.getCount()});
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
    for (auto statistics : function.getOps<BatchStatisticsOp>())
      return statistics.emitError("evaluation normalizes by running averages, but this graph keeps none of these statistics");
    return success();
  }

  /// Ops that mean something else in training take their inference form.
  static LogicalResult leaveTrainingMode(Block &block) {
    for (Operation &op : llvm::make_early_inc_range(block.without_terminator())) {
      if (auto dropout = dyn_cast<DropoutOp>(op)) {
        dropout.getResult().replaceAllUsesWith(dropout.getInput());
        op.erase();
      } else if (auto mask = dyn_cast<DropoutMaskOp>(op)) {
        OpBuilder builder(&op);
        auto type = getTensorType(mask.getResult());
        Value kept = ConstantOp::create(builder, op.getLoc(), type, DenseElementsAttr::get(type, builder.getBoolAttr(true)));
        mask.getResult().replaceAllUsesWith(kept);
        op.erase();
      } else if (auto norm = dyn_cast<BatchNormOp>(op)) {
        norm.setTraining(false);
        norm.setSynchronized(false);
      }
    }
    return success();
  }

  /// What a running average is moved by, `(value - ...) * share` of zopt-add-running-averages, tells the statistic of the batch that it stands for: the average takes its place.
  static LogicalResult takeRunningAverage(AccumulateOp movement) {
    auto share = movement.getValue().getDefiningOp<MulOp>();
    auto distance = share ? share.getLhs().getDefiningOp<SubOp>() : SubOp();
    if (!distance)
      return movement.emitOpError() << "moves a running average by what is no distance from it";
    Value value = distance.getLhs();
    if (auto cast = value.getDefiningOp<CastOp>())
      value = cast.getInput();
    auto state = movement.getState().drop_back(kMovement.size());
    auto type = SymbolTable::lookupNearestSymbolFrom<StateOp>(movement, StringAttr::get(movement.getContext(), state)).getTensorType();
    OpBuilder builder(movement.getContext());
    builder.setInsertionPointAfterValue(value);
    Value average = ReadStateOp::create(builder, movement.getLoc(), type, state);
    value.replaceAllUsesWith(train::cast(builder, movement.getLoc(), average, getTensorType(value).getElementType()));
    return success();
  }
};

} // namespace

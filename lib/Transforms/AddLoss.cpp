//===- AddLoss.cpp - from outputs to a loss ------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "LossBuilder.h"
#include "zopt/Dialect/Train/TrainBuilders.h"
#include "zopt/Transforms/Passes.h"

namespace zopt {
#define GEN_PASS_DEF_ADDLOSSPASS
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

namespace {

class AddLossPass : public zopt::impl::AddLossPassBase<AddLossPass> {
public:
  using AddLossPassBase::AddLossPassBase;

  void runOnOperation() override {
    forward = getOperation().lookupSymbol<func::FuncOp>(kForward);
    if (!forward) {
      getOperation().emitError("module has no @forward to add a loss to");
      return signalPassFailure();
    }
    if (lossAverage != "global" && lossAverage != "micro-batch") {
      forward.emitError() << "loss average is '" << lossAverage << "', expected global or micro-batch";
      return signalPassFailure();
    }
    std::string error;
    auto terms = parseLoss(loss, error);
    if (!terms) {
      forward.emitError() << "loss is '" << loss << "', " << error;
      return signalPassFailure();
    }
    LossSettings settings{logits, labels, ignoreIndex, labelSmoothing, classAxis, {}, {}};
    if (failed(readWeights(*terms, "cross_entropy", "class weights", classWeights, settings.classWeights)) ||
        failed(readWeights(*terms, "bce_with_logits", "weights of positive labels", positiveWeights, settings.positiveWeights)))
      return signalPassFailure();

    auto terminator = cast<func::ReturnOp>(forward.getBody().front().getTerminator());
    OpBuilder builder(terminator);
    Operation *before = terminator->getPrevNode();
    LossBuilder losses(forward, settings);
    SmallVector<Loss> parts;
    for (const LossTerm &term : *terms) {
      FailureOr<Loss> part = losses.build(term);
      if (failed(part))
        return signalPassFailure();
      parts.push_back(*part);
    }
    SmallVector<Value> addends;
    Loss result = losses.combine(*terms, parts, addends);
    if (lossAverage == "global" && !result.ignores && llvm::any_of(parts, [](const Loss &part) { return part.ignores; })) {
      // One factor behind backward cannot correct several counts.
      forward.emitRemark() << "terms of the loss count different labels: each is averaged over its own micro-batch, and these means over ranks and micro-steps, as with --loss-average=micro-batch";
      lossAverage = "micro-batch";
    }
    if (result.isEmpty)
      lossAverage = "micro-batch"; // every micro-batch counts as one, an empty one too
    SmallVector<std::pair<std::string, Value>> named; // a loss of one term is told as the loss
    if (terms->size() > 1)
      for (auto [name, addend] : llvm::zip_equal(nameTerms(*terms), addends))
        named.push_back({name, addend});
    finish(builder, losses, result, named);

    // Everything from here on is the loss and stays in full precision.
    for (Operation *op = before ? before->getNextNode() : &forward.getBody().front().front(); op != terminator; op = op->getNextNode())
      op->setAttr(kLossMark, builder.getUnitAttr());
    for (Value own : losses.ownLosses())
      markOwnLoss(own);

    builder.setInsertionPoint(terminator);
    func::ReturnOp::create(builder, terminator.getLoc());
    terminator.erase();
    while (forward.getNumResults() > 0)
      if (failed(forward.eraseResult(forward.getNumResults() - 1)))
        return signalPassFailure();
    forward.setName(kMicroStep);
    // A graph that none of the terms is.
    if (auto graph = getOperation().lookupSymbol<func::FuncOp>(kLossFunction))
      graph.erase();
  }

private:
  LogicalResult readWeights(ArrayRef<LossTerm> terms, StringRef kind, StringRef what, StringRef text, SmallVectorImpl<double> &weights) {
    if (text.empty())
      return success();
    if (llvm::none_of(terms, [&](const LossTerm &term) { return term.kind == kind; }))
      return forward.emitError() << what << " are of " << kind << ", but the loss is '" << loss << "'";
    std::string error;
    auto numbers = parseWeights(text, error);
    if (!numbers)
      return forward.emitError() << what << " are '" << text << "', but " << error;
    weights.assign(numbers->begin(), numbers->end());
    return success();
  }

  /// Accumulates loss, count and terms, and seeds backward.
  void finish(OpBuilder &builder, LossBuilder &losses, const Loss &result,
              ArrayRef<std::pair<std::string, Value>> terms) {
    Location loc = result.sum.getLoc();
    Type type = getTensorType(result.sum).getElementType();
    createScalarState(getOperation(), kLossSum, type, 0.0);
    createScalarState(getOperation(), kCount, type, 0.0);
    bool global = lossAverage == "global";

    // What this micro-batch's sum is divided by; not 0, so that a micro-batch without a counted label adds 0.
    Value divisor = global ? scalar(builder, loc, type, result.positions) : losses.divisorOf(result);
    Value share = global ? result.sum : div(builder, loc, result.sum, divisor);
    AccumulateOp::create(builder, loc, kLossSum, share);
    AccumulateOp::create(builder, loc, kCount, result.count);
    // Averaged as their sum is, so that the loss is the weighted sum of what is told of its terms.
    for (const auto &[name, sum] : terms) {
      std::string state = getTermState(kLossSum, name);
      createScalarState(getOperation(), state, type, 0.0);
      AccumulateOp::create(builder, loc, state, global ? sum : div(builder, loc, sum, divisor));
    }

    Value world = zero::WorldSizeOp::create(builder, loc, result.sum.getType());
    Value steps = zero::AccumStepsOp::create(builder, loc, result.sum.getType());
    Value total = mul(builder, loc, mul(builder, loc, divisor, world), steps);
    BackwardOp::create(builder, loc, result.sum, div(builder, loc, scalar(builder, loc, type, 1.0), total));

    getOperation()->setAttr(kLossAverage, builder.getStringAttr(lossAverage));
    if (global && result.ignores)
      getOperation()->setAttr(kLabelPositions, builder.getI64IntegerAttr(result.positions));
  }

  /// The tail of the graph's own loss: the single elements at its end, and what they are reduced from.
  static void markOwnLoss(Value value) {
    SmallVector<Value> worklist = {value};
    while (!worklist.empty()) {
      Operation *op = worklist.pop_back_val().getDefiningOp();
      if (!op || op->hasAttr(kLossMark) || isa<ReadStateOp>(op) || getTensorType(op->getResult(0)).getNumElements() != 1)
        continue;
      op->setAttr(kLossMark, UnitAttr::get(op->getContext()));
      llvm::append_range(worklist, op->getOperands());
    }
  }

  func::FuncOp forward;
};

} // namespace

//===- AddLoss.cpp - from outputs to a loss ------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "StepStates.h"
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

/// A loss as a sum over `positions` label positions, of which `count` (a scalar) are counted.
struct Loss {
  Value sum;
  Value count;
  int64_t positions = 0;
  bool ignores = false; // whether count can differ from positions
};

/// An output of the graph.
struct Output {
  StringRef name;
  Value value;
};

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
    FailureOr<Output> output = selectOutput();
    if (failed(output))
      return signalPassFailure();

    auto terminator = cast<func::ReturnOp>(forward.getBody().front().getTerminator());
    OpBuilder builder(terminator);
    Operation *before = terminator->getPrevNode();
    FailureOr<Loss> result = buildLoss(builder, *output);
    if (failed(result))
      return signalPassFailure();
    finish(builder, *result);

    // Everything from here on is the loss and stays in full precision.
    for (Operation *op = before ? before->getNextNode() : &forward.getBody().front().front(); op != terminator; op = op->getNextNode())
      op->setAttr(kLossMark, builder.getUnitAttr());
    if (isOutputLoss())
      markOwnLoss(output->value);

    builder.setInsertionPoint(terminator);
    func::ReturnOp::create(builder, terminator.getLoc());
    terminator.erase();
    while (forward.getNumResults() > 0)
      if (failed(forward.eraseResult(forward.getNumResults() - 1)))
        return signalPassFailure();
    forward.setName(kMicroStep);
  }

private:
  bool isOutputLoss() const { return StringRef(loss).split(':').first == "output"; }

  /// What a model gives back in a half precision is rounded for whoever reads it, not for the loss.
  static Value beforeRounding(Value value) {
    auto cast = value.getDefiningOp<CastOp>();
    auto from = cast ? dyn_cast<FloatType>(getTensorType(cast.getInput()).getElementType()) : FloatType(), to = cast ? dyn_cast<FloatType>(getTensorType(value).getElementType()) : FloatType();
    return from && to && from.getWidth() > to.getWidth() ? cast.getInput() : value;
  }

  /// The output that feeds the loss, by --logits or --loss=output:NAME, or the first float one.
  FailureOr<Output> selectOutput() {
    auto terminator = cast<func::ReturnOp>(forward.getBody().front().getTerminator());
    SmallVector<Output> outputs;
    std::string names;
    for (auto [index, value] : llvm::enumerate(terminator.getOperands())) {
      auto name = forward.getResultAttrOfType<StringAttr>(index, kName);
      outputs.push_back({name ? name.getValue() : StringRef(), value});
      names += (names.empty() ? "'" : ", '") + outputs.back().name.str() + "'";
    }
    StringRef wanted = StringRef(loss).contains(':') ? StringRef(loss).split(':').second : StringRef(logits);
    for (const Output &output : outputs) {
      bool isFloat = isa<FloatType>(getTensorType(output.value).getElementType());
      if (wanted.empty() ? !isFloat : output.name != wanted)
        continue;
      if (isFloat)
        return Output{output.name, beforeRounding(output.value)};
      forward.emitError() << "output '" << wanted << "' feeds the loss but holds " << getTensorType(output.value).getElementType();
      return failure();
    }
    if (wanted.empty())
      forward.emitError() << "no output is a float tensor that could feed the loss; outputs are " << names;
    else
      forward.emitError() << "no output is named '" << wanted << "'; outputs are " << names;
    return failure();
  }

  FailureOr<Loss> buildLoss(OpBuilder &builder, const Output &output) {
    StringRef kind = StringRef(loss).split(':').first;
    if (kind == "cross_entropy")
      return buildCrossEntropy(builder, output);
    if (kind == "mse" || kind == "l1" || kind == "bce_with_logits")
      return buildElementwise(builder, output, kind);
    if (kind == "output")
      return buildOutput(builder, output);
    forward.emitError() << "loss is '" << loss << "', expected cross_entropy, mse, bce_with_logits, l1, output or output:NAME";
    return failure();
  }

  FailureOr<Loss> buildCrossEntropy(OpBuilder &builder, const Output &output) {
    Location loc = output.value.getLoc();
    RankedTensorType type = getTensorType(output.value);
    int64_t axis = classAxis < 0 ? classAxis + type.getRank() : classAxis;
    if (axis < 0 || axis >= type.getRank()) {
      forward.emitError() << "class axis " << int64_t(classAxis) << " is out of range for output '" << output.name << "' of rank " << type.getRank();
      return failure();
    }
    Value values = output.value;
    if (axis != type.getRank() - 1) {
      SmallVector<int64_t> permutation;
      for (int64_t i = 0; i < type.getRank(); ++i)
        if (i != axis)
          permutation.push_back(i);
      permutation.push_back(axis);
      values = transpose(builder, loc, values, permutation);
      type = getTensorType(values);
    }
    FailureOr<Value> label = addLabels(RankedTensorType::get(type.getShape().drop_back(), builder.getI64Type()),
                                       {{kLimit, builder.getI64IntegerAttr(type.getShape().back())}, {kIgnoreIndex, builder.getI64IntegerAttr(ignoreIndex)}});
    if (failed(label))
      return failure();
    Type sumType = getComputeType(type.getElementType());
    auto scalarType = RankedTensorType::get({}, sumType);
    auto op = CrossEntropyOp::create(builder, loc, TypeRange{scalarType, scalarType, RankedTensorType::get(type.getShape().drop_back(), sumType)}, values, *label,
                                     builder.getI64IntegerAttr(ignoreIndex), builder.getF64FloatAttr(labelSmoothing));
    return Loss{op.getLoss(), op.getCount(), ShapedType::getNumElements(type.getShape().drop_back()), /*ignores=*/true};
  }

  FailureOr<Loss> buildElementwise(OpBuilder &builder, const Output &output, StringRef kind) {
    Location loc = output.value.getLoc();
    RankedTensorType type = getTensorType(output.value);
    FailureOr<Value> label = addLabels(type, {});
    if (failed(label))
      return failure();
    Value x = output.value, each;
    if (kind == "bce_with_logits") {
      // max(x, 0) - x y + log(1 + e^-|x|), which never overflows.
      Value softplus = SoftplusOp::create(builder, loc, type, x);
      each = sub(builder, loc, softplus, mul(builder, loc, x, *label));
    } else {
      Value difference = sub(builder, loc, x, *label);
      each = kind == "mse" ? mul(builder, loc, difference, difference) : AbsOp::create(builder, loc, type, difference).getResult();
    }
    SmallVector<int64_t> axes = llvm::to_vector(llvm::seq<int64_t>(0, type.getRank()));
    Value sum = reduceSum(builder, loc, each, axes);
    int64_t positions = type.getNumElements();
    return Loss{sum, scalar(builder, loc, type.getElementType(), positions), positions};
  }

  FailureOr<Loss> buildOutput(OpBuilder &builder, const Output &output) {
    RankedTensorType type = getTensorType(output.value);
    if (type.getNumElements() != 1) {
      forward.emitError() << "output '" << output.name << "' is the loss but has " << type.getNumElements() << " elements, expected 1";
      return failure();
    }
    Location loc = output.value.getLoc();
    return Loss{train::reshape(builder, loc, output.value, {}), scalar(builder, loc, type.getElementType(), 1.0), 1};
  }

  /// Adds the label argument.
  FailureOr<Value> addLabels(RankedTensorType type, ArrayRef<NamedAttribute> attributes) {
    for (unsigned i = 0; i < forward.getNumArguments(); ++i) {
      auto name = forward.getArgAttrOfType<StringAttr>(i, kName);
      if (name && name.getValue() == labels) {
        forward.emitError() << "the graph has an input named '" << labels << "' already; name the label tensor otherwise";
        return failure();
      }
    }
    Builder builder(&getContext());
    NamedAttrList list(attributes);
    list.set(kName, builder.getStringAttr(labels));
    list.set(kLabel, builder.getUnitAttr());
    if (failed(forward.insertArgument(forward.getNumArguments(), type, list.getDictionary(&getContext()), forward.getLoc())))
      return failure();
    return Value(forward.getArguments().back());
  }

  /// Accumulates loss and count, and seeds backward.
  void finish(OpBuilder &builder, const Loss &result) {
    Location loc = result.sum.getLoc();
    Type type = getTensorType(result.sum).getElementType();
    createScalarState(getOperation(), kLossSum, type, 0.0);
    createScalarState(getOperation(), kCount, type, 0.0);
    bool global = lossAverage == "global";

    // What this micro-batch's sum is divided by; at least 1, so that a micro-batch without a counted label adds 0.
    Value divisor = scalar(builder, loc, type, result.positions);
    if (!global && result.ignores)
      divisor = MaxOp::create(builder, loc, result.sum.getType(), result.count, scalar(builder, loc, type, 1.0));
    Value share = global ? result.sum : div(builder, loc, result.sum, divisor);
    AccumulateOp::create(builder, loc, kLossSum, share);
    AccumulateOp::create(builder, loc, kCount, result.count);

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

//===- Autodiff.cpp - the backward graph ---------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "StepStates.h"
#include "zopt/Dialect/Train/TrainBuilders.h"
#include "zopt/Transforms/Passes.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "llvm/ADT/MapVector.h"

namespace zopt {
#define GEN_PASS_DEF_AUTODIFFPASS
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

namespace {

bool isFloat(Value value) { return isa<FloatType>(getElementTypeOrSelf(value.getType())); }

//===----------------------------------------------------------------------===//
// Slices that tile a value
//===----------------------------------------------------------------------===//

/// The single axis along which a slice_grad pads, with unit strides; -1 where there is none or are several.
int64_t paddedAxis(SliceGradOp op) {
  ArrayRef<int64_t> whole = getTensorType(op.getResult()).getShape(), part = getTensorType(op.getCotangent()).getShape();
  int64_t found = -1;
  for (auto [axis, stride] : llvm::enumerate(op.getStrides())) {
    if (stride != 1 && part[axis] > 1)
      return -1;
    if (part[axis] == whole[axis])
      continue;
    if (found >= 0)
      return -1;
    found = axis;
  }
  return found;
}

/// Takes slice_grads out of `contributions` that tile the value along an axis, and returns their concat; null where none do.
Value takeTiling(OpBuilder &builder, SmallVectorImpl<Value> &contributions) {
  int64_t rank = getTensorType(contributions.front()).getRank();
  for (int64_t axis = 0; axis < rank; ++axis) {
    int64_t size = getTensorType(contributions.front()).getDimSize(axis), position = 0;
    SmallVector<unsigned> taken;
    while (position < size) {
      auto next = llvm::find_if(llvm::enumerate(contributions), [&](auto entry) {
        auto op = entry.value().template getDefiningOp<SliceGradOp>();
        return op && paddedAxis(op) == axis && op.getStarts()[axis] == position && getTensorType(op.getCotangent()).getDimSize(axis) > 0;
      });
      if (next == llvm::enumerate(contributions).end())
        break;
      taken.push_back((*next).index());
      position += getTensorType((*next).value().template getDefiningOp<SliceGradOp>().getCotangent()).getDimSize(axis);
    }
    if (position != size)
      continue;
    SmallVector<Value> parts;
    for (unsigned index : taken)
      parts.push_back(contributions[index].getDefiningOp<SliceGradOp>().getCotangent());
    Location loc = contributions[taken.front()].getLoc();
    Value whole = ConcatOp::create(builder, loc, contributions.front().getType(), parts, builder.getI64IntegerAttr(axis));
    llvm::sort(taken, std::greater<>());
    for (unsigned index : taken) {
      SliceGradOp op = contributions[index].getDefiningOp<SliceGradOp>();
      contributions.erase(contributions.begin() + index);
      op.erase();
    }
    return whole;
  }
  return {};
}

//===----------------------------------------------------------------------===//
// The pass
//===----------------------------------------------------------------------===//

/// Differentiates one @micro_step.
class Differentiator {
public:
  Differentiator(ModuleOp module, BackwardOp backward, Type gradientType)
      : module(module), backward(backward), block(backward->getBlock()), gradientType(gradientType) {}

  LogicalResult run() {
    findActive();
    if (failed(checkDifferentiable()) || failed(buildBackward()))
      return failure();
    accumulateGradients();
    eraseDead();
    return success();
  }

private:
  /// The trained parameter that an op reads, null for other ops.
  StateOp getTrained(Operation *op) {
    auto read = dyn_cast<ReadStateOp>(op);
    if (!read)
      return {};
    auto state = symbols.lookupNearestSymbolFrom<StateOp>(read, read.getStateAttr());
    return state && state.getTrained() ? state : StateOp();
  }

  /// Values that depend on a trained parameter and that the loss depends on.
  void findActive() {
    DenseSet<Value> varied;
    for (Operation &op : *block) {
      if (&op == backward)
        break;
      if (getTrained(&op) || llvm::any_of(op.getOperands(), [&](Value operand) { return varied.contains(operand); }))
        for (Value result : op.getResults())
          if (isFloat(result))
            varied.insert(result);
    }
    DenseSet<Value> useful = {backward.getLoss()};
    for (Operation *op = backward->getPrevNode(); op; op = op->getPrevNode()) {
      bool isUseful = false;
      for (Value result : op->getResults()) {
        if (!useful.contains(result))
          continue;
        isUseful = true;
        if (varied.contains(result))
          active.insert(result);
      }
      if (isUseful)
        useful.insert(op->operand_begin(), op->operand_end());
    }
  }

  bool isActive(Operation *op) {
    return llvm::any_of(op->getResults(), [&](Value result) { return active.contains(result); });
  }

  /// Reports every active op that has no derivative, in program order.
  LogicalResult checkDifferentiable() {
    bool valid = true;
    if (!active.contains(backward.getLoss())) {
      backward.emitError("the loss does not depend on any trained parameter");
      return failure();
    }
    for (Operation &op : *block) {
      if (&op == backward)
        break;
      if (!isActive(&op) || isa<ReadStateOp>(op))
        continue;
      auto differentiable = dyn_cast<DifferentiableOpInterface>(op);
      if (!differentiable) {
        op.emitError() << "'" << op.getName() << "' has no derivative, but the loss depends on trained parameters through it";
        valid = false;
        continue;
      }
      for (OpOperand &operand : op.getOpOperands())
        if (active.contains(operand.get()) && !differentiable.isDifferentiable(operand.getOperandNumber())) {
          op.emitError() << "'" << op.getName() << "' has no derivative for operand " << operand.getOperandNumber()
                         << ", but the loss depends on trained parameters through it";
          valid = false;
        }
    }
    return success(valid);
  }

  LogicalResult buildBackward() {
    OpBuilder builder(block->getTerminator());
    contributions[backward.getLoss()].push_back(backward.getSeed());
    bool valid = true;
    for (Operation *op = backward->getPrevNode(); op; op = op->getPrevNode()) {
      if (isa<ReadStateOp>(op) || !isActive(op))
        continue;
      SmallVector<Value> cotangents;
      for (Value result : op->getResults())
        cotangents.push_back(takeCotangent(builder, result));
      if (llvm::none_of(cotangents, [](Value value) { return bool(value); }))
        continue;
      SmallVector<bool> needed;
      for (Value operand : op->getOperands())
        needed.push_back(active.contains(operand));
      SmallVector<Value> gradients = cast<DifferentiableOpInterface>(op).buildVJP(builder, cotangents, needed);
      if (gradients.empty()) { // the op reported why
        valid = false;
        continue;
      }
      for (auto [operand, gradient, isNeeded] : llvm::zip(op->getOperands(), gradients, needed)) {
        if (!isNeeded || !gradient)
          continue;
        if (gradient.getType() != operand.getType()) {
          op->emitError() << "derivative of '" << op->getName() << "' is " << gradient.getType() << " for an operand of " << operand.getType();
          valid = false;
        }
        contributions[operand].push_back(gradient);
      }
    }
    return success(valid);
  }

  /// The sum of what flows into a value; null where nothing does.
  Value takeCotangent(OpBuilder &builder, Value value) {
    auto found = contributions.find(value);
    if (found == contributions.end())
      return {};
    Value sum = addUp(builder, found->second);
    found->second.assign(1, sum);
    return sum;
  }

  static Value addUp(OpBuilder &builder, SmallVector<Value> &values) {
    SmallVector<Value> terms;
    while (values.size() > 1) {
      Value whole = takeTiling(builder, values);
      if (!whole)
        break;
      terms.push_back(whole);
      if (values.empty())
        break;
    }
    llvm::append_range(terms, values);
    Value sum = terms.front();
    for (Value term : llvm::drop_begin(terms))
      sum = add(builder, term.getLoc(), sum, term);
    return sum;
  }

  /// `value` in the gradient's type: produced in it where its op rounds once at its end, cast otherwise.
  Value inGradientType(OpBuilder &builder, Value value, Type type) {
    if (getTensorType(value).getElementType() == type)
      return value;
    if (retype(value, type))
      return value;
    return train::cast(builder, value.getLoc(), value, type);
  }

  bool retype(Value value, Type type) {
    Operation *op = value.getDefiningOp();
    if (!op || !value.use_empty() || !backward->isBeforeInBlock(op))
      return false;
    // A reshape hands the type on to what it views.
    if (auto view = dyn_cast<ReshapeOp>(op)) {
      Value source = view.getInput();
      if (!source.hasOneUse())
        return false;
      Operation *producer = source.getDefiningOp();
      if (!producer || !roundsOnce(producer) || !backward->isBeforeInBlock(producer))
        return false;
      source.setType(getTensorType(source).clone(type));
    } else if (!roundsOnce(op)) {
      return false;
    }
    value.setType(getTensorType(value).clone(type));
    return true;
  }

  static bool roundsOnce(Operation *op) {
    return isa<MatmulOp, ConvWeightGradOp, ReduceSumOp, GatherGradOp, LayerNormParameterGradOp, RMSNormParameterGradOp>(op);
  }

  /// Adds up what reached each trained parameter and accumulates it, right behind the last contribution.
  void accumulateGradients() {
    llvm::MapVector<StateOp, SmallVector<Value>> gradients;
    llvm::SetVector<StateOp> trained;
    for (StateOp state : module.getOps<StateOp>())
      if (state.getTrained())
        trained.insert(state);
    for (auto read : block->getOps<ReadStateOp>())
      if (StateOp state = getTrained(read); state && contributions.contains(read.getValue()))
        llvm::append_range(gradients[state], contributions[read.getValue()]);

    for (StateOp state : trained) {
      auto found = gradients.find(state);
      if (found == gradients.end()) {
        state.emitRemark() << "parameter '" << state.getSymName() << "' is not trained: the loss does not depend on it";
        state.removeTrainedAttr();
        continue;
      }
      SmallVector<Value> &values = found->second;
      Operation *last = backward;
      for (Value value : values)
        if (Operation *op = value.getDefiningOp(); op && last->isBeforeInBlock(op))
          last = op;
      OpBuilder builder(module.getContext());
      builder.setInsertionPointAfter(last);
      Type type = gradientType ? gradientType : getTensorType(values.front()).getElementType();
      // Slices first: they are concatenated as they are.
      Value sum;
      if (values.size() > 1 && llvm::all_of(values, [](Value value) { return isa_and_nonnull<SliceGradOp>(value.getDefiningOp()); })) {
        sum = inGradientType(builder, addUp(builder, values), type);
      } else {
        for (Value &value : values)
          value = inGradientType(builder, value, type);
        sum = addUp(builder, values);
      }
      AccumulateOp::create(builder, state.getLoc(), state.getSymName(), sum);
    }
  }

  /// Removes what no gradient needed.
  void eraseDead() {
    for (Operation *op = block->getTerminator()->getPrevNode(); op != backward;) {
      Operation *previous = op->getPrevNode();
      if (isOpTriviallyDead(op))
        op->erase();
      op = previous;
    }
  }

  ModuleOp module;
  BackwardOp backward;
  Block *block;
  Type gradientType; // null: as the parameter is read
  SymbolTableCollection symbols;
  DenseSet<Value> active;                              // asked, never walked
  DenseMap<Value, SmallVector<Value>> contributions;   // to a value's cotangent, in the order of the walk; asked, never walked
};

class AutodiffPass : public zopt::impl::AutodiffPassBase<AutodiffPass> {
public:
  using AutodiffPassBase::AutodiffPassBase;

  void runOnOperation() override {
    auto step = getOperation().lookupSymbol<func::FuncOp>(kMicroStep);
    if (!step || !step.getBody().hasOneBlock()) {
      getOperation().emitError("module has no @micro_step of one block");
      return signalPassFailure();
    }
    Builder builder(&getContext());
    Type gradientType = llvm::StringSwitch<Type>(gradDtype)
                            .Case("f32", builder.getF32Type())
                            .Case("bf16", builder.getBF16Type())
                            .Case("f16", builder.getF16Type())
                            .Case("f64", builder.getF64Type())
                            .Default(Type());
    if (!gradientType && !gradDtype.empty()) {
      step.emitError() << "gradient type is '" << gradDtype << "', expected f32, bf16, f16 or f64";
      return signalPassFailure();
    }
    SmallVector<BackwardOp> starts(step.getOps<BackwardOp>());
    if (starts.size() != 1) {
      step.emitError() << "@micro_step has " << starts.size() << " train.backward, expected 1";
      return signalPassFailure();
    }
    if (failed(Differentiator(getOperation(), starts.front(), gradientType).run()))
      signalPassFailure();
  }
};

} // namespace

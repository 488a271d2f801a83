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

/// A stretch of one axis of a value, whole along all others.
struct Part {
  int64_t axis, start, size;
};

/// The stretch that a slice takes, or that its gradient pads, with unit strides; none where it is no such stretch.
std::optional<Part> findPart(Value whole, Value part, ArrayRef<int64_t> starts, ArrayRef<int64_t> strides) {
  ArrayRef<int64_t> from = getTensorType(whole).getShape(), to = getTensorType(part).getShape();
  std::optional<Part> found;
  for (auto [axis, stride] : llvm::enumerate(strides)) {
    if (stride != 1 && to[axis] > 1)
      return std::nullopt;
    if (to[axis] == from[axis])
      continue;
    if (found)
      return std::nullopt;
    found = Part{static_cast<int64_t>(axis), starts[axis], to[axis]};
  }
  return found && found->size > 0 ? found : std::nullopt;
}

/// Parts that tile a value along an axis, in the order in which they lie; of several that start alike the first comes
/// first.
class Tilings {
public:
  explicit Tilings(Value whole) : shape(getTensorType(whole).getShape()) {}

  /// Parts are added from the last to the first.
  void add(const Part &part, unsigned index) { byStart[{part.axis, part.start}].push_back({index, part.size}); }

  /// Takes the next tiling; empty where there is none.
  SmallVector<unsigned> take(int64_t &axis) {
    for (axis = 0; axis < static_cast<int64_t>(shape.size()); ++axis) {
      SmallVector<unsigned> taken;
      SmallVector<SmallVector<Entry, 1> *> lists;
      int64_t position = 0;
      while (position < shape[axis]) {
        auto found = byStart.find({axis, position});
        if (found == byStart.end() || found->second.empty())
          break;
        lists.push_back(&found->second);
        taken.push_back(found->second.back().first);
        position += found->second.back().second;
      }
      if (taken.empty() || position != shape[axis])
        continue;
      for (SmallVector<Entry, 1> *list : lists)
        list->pop_back();
      return taken;
    }
    return {};
  }

private:
  using Entry = std::pair<unsigned, int64_t>; // index, size
  ArrayRef<int64_t> shape;
  DenseMap<std::pair<int64_t, int64_t>, SmallVector<Entry, 1>> byStart; // asked, never walked
};

/// Takes slice_grads that tile the value along an axis out of `contributions`, and returns the concat of each tiling.
SmallVector<Value> takeTilings(OpBuilder &builder, SmallVectorImpl<Value> &contributions) {
  if (contributions.size() < 2)
    return {};
  Tilings tilings(contributions.front());
  for (size_t index = contributions.size(); index-- > 0;)
    if (auto op = contributions[index].getDefiningOp<SliceGradOp>())
      if (auto part = findPart(op.getResult(), op.getCotangent(), op.getStarts(), op.getStrides()))
        tilings.add(*part, index);
  SmallVector<Value> wholes;
  int64_t axis;
  for (size_t left = contributions.size(); left > 1;) {
    SmallVector<unsigned> taken = tilings.take(axis);
    if (taken.empty())
      break;
    SmallVector<Value> parts;
    for (unsigned index : taken)
      parts.push_back(contributions[index].getDefiningOp<SliceGradOp>().getCotangent());
    Location loc = contributions[taken.front()].getLoc();
    wholes.push_back(
        ConcatOp::create(builder, loc, contributions[taken.front()].getType(), parts, builder.getI64IntegerAttr(axis)));
    for (unsigned index : taken) // others may hold the slice_grad too: it is dead where none does
      contributions[index] = {};
    left -= taken.size();
  }
  llvm::erase_if(contributions, [](Value value) { return !value; });
  return wholes;
}

/// Up to as many contributions are added by one kernel, where all are there. More are added as they come: no more than
/// the sum so far and the next one are kept.
constexpr unsigned kFewContributions = 4;

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
    findCrowded();
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

  /// Values that many ops send something to, but for those that slices may tile: a concat is no sum.
  void findCrowded() {
    DenseMap<Value, unsigned> count;
    for (Operation *op = backward->getPrevNode(); op; op = op->getPrevNode())
      if (isActive(op))
        for (Value operand : op->getOperands())
          if (active.contains(operand) && ++count[operand] == kFewContributions + 1 && !mayBeTiled(operand))
            crowded.insert(operand);
  }

  bool mayBeTiled(Value value) {
    Tilings tilings(value);
    for (Operation *user : value.getUsers())
      if (auto slice = dyn_cast<SliceOp>(user))
        if (auto part = findPart(value, slice.getResult(), slice.getStarts(), slice.getStrides()))
          tilings.add(*part, 0);
    int64_t axis;
    return !tilings.take(axis).empty();
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
        SmallVector<Value> &values = contributions[operand];
        if (!values.empty() && crowded.contains(operand) && !operand.getDefiningOp<ReadStateOp>())
          values.back() = add(builder, gradient.getLoc(), values.back(), gradient);
        else
          values.push_back(gradient);
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

  /// The sum of `values` from the first to the last, after concats of those that tile it; each of its additions stands
  /// right behind what it adds where they are added as they come.
  Value addUp(OpBuilder &builder, SmallVector<Value> &values, bool asTheyCome = false) {
    SmallVector<Value> terms = takeTilings(builder, values);
    llvm::append_range(terms, values);
    Value sum = terms.front();
    for (Value term : llvm::drop_begin(terms)) {
      if (asTheyCome)
        builder.setInsertionPointAfter(later(later(backward, sum), term));
      sum = add(builder, term.getLoc(), sum, term);
    }
    return sum;
  }

  /// `op`, or what defines `value` where that is behind it.
  static Operation *later(Operation *op, Value value) {
    Operation *definition = value.getDefiningOp();
    return definition && op->isBeforeInBlock(definition) ? definition : op;
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
        last = later(last, value);
      OpBuilder builder(module.getContext());
      builder.setInsertionPointAfter(last);
      Type type = gradientType ? gradientType : getTensorType(values.front()).getElementType();
      const bool asTheyCome = values.size() > kFewContributions;
      // Slices first: they are concatenated as they are.
      const bool areSlices = values.size() > 1 && llvm::all_of(values, [](Value value) {
                               return isa_and_nonnull<SliceGradOp>(value.getDefiningOp());
                             });
      for (Value &value : values) {
        if (areSlices)
          break;
        if (asTheyCome)
          builder.setInsertionPointAfter(later(backward, value));
        value = inGradientType(builder, value, type);
        last = later(last, value);
      }
      if (asTheyCome)
        builder.setInsertionPointAfter(last);
      Value sum = addUp(builder, values, asTheyCome);
      if (asTheyCome)
        builder.setInsertionPointAfter(later(last, sum));
      if (areSlices)
        sum = inGradientType(builder, sum, type);
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
  DenseSet<Value> active, crowded;                     // asked, never walked
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

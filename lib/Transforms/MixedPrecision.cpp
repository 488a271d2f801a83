//===- MixedPrecision.cpp - the type in which a graph computes -----------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "LossScale.h"
#include "StepStates.h"
#include "zopt/Dialect/Train/Marks.h"
#include "zopt/Dialect/Train/TrainBuilders.h"
#include "zopt/Transforms/Passes.h"
#include "zopt/Transforms/PrecisionRules.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Regex.h"
#include <cmath>

namespace zopt {
#define GEN_PASS_DEF_MIXEDPRECISIONPASS
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

namespace {

bool isFloat(Value value) { return isa<FloatType>(getElementTypeOrSelf(value.getType())); }

RankedTensorType withElement(Type type, Type elementType) { return cast<RankedTensorType>(type).clone(elementType); }

/// The ops that `keep-fp32` names.
class KeptOps {
public:
  /// An empty expression names none.
  explicit KeptOps(StringRef expression) : regex(expression.empty() ? std::string("^$") : ("^(" + expression + ")$").str()), empty(expression.empty()) {}

  bool isValid(std::string &error) { return regex.isValid(error); }
  bool anyMatched() const { return matched; }

  bool contains(Operation *op) {
    if (op->hasAttr(kFullPrecision))
      return true;
    if (empty || !isa_and_nonnull<TrainDialect>(op->getDialect()) || isa<ReadStateOp, ConstantOp, AccumulateOp, WriteStateOp, BackwardOp>(op))
      return false;
    bool hit = regex.match(op->getName().getStringRef()) || regex.match(op->getName().stripDialect());
    // Of an op that was made of several nodes any name will do.
    op->getLoc()->walk([&](Location part) {
      if (auto name = dyn_cast<NameLoc>(part))
        hit |= regex.match(name.getName().getValue());
      return hit ? WalkResult::interrupt() : WalkResult::advance();
    });
    matched |= hit;
    return hit;
  }

private:
  llvm::Regex regex;
  bool empty, matched = false;
};

//===----------------------------------------------------------------------===//
// bf16 and f16
//===----------------------------------------------------------------------===//

/// Lowers one function: values that depend on a parameter or a float input are in the compute type, all others as they were.
class Lowering {
public:
  Lowering(const SymbolTable &symbols, FloatType computeType, KeptOps &keptOps) : symbols(symbols), computeType(computeType), keptOps(keptOps) {}

  LogicalResult run(func::FuncOp function) {
    Block &block = function.getBody().front();
    findKept(block);
    for (Operation &op : llvm::make_early_inc_range(block.without_terminator()))
      if (failed(lower(&op)))
        return failure();
    // Outputs are delivered as declared.
    Operation *terminator = block.getTerminator();
    for (OpOperand &operand : terminator->getOpOperands())
      raise(operand, cast<RankedTensorType>(function.getResultTypes()[operand.getOperandNumber()]).getElementType());
    return success();
  }

private:
  /// Fills `kept` with the ops that stay as they are: those that are named, and what moves a parameter to them alone.
  void findKept(Block &block) {
    for (Operation &op : block.without_terminator())
      if (keptOps.contains(&op))
        kept[&op] = llvm::to_vector(op.getOperandTypes());
    if (kept.empty())
      return;
    for (Operation &op : llvm::reverse(block.without_terminator())) {
      const bool allKept = !op.use_empty() && llvm::all_of(op.getUsers(), [&](Operation *user) { return kept.contains(user); });
      const bool allMarked =
          allKept && llvm::all_of(op.getUsers(), [](Operation *user) { return user->hasAttr(kFullPrecision); });
      if (allMarked && isa<ReshapeOp, TransposeOp, BroadcastOp, SliceOp>(op))
        op.setAttr(kFullPrecision, UnitAttr::get(op.getContext()));
      if (allKept && isa<ReshapeOp, TransposeOp, BroadcastOp, SliceOp, CastOp>(op) &&
          (op.hasAttr(kFullPrecision) || movesParameter(op.getOperand(0))))
        kept[&op] = llvm::to_vector(op.getOperandTypes());
      // A parameter is read in one type: that of whoever needs more of it.
      if (isa<ReadStateOp>(op) && llvm::any_of(op.getUsers(), [&](Operation *user) { return kept.contains(user); }))
        wide.insert(op.getResult(0));
    }
  }

  static bool movesParameter(Value value) {
    while (Operation *op = value.getDefiningOp()) {
      if (isa<ReadStateOp>(op))
        return true;
      if (!isa<ReshapeOp, TransposeOp, BroadcastOp, SliceOp, CastOp>(op))
        return false;
      value = op->getOperand(0);
    }
    return false;
  }

  /// Whether a value carries activations: it was lowered or kept from it, or it is a float input that is no label.
  bool isActivation(Value value) {
    if (lowered.contains(value) || wide.contains(value))
      return true;
    auto argument = dyn_cast<BlockArgument>(value);
    if (!argument || !isFloat(value))
      return false;
    auto function = cast<func::FuncOp>(argument.getOwner()->getParentOp());
    return !function.getArgAttr(argument.getArgNumber(), kLabel);
  }

  LogicalResult lower(Operation *op) {
    if (auto read = dyn_cast<ReadStateOp>(op)) {
      auto state = symbols.lookup<StateOp>(read.getState());
      const bool isParameter = state && state.getRole() == Role::parameter && isFloat(read.getValue());
      if (!isParameter)
        wide.erase(read.getValue()); // a buffer is no activation
      else if (!wide.contains(read.getValue()))
        setLowered(read.getValue());
      return success();
    }
    if (auto constant = dyn_cast<ConstantOp>(op)) {
      clampConstant(constant);
      return success();
    }
    bool meetsActivation = llvm::any_of(op->getOpOperands(), [&](OpOperand &operand) { return !keepsOperand(operand) && isActivation(operand.get()); });
    bool isLoss = op->hasAttr(kLossMark);
    op->removeAttr(kLossMark);
    if (!meetsActivation)
      return success();
    if (auto it = kept.find(op); it != kept.end()) {
      for (OpOperand &operand : op->getOpOperands())
        if (lowered.contains(operand.get()))
          raise(operand, getElementTypeOrSelf(it->second[operand.getOperandNumber()]));
      for (Value result : op->getResults())
        if (isFloat(result))
          wide.insert(result);
      return success();
    }
    if (isLoss && !isa<CrossEntropyOp, CountCorrectOp, TransposeOp>(op)) {
      // The loss computes in full precision on what the graph gives it.
      for (OpOperand &operand : op->getOpOperands())
        if (lowered.contains(operand.get()))
          raise(operand, Float32Type::get(op->getContext()));
      return success();
    }
    if (auto cast = dyn_cast<CastOp>(op); cast && isFloat(cast.getResult())) {
      // A conversion between floats has no meaning left: the value stays in the compute type.
      Value input = lowerOperand(cast.getInput(), op);
      cast.getResult().replaceAllUsesWith(input);
      cast.erase();
      return success();
    }
    if (!isa_and_nonnull<TrainDialect>(op->getDialect()))
      return op->emitOpError("cannot compute in lower precision");
    for (OpOperand &operand : op->getOpOperands())
      if (isFloat(operand.get()) && !keepsOperand(operand))
        operand.set(lowerOperand(operand.get(), op));
    for (OpResult result : op->getResults())
      if (isFloat(result) && !isStatistic(result))
        setLowered(result);
    return success();
  }

  void setLowered(Value value) {
    value.setType(withElement(value.getType(), computeType));
    lowered.insert(value);
  }

  /// `value` in the compute type, for `user`: one cast a value, right behind it.
  Value lowerOperand(Value value, Operation *user) {
    if (lowered.contains(value))
      return value;
    Value &copy = lowerings[value];
    if (!copy) {
      OpBuilder builder(user->getContext());
      builder.setInsertionPointAfterValue(value);
      copy = train::cast(builder, value.getLoc(), value, computeType);
      lowered.insert(copy);
    }
    return copy;
  }

  /// Gives `operand` its value in `elementType`.
  void raise(OpOperand &operand, Type elementType) {
    if (!lowered.contains(operand.get()) || getTensorType(operand.get()).getElementType() == elementType)
      return;
    Value &copy = raisings[{operand.get(), elementType}];
    if (!copy) {
      OpBuilder builder(operand.getOwner()->getContext());
      builder.setInsertionPointAfterValue(operand.get());
      copy = train::cast(builder, operand.get().getLoc(), operand.get(), elementType);
    }
    operand.set(copy);
  }

  /// Brings finite values that the compute type cannot hold to its largest finite one.
  void clampConstant(ConstantOp constant) {
    auto value = dyn_cast<DenseFPElementsAttr>(constant.getValue());
    if (!value)
      return;
    APFloat largest = APFloat::getLargest(computeType.getFloatSemantics());
    bool lost;
    largest.convert(cast<FloatType>(value.getElementType()).getFloatSemantics(), APFloat::rmNearestTiesToEven, &lost);
    bool changed = false;
    auto clamped = [&](const APFloat &element) {
      if (!element.isFinite() || abs(element) <= largest)
        return element;
      changed = true;
      return element.isNegative() ? neg(largest) : largest;
    };
    DenseElementsAttr mapped;
    if (value.isSplat()) {
      mapped = DenseElementsAttr::get(value.getType(), clamped(value.getSplatValue<APFloat>()));
    } else {
      SmallVector<APFloat> elements;
      for (const APFloat &element : value.getValues<APFloat>())
        elements.push_back(clamped(element));
      mapped = DenseElementsAttr::get(value.getType(), elements);
    }
    if (changed)
      constant.setValueAttr(mapped);
  }

  const SymbolTable &symbols;
  FloatType computeType;
  KeptOps &keptOps;
  DenseMap<Operation *, SmallVector<Type>> kept; // asked, never walked: ops that are not lowered, and what their operands were
  DenseSet<Value> wide;                          // asked, never walked: activations that were not lowered
  DenseSet<Value> lowered;                      // asked, never walked
  DenseMap<Value, Value> lowerings;              // asked, never walked
  DenseMap<std::pair<Value, Type>, Value> raisings;
};

//===----------------------------------------------------------------------===//
// f64
//===----------------------------------------------------------------------===//

/// Bytes of a train.constant that is no splat.
constexpr int64_t kLargestLiteral = 1024;

/// Everything is f64: states, constants and every float value; inputs stay as the data has them and are cast, and so do literals that would be too long.
void widen(ModuleOp module) {
  Type type = Float64Type::get(module.getContext());
  for (StateOp state : module.getOps<StateOp>())
    if (isa<FloatType>(state.getTensorType().getElementType()))
      state.setType(withElement(state.getTensorType(), type));
  for (func::FuncOp function : module.getOps<func::FuncOp>()) {
    Block &block = function.getBody().front();
    auto builder = OpBuilder::atBlockBegin(&block);
    for (BlockArgument argument : block.getArguments()) {
      if (!isFloat(argument) || getTensorType(argument).getElementType() == type)
        continue;
      Value wide = train::cast(builder, argument.getLoc(), argument, type);
      argument.replaceAllUsesExcept(wide, wide.getDefiningOp());
    }
    for (Operation &op : block.without_terminator()) {
      op.removeAttr(kLossMark);
      if (auto constant = dyn_cast<ConstantOp>(op))
        if (auto value = dyn_cast<DenseFPElementsAttr>(constant.getValue())) {
          if (!value.isSplat() && value.getNumElements() * 8 > kLargestLiteral) { // stays as short as it is
            builder.setInsertionPointAfter(constant);
            Value wide = train::cast(builder, constant.getLoc(), constant.getResult(), type);
            constant.getResult().replaceAllUsesExcept(wide, wide.getDefiningOp());
            continue;
          }
          constant.setValueAttr(value.mapValues(type, [](const APFloat &element) {
            APFloat wide = element;
            bool lost;
            wide.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven, &lost);
            return wide.bitcastToAPInt();
          }));
        }
      for (Value result : op.getResults())
        if (isFloat(result))
          result.setType(withElement(result.getType(), type));
    }
    // Outputs too.
    Operation *terminator = block.getTerminator();
    function.setFunctionType(FunctionType::get(module.getContext(), function.getArgumentTypes(), terminator->getOperandTypes()));
  }
}

class MixedPrecisionPass : public zopt::impl::MixedPrecisionPassBase<MixedPrecisionPass> {
public:
  using MixedPrecisionPassBase::MixedPrecisionPassBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    Builder builder(&getContext());
    if (!keepFp32.empty() && compute != "bf16" && compute != "f16") {
      module.emitError() << "keep-fp32 is of bf16 and f16, but the compute type is '" << compute << "'";
      return signalPassFailure();
    }
    if (compute == "f64") {
      widen(module);
    } else if (compute == "bf16" || compute == "f16") {
      FloatType type = compute == "bf16" ? FloatType(builder.getBF16Type()) : FloatType(builder.getF16Type());
      SymbolTable symbols(module);
      KeptOps kept(keepFp32);
      std::string error;
      if (!kept.isValid(error)) {
        module.emitError() << "keep-fp32 '" << keepFp32 << "' is no regular expression: " << error;
        return signalPassFailure();
      }
      for (func::FuncOp function : module.getOps<func::FuncOp>())
        if (failed(Lowering(symbols, type, kept).run(function)))
          return signalPassFailure();
      if (!keepFp32.empty() && !kept.anyMatched()) {
        module.emitError() << "keep-fp32 '" << keepFp32 << "' matches no node and no op of the graph";
        return signalPassFailure();
      }
      if (auto microStep = module.lookupSymbol<func::FuncOp>(kMicroStep); microStep && compute == "f16") {
        FailureOr<LossScaleSettings> settings = parseLossScale(module);
        if (failed(settings))
          return signalPassFailure();
        scaleLoss(module, microStep, *settings);
      }
    } else if (compute != "f32") {
      module.emitError() << "compute type is '" << compute << "', expected f32, bf16, f16 or f64";
      return signalPassFailure();
    }
    // The loss is marked for this pass alone.
    module.walk([](Operation *op) {
      op->removeAttr(kLossMark);
      op->removeAttr(kFullPrecision);
    });
  }

private:
  FailureOr<LossScaleSettings> parseLossScale(ModuleOp module) {
    LossScaleSettings settings;
    settings.dynamic = lossScale == "dynamic";
    auto refuse = [&](const Twine &text) {
      module.emitError() << text;
      return failure();
    };
    if (!settings.dynamic) {
      if (StringRef(lossScale).getAsDouble(settings.initial) || !std::isfinite(settings.initial) || settings.initial <= 0)
        return refuse("loss scale is '" + lossScale + "', expected dynamic or a positive number");
      return settings;
    }
    // Counts are kept in fp32, which holds whole numbers up to 2^24.
    if (lossScaleInitPower < 0 || lossScaleInitPower > 64)
      return refuse("loss scale begins at 2 to the power of " + Twine(int64_t(lossScaleInitPower)) + ", expected 0 to 64");
    if (lossScaleWindow < 1 || lossScaleWindow > (1 << 24))
      return refuse("loss scale has a window of " + Twine(int64_t(lossScaleWindow)) + " steps, expected 1 to 16777216");
    if (lossScaleHysteresis < 1 || lossScaleHysteresis > (1 << 24))
      return refuse("loss scale has a hysteresis of " + Twine(int64_t(lossScaleHysteresis)) + " overflows, expected 1 to 16777216");
    settings.initial = std::ldexp(1.0, int(lossScaleInitPower));
    if (!(lossScaleMin > 0) || lossScaleMin > settings.initial)
      return refuse("least loss scale is " + llvm::formatv("{0}", double(lossScaleMin)).str() + ", expected more than 0 and at most the first, " + llvm::formatv("{0}", settings.initial).str());
    settings.window = lossScaleWindow;
    settings.hysteresis = lossScaleHysteresis;
    settings.consecutiveHysteresis = lossScaleConsecutiveHysteresis;
    settings.minimum = lossScaleMin;
    return settings;
  }
};

} // namespace

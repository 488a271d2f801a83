//===- MixedPrecision.cpp - the type in which a graph computes -----------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "LossScale.h"
#include "StepStates.h"
#include "zopt/Dialect/Train/TrainBuilders.h"
#include "zopt/Transforms/Passes.h"
#include "llvm/Support/FormatVariadic.h"
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

/// Operands that an op reads in their own precision beside lowered ones.
bool keepsPrecision(OpOperand &operand) {
  unsigned index = operand.getOperandNumber();
  return TypeSwitch<Operation *, bool>(operand.getOwner())
      .Case<AttentionOp>([&](auto) { return index == 3; })
      .Case<RotaryOp>([&](auto) { return index > 0; })
      .Case<BatchNormOp>([&](auto) { return index == 1 || index == 2; })
      .Default(false);
}

/// Results that are statistics, in the type that an op computes in.
bool isStatistic(OpResult result) {
  return isa<LayerNormOp, RMSNormOp, AttentionOp>(result.getOwner())
             ? result.getResultNumber() > 0
             : isa<CrossEntropyOp, CountCorrectOp, BatchStatisticsOp>(result.getOwner());
}

//===----------------------------------------------------------------------===//
// bf16 and f16
//===----------------------------------------------------------------------===//

/// Lowers one function: values that depend on a parameter or a float input are in the compute type, all others as they were.
class Lowering {
public:
  Lowering(const SymbolTable &symbols, FloatType computeType) : symbols(symbols), computeType(computeType) {}

  LogicalResult run(func::FuncOp function) {
    Block &block = function.getBody().front();
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
  /// Whether a value carries activations: it was lowered, or it is a float input that is no label.
  bool isActivation(Value value) {
    if (lowered.contains(value))
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
      if (state && state.getRole() == Role::parameter && isFloat(read.getValue()))
        setLowered(read.getValue());
      return success();
    }
    if (auto constant = dyn_cast<ConstantOp>(op)) {
      clampConstant(constant);
      return success();
    }
    bool meetsActivation = llvm::any_of(op->getOpOperands(), [&](OpOperand &operand) { return !keepsPrecision(operand) && isActivation(operand.get()); });
    bool isLoss = op->hasAttr(kLossMark);
    op->removeAttr(kLossMark);
    if (!meetsActivation)
      return success();
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
      if (isFloat(operand.get()) && !keepsPrecision(operand))
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
    Value &copy = raisings[operand.get()];
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
  DenseSet<Value> lowered;                      // asked, never walked
  DenseMap<Value, Value> lowerings, raisings;   // asked, never walked
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
    if (compute == "f64") {
      widen(module);
    } else if (compute == "bf16" || compute == "f16") {
      FloatType type = compute == "bf16" ? FloatType(builder.getBF16Type()) : FloatType(builder.getF16Type());
      SymbolTable symbols(module);
      for (func::FuncOp function : module.getOps<func::FuncOp>())
        if (failed(Lowering(symbols, type).run(function)))
          return signalPassFailure();
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
    module.walk([](Operation *op) { op->removeAttr(kLossMark); });
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

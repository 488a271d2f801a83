//===- RaiseRotary.cpp - raise rotary position embeddings ----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Su et al., "RoFormer": pairs (x1, x2) of the last axis turn by an angle. Exporters repeat the angles in both halves, x cos + concat(-x2, x1) sin; train.rotary takes them once.
//
//===----------------------------------------------------------------------===//

#include "RaisingPatterns.h"
#include "zopt/Transforms/Passes.h"

namespace zopt {
#define GEN_PASS_DEF_RAISEROTARY
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

namespace {

/// The slice [0, D/2) (`half` 0) or [D/2, D) (`half` 1) of the last axis of a tensor; null for others.
Value matchHalf(Value value, int64_t half) {
  auto slice = value.getDefiningOp<SliceOp>();
  if (!slice)
    return {};
  ArrayRef<int64_t> from = getTensorType(slice.getInput()).getShape(), to = slice.getType().getShape();
  for (auto [axis, start] : llvm::enumerate(slice.getStarts())) {
    bool last = axis + 1 == from.size();
    if (start != (last ? half * to.back() : 0) || (slice.getStrides()[axis] != 1 && to[axis] != 1) || from[axis] != (last ? 2 * to[axis] : to[axis]))
      return {};
  }
  return slice.getInput();
}

/// Finds the half of tensors that repeat in the last axis: t = concat(half, half).
class Halves {
public:
  /// Null where the repetition is not proven.
  Value find(Value value) {
    auto [entry, isNew] = known.try_emplace(value, Value());
    if (!isNew)
      return entry->second;
    Value half = compute(value);
    known[value] = half;
    return half;
  }

private:
  static RankedTensorType halfOf(RankedTensorType type) {
    SmallVector<int64_t> shape(type.getShape());
    shape.back() /= 2;
    return type.clone(shape);
  }

  Value compute(Value value) {
    RankedTensorType type = getTensorType(value);
    Operation *op = value.getDefiningOp();
    if (!op || type.getRank() == 0 || type.getShape().back() % 2 != 0)
      return {};
    OpBuilder builder(op->getContext());
    builder.setInsertionPointAfter(op);
    if (auto concat = dyn_cast<ConcatOp>(op)) {
      bool joinsHalves = static_cast<int64_t>(concat.getAxis()) == type.getRank() - 1 && concat.getInputs().size() == 2;
      return joinsHalves && isSameValue(concat.getInputs()[0], concat.getInputs()[1]) ? concat.getInputs()[0] : Value();
    }
    if (isa<ConstantOp>(op))
      return halveConstant(builder, cast<ConstantOp>(op));
    if (isa<ReshapeOp, BroadcastOp>(op)) {
      RankedTensorType source = getTensorType(op->getOperand(0));
      // A reshape keeps the last axis if it keeps its size; a broadcast along it repeats one element.
      if (source.getRank() == 0 || source.getShape().back() != type.getShape().back())
        return {};
      Value half = find(op->getOperand(0));
      if (!half)
        return {};
      if (isa<ReshapeOp>(op))
        return ReshapeOp::create(builder, op->getLoc(), halfOf(type), half);
      return BroadcastOp::create(builder, op->getLoc(), halfOf(type), half);
    }
    if (!op->hasTrait<Elementwise>() || op->getNumResults() != 1 || op->getNumRegions() != 0)
      return {};
    SmallVector<Value> operands;
    for (Value operand : op->getOperands()) {
      RankedTensorType operandType = getTensorType(operand);
      bool repeats = operandType.getRank() == 0 || operandType.getShape().back() == 1;
      operands.push_back(repeats ? operand : find(operand));
      if (!operands.back())
        return {};
    }
    Operation *half = builder.clone(*op);
    half->setOperands(operands);
    half->getResult(0).setType(halfOf(type));
    return half->getResult(0);
  }

  static Value halveConstant(OpBuilder &builder, ConstantOp constant) {
    auto elements = dyn_cast<DenseElementsAttr>(constant.getValue());
    if (!elements)
      return {};
    RankedTensorType type = halfOf(getTensorType(constant));
    if (elements.isSplat())
      return ConstantOp::create(builder, constant.getLoc(), type, elements.resizeSplat(type));
    int64_t size = type.getShape().back();
    auto values = llvm::to_vector(elements.getValues<Attribute>());
    SmallVector<Attribute> half;
    for (size_t row = 0; row < values.size(); row += 2 * size) {
      if (ArrayRef(values).slice(row, size) != ArrayRef(values).slice(row + size, size))
        return {};
      half.append(values.begin() + row, values.begin() + row + size);
    }
    return ConstantOp::create(builder, constant.getLoc(), type, DenseElementsAttr::get(type, half));
  }

  DenseMap<Value, Value> known;
};

/// What a rotation is made of; cos and sin of half size.
struct Rotation {
  Value input, cos, sin;
};

class Raiser {
public:
  std::optional<Rotation> match(Operation *op) {
    std::optional<Rotation> rotation;
    if (auto add = dyn_cast<AddOp>(op))
      rotation = matchWhole(add);
    else if (auto concat = dyn_cast<ConcatOp>(op))
      rotation = matchHalves(concat);
    if (!rotation || gradients.reaches(rotation->cos) || gradients.reaches(rotation->sin))
      return std::nullopt;
    return rotation;
  }

private:
  /// Whether angles fit the op: [B, 1, T, D/2], or what broadcasts to it, for an input [B, H, T, D].
  static bool fits(Value input, Value angles) {
    ArrayRef<int64_t> x = getTensorType(input).getShape(), c = getTensorType(angles).getShape();
    if (x.size() != 4 || c.empty() || c.size() > 4 || c.back() != x[3] / 2)
      return false;
    SmallVector<int64_t> expected = {x[0], 1, x[2], x[3] / 2};
    FailureOr<SmallVector<int64_t>> shape = broadcastShapes(c, expected);
    return succeeded(shape) && *shape == expected && getTensorType(input).getElementType() == getTensorType(angles).getElementType();
  }

  /// x where the value is concat(-x2, x1).
  static Value matchTurned(Value value) {
    auto concat = value.getDefiningOp<ConcatOp>();
    if (!concat || concat.getInputs().size() != 2 || static_cast<int64_t>(concat.getAxis()) != concat.getType().getRank() - 1)
      return {};
    auto neg = concat.getInputs()[0].getDefiningOp<NegOp>();
    Value input = neg ? matchHalf(neg.getInput(), 1) : Value();
    return input && input == matchHalf(concat.getInputs()[1], 0) && input.getType() == value.getType() ? input : Value();
  }

  std::optional<Rotation> matchWhole(AddOp add) {
    for (Value turnedTerm : {add.getLhs(), add.getRhs()}) {
      auto turned = turnedTerm.getDefiningOp<MulOp>(), straight = getOther(add, turnedTerm).getDefiningOp<MulOp>();
      if (!turned || !straight)
        continue;
      for (Value operand : turned->getOperands()) {
        Value input = matchTurned(operand);
        if (!input || input.getType() != add.getType() || getTensorType(input).getRank() != 4 || !llvm::is_contained(straight->getOperands(), input))
          continue;
        Value cos = halves.find(getOther(straight, input)), sin = halves.find(getOther(turned, operand));
        if (!cos || !sin || cos.getType() != sin.getType() || !fits(input, cos))
          continue;
        return Rotation{input, cos, sin};
      }
    }
    return std::nullopt;
  }

  /// a and b of two products a * b; the first is the half of `input` that is asked for.
  static Value matchProduct(Value value, Value input, int64_t half) {
    if (auto mul = value.getDefiningOp<MulOp>())
      for (Value operand : mul->getOperands())
        if (matchHalf(operand, half) == input)
          return getOther(mul, operand);
    return {};
  }

  static Value matchHalfOf(Value value) {
    auto mul = value.getDefiningOp<MulOp>();
    if (!mul)
      return {};
    for (Value operand : mul->getOperands())
      if (Value input = matchHalf(operand, 0))
        return input;
    return {};
  }

  std::optional<Rotation> matchHalves(ConcatOp concat) {
    if (concat.getInputs().size() != 2 || static_cast<int64_t>(concat.getAxis()) != concat.getType().getRank() - 1)
      return std::nullopt;
    auto first = concat.getInputs()[0].getDefiningOp<SubOp>();
    auto second = concat.getInputs()[1].getDefiningOp<AddOp>();
    Value input = first && second ? matchHalfOf(first.getLhs()) : Value();
    if (!input || input.getType() != concat.getType())
      return std::nullopt;
    Value cos = matchProduct(first.getLhs(), input, 0), sin = matchProduct(first.getRhs(), input, 1);
    if (!cos || !sin || cos.getType() != sin.getType() || !fits(input, cos))
      return std::nullopt;
    for (Value term : {second.getLhs(), second.getRhs()})
      if (matchProduct(term, input, 1) == cos && matchProduct(getOther(second, term), input, 0) == sin)
        return Rotation{input, cos, sin};
    return std::nullopt;
  }

  Halves halves;
  GradientReach gradients;
};

struct RaiseRotaryPass : zopt::impl::RaiseRotaryBase<RaiseRotaryPass> {
  void runOnOperation() override {
    Raiser raiser;
    for (Block &block : getOperation().getBody()) {
      for (Operation &op : block) {
        std::optional<Rotation> rotation = raiser.match(&op);
        if (!rotation)
          continue;
        OpBuilder builder(&op);
        op.getResult(0).replaceAllUsesWith(RotaryOp::create(builder, op.getLoc(), rotation->input, rotation->cos, rotation->sin));
      }
    }
    // Also halves that were made for a match that failed.
    eraseDeadOps(getOperation());
  }
};

} // namespace

//===- RaiseRotary.cpp - raise rotary position embeddings ----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Su et al., "RoFormer": pairs (x1, x2) of the last axis turn by an angle. The pairs are either its halves (Llama, GPT-NeoX) or its even and odd elements (GPT-J). Exporters give every element its
// angle, x cos + join(-x2, x1) sin; train.rotary takes each angle once.
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

/// Which elements of the last axis make pairs: i and i + D/2, or 2i and 2i + 1.
enum class Pairs { Halves, Neighbours };

/// The tensor whose first (`part` 0) or second (`part` 1) elements of every pair `value` takes; null for others.
Value matchPart(Value value, int64_t part, Pairs pairs) {
  auto slice = value.getDefiningOp<SliceOp>();
  if (!slice)
    return {};
  ArrayRef<int64_t> from = getTensorType(slice.getInput()).getShape(), to = slice.getType().getShape();
  for (auto [axis, start] : llvm::enumerate(slice.getStarts())) {
    bool last = axis + 1 == from.size(), steps = last && pairs == Pairs::Neighbours;
    int64_t expected = !last ? 0 : steps ? part : part * to.back();
    if (start != expected || (slice.getStrides()[axis] != (steps ? 2 : 1) && to[axis] != 1) || from[axis] != (last ? 2 * to[axis] : to[axis]))
      return {};
  }
  return slice.getInput();
}

RankedTensorType halfOf(RankedTensorType type) {
  SmallVector<int64_t> shape(type.getShape());
  shape.back() /= 2;
  return type.clone(shape);
}

/// [..., D/2, size] where the type is [..., D].
SmallVector<int64_t> pairShape(RankedTensorType type, int64_t size) {
  SmallVector<int64_t> shape(type.getShape());
  shape.back() /= 2;
  shape.push_back(size);
  return shape;
}

/// The first and second elements of the pairs that are joined in the last axis of `value`, [..., D/2] each. Neighbours are stacked: joined in an axis of their own behind the last, which a reshape
/// takes away.
std::optional<std::pair<Value, Value>> matchJoin(Value value, Pairs pairs) {
  RankedTensorType type = getTensorType(value);
  if (type.getRank() == 0 || type.getShape().back() % 2 != 0)
    return std::nullopt;
  if (pairs == Pairs::Neighbours) {
    auto reshape = value.getDefiningOp<ReshapeOp>();
    if (!reshape || getTensorType(reshape.getInput()).getShape() != ArrayRef(pairShape(type, 2)))
      return std::nullopt;
    value = reshape.getInput();
  }
  auto concat = value.getDefiningOp<ConcatOp>();
  if (!concat || concat.getInputs().size() != 2 || static_cast<int64_t>(concat.getAxis()) != concat.getType().getRank() - 1)
    return std::nullopt;
  std::pair<Value, Value> parts(concat.getInputs()[0], concat.getInputs()[1]);
  for (Value *part : {&parts.first, &parts.second}) {
    if (pairs == Pairs::Neighbours) {
      auto reshape = part->getDefiningOp<ReshapeOp>();
      if (!reshape)
        return std::nullopt;
      *part = reshape.getInput();
    }
    if (part->getType() != halfOf(type))
      return std::nullopt;
  }
  return parts;
}

/// Finds the half of tensors whose pairs are of equal elements: t = join(half, half).
class Halves {
public:
  explicit Halves(Pairs pairs) : pairs(pairs) {}

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
  Value compute(Value value) {
    RankedTensorType type = getTensorType(value);
    Operation *op = value.getDefiningOp();
    if (!op || type.getRank() == 0 || type.getShape().back() % 2 != 0)
      return {};
    OpBuilder builder(op->getContext());
    builder.setInsertionPointAfter(op);
    if (auto parts = matchJoin(value, pairs); parts && isSameValue(parts->first, parts->second))
      return parts->first;
    if (Value half = pairs == Pairs::Neighbours ? matchRepeated(builder, value) : Value())
      return half;
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

  /// Each element twice in a row: broadcast along an axis of its own behind the last.
  static Value matchRepeated(OpBuilder &builder, Value value) {
    RankedTensorType type = getTensorType(value);
    auto reshape = value.getDefiningOp<ReshapeOp>();
    auto broadcast = reshape ? reshape.getInput().getDefiningOp<BroadcastOp>() : BroadcastOp();
    if (!broadcast || broadcast.getType().getShape() != ArrayRef(pairShape(type, 2)) || getTensorType(broadcast.getInput()).getRank() == 0 || getTensorType(broadcast.getInput()).getShape().back() != 1)
      return {};
    Value once = broadcast.getInput();
    RankedTensorType onceType = type.clone(pairShape(type, 1));
    if (once.getType() != onceType)
      once = BroadcastOp::create(builder, value.getLoc(), onceType, once);
    return ReshapeOp::create(builder, value.getLoc(), halfOf(type), once);
  }

  Value halveConstant(OpBuilder &builder, ConstantOp constant) {
    auto elements = dyn_cast<DenseElementsAttr>(constant.getValue());
    if (!elements)
      return {};
    RankedTensorType type = halfOf(getTensorType(constant));
    if (elements.isSplat())
      return ConstantOp::create(builder, constant.getLoc(), type, elements.resizeSplat(type));
    int64_t size = type.getShape().back(), distance = pairs == Pairs::Halves ? size : 1, step = pairs == Pairs::Halves ? 1 : 2;
    auto values = llvm::to_vector(elements.getValues<Attribute>());
    SmallVector<Attribute> half;
    for (size_t row = 0; row < values.size(); row += 2 * size)
      for (int64_t i = 0; i < size; ++i) {
        half.push_back(values[row + i * step]);
        if (half.back() != values[row + i * step + distance])
          return {};
      }
    return ConstantOp::create(builder, constant.getLoc(), type, DenseElementsAttr::get(type, half));
  }

  Pairs pairs;
  DenseMap<Value, Value> known;
};

/// What a rotation is made of; cos and sin of half size.
struct Rotation {
  Value input, cos, sin;
  Pairs pairs;
};

/// Whether angles are what train.rotary takes: [B, 1, T, D/2], or what broadcasts to it, for an input [B, H, T, D].
bool fitsHeadsFirst(Value input, Value angles) {
  ArrayRef<int64_t> x = getTensorType(input).getShape(), c = getTensorType(angles).getShape();
  SmallVector<int64_t> expected = {x[0], 1, x[2], x[3] / 2};
  FailureOr<SmallVector<int64_t>> shape = broadcastShapes(c, expected);
  return succeeded(shape) && *shape == expected;
}

/// Whether they are [B, T, 1, D/2], or what broadcasts to it, for an input [B, T, H, D], whose heads are not exchanged with the positions yet.
bool fitsHeadsLast(Value input, Value angles) {
  ArrayRef<int64_t> x = getTensorType(input).getShape(), c = getTensorType(angles).getShape();
  SmallVector<int64_t> expected = {x[0], x[1], 1, x[3] / 2};
  FailureOr<SmallVector<int64_t>> shape = broadcastShapes(c, expected);
  return succeeded(shape) && *shape == expected;
}

Value createRotary(OpBuilder &builder, Location loc, const Rotation &rotation) {
  Value input = rotation.input, cos = rotation.cos, sin = rotation.sin;
  bool neighbours = rotation.pairs == Pairs::Neighbours;
  if (fitsHeadsFirst(input, cos))
    return RotaryOp::create(builder, loc, input, cos, sin, neighbours, /*inverse=*/false);
  // Every position of [B, T, H, D] as a sample of one position: no element moves.
  RankedTensorType type = getTensorType(input);
  ArrayRef<int64_t> x = type.getShape();
  auto rows = [&](Value value, int64_t heads, int64_t width) -> Value {
    RankedTensorType whole = type.clone({x[0], x[1], heads, width});
    if (value.getType() != whole)
      value = BroadcastOp::create(builder, loc, whole, value);
    return ReshapeOp::create(builder, loc, type.clone({x[0] * x[1], heads, 1, width}), value);
  };
  Value turned = RotaryOp::create(builder, loc, rows(input, x[2], x[3]), rows(cos, 1, x[3] / 2), rows(sin, 1, x[3] / 2), neighbours, /*inverse=*/false);
  return ReshapeOp::create(builder, loc, type, turned);
}

class Raiser {
public:
  std::optional<Rotation> match(Operation *op) {
    std::optional<Rotation> rotation;
    for (Pairs pairs : {Pairs::Halves, Pairs::Neighbours}) {
      if (auto add = dyn_cast<AddOp>(op))
        rotation = matchWhole(add, pairs);
      else if (isa<ConcatOp, ReshapeOp>(op))
        rotation = matchParts(op->getResult(0), pairs);
      if (rotation)
        break;
    }
    if (!rotation || gradients.reaches(rotation->cos) || gradients.reaches(rotation->sin))
      return std::nullopt;
    return rotation;
  }

private:
  static bool fits(Value input, Value angles) {
    RankedTensorType x = getTensorType(input), c = getTensorType(angles);
    return x.getRank() == 4 && c.getRank() > 0 && c.getRank() <= 4 && c.getShape().back() == x.getShape().back() / 2 && x.getElementType() == c.getElementType() &&
           (fitsHeadsFirst(input, angles) || fitsHeadsLast(input, angles));
  }

  /// x where the value is join(-x2, x1).
  static Value matchTurned(Value value, Pairs pairs) {
    auto parts = matchJoin(value, pairs);
    auto neg = parts ? parts->first.getDefiningOp<NegOp>() : NegOp();
    Value input = neg ? matchPart(neg.getInput(), 1, pairs) : Value();
    return input && input == matchPart(parts->second, 0, pairs) && input.getType() == value.getType() ? input : Value();
  }

  std::optional<Rotation> matchWhole(AddOp add, Pairs pairs) {
    Halves &halves = pairs == Pairs::Halves ? angleHalves : angleNeighbours;
    for (Value turnedTerm : {add.getLhs(), add.getRhs()}) {
      auto turned = turnedTerm.getDefiningOp<MulOp>(), straight = getOther(add, turnedTerm).getDefiningOp<MulOp>();
      if (!turned || !straight)
        continue;
      for (Value operand : turned->getOperands()) {
        Value input = matchTurned(operand, pairs);
        if (!input || input.getType() != add.getType() || getTensorType(input).getRank() != 4 || !llvm::is_contained(straight->getOperands(), input))
          continue;
        Value cos = halves.find(getOther(straight, input)), sin = halves.find(getOther(turned, operand));
        if (!cos || !sin || cos.getType() != sin.getType() || !fits(input, cos))
          continue;
        return Rotation{input, cos, sin, pairs};
      }
    }
    return std::nullopt;
  }

  /// b of a product a * b whose a is the part of `input` that is asked for.
  static Value matchProduct(Value value, Value input, int64_t part, Pairs pairs) {
    if (auto mul = value.getDefiningOp<MulOp>())
      for (Value operand : mul->getOperands())
        if (matchPart(operand, part, pairs) == input)
          return getOther(mul, operand);
    return {};
  }

  /// The input of a product with its first part.
  static Value matchInput(Value value, Pairs pairs) {
    auto mul = value.getDefiningOp<MulOp>();
    if (!mul)
      return {};
    for (Value operand : mul->getOperands())
      if (Value input = matchPart(operand, 0, pairs))
        return input;
    return {};
  }

  /// join(x1 cos - x2 sin, x2 cos + x1 sin).
  std::optional<Rotation> matchParts(Value value, Pairs pairs) {
    auto parts = matchJoin(value, pairs);
    auto first = parts ? parts->first.getDefiningOp<SubOp>() : SubOp();
    auto second = parts ? parts->second.getDefiningOp<AddOp>() : AddOp();
    Value input = first && second ? matchInput(first.getLhs(), pairs) : Value();
    if (!input || input.getType() != value.getType())
      return std::nullopt;
    Value cos = matchProduct(first.getLhs(), input, 0, pairs), sin = matchProduct(first.getRhs(), input, 1, pairs);
    if (!cos || !sin || cos.getType() != sin.getType() || !fits(input, cos))
      return std::nullopt;
    for (Value term : {second.getLhs(), second.getRhs()})
      if (matchProduct(term, input, 1, pairs) == cos && matchProduct(getOther(second, term), input, 0, pairs) == sin)
        return Rotation{input, cos, sin, pairs};
    return std::nullopt;
  }

  Halves angleHalves{Pairs::Halves}, angleNeighbours{Pairs::Neighbours};
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
        op.getResult(0).replaceAllUsesWith(createRotary(builder, op.getLoc(), *rotation));
      }
    }
    // Also halves that were made for a match that failed.
    eraseDeadOps(getOperation());
  }
};

} // namespace

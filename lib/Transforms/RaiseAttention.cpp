//===- RaiseAttention.cpp - raise scaled dot-product attention -----------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The root is the product of probabilities and values. From there the match goes down to the product of queries and keys and collects what hides scores on the way.
//
//===----------------------------------------------------------------------===//

#include "MaskAnalysis.h"
#include "RaisingPatterns.h"
#include "zopt/Transforms/Passes.h"

namespace zopt {
#define GEN_PASS_DEF_RAISEATTENTION
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

namespace {

/// A number this low hides a score for good: no score comes near it, and its exponential is 0 beside any other.
constexpr double lowest = -1e30;

/// Something that hides scores.
struct Mask {
  Value value;           ///< added to the scores; null: scores are replaced by `filling` where `condition` is `hides`
  Value condition;       ///< i1
  bool hides = false;
  double filling = 0.0;
};

/// The operands of an attention in spelled-out form.
struct Expansion {
  MatmulOp product; ///< scores before masks
  SmallVector<Mask, 2> masks;
};

/// What is left of masks: at most one operand.
struct Visibility {
  bool causal = false;
  SmallVector<Mask, 2> masks;
};

class Raiser {
public:
  /// Whether an attention took the place of this product's result.
  bool raise(MatmulOp product);
  /// Whether an attention got simpler.
  bool simplify(AttentionOp attention);

private:
  bool matchScores(Value scores, Expansion &expansion, unsigned depth);
  std::optional<Band> findVisible(const Mask &mask, int64_t rows, int64_t columns);
  Visibility classify(ArrayRef<Mask> masks, int64_t rows, int64_t columns);
  Value buildMask(OpBuilder &builder, Location loc, ArrayRef<Mask> masks, Type elementType);

  MaskAnalysis analysis;
  GradientReach gradients;
};

/// The probabilities' scores; `probabilities` has no other use. Looks through the zeroing of NaN.
SoftmaxOp matchProbabilities(Value probabilities) {
  if (auto select = probabilities.getDefiningOp<SelectOp>()) {
    auto isNaN = select.getCondition().getDefiningOp<IsNaNOp>();
    Value guarded = select.getOnFalse();
    if (!isNaN || isNaN.getInput() != guarded || !isSplat(select.getOnTrue(), 0.0) || guarded.getType() != select.getType() ||
        !select->hasOneUse() || !isNaN->hasOneUse())
      return {};
    for (Operation *user : guarded.getUsers())
      if (user != select && user != isNaN)
        return {};
    return guarded.getDefiningOp<SoftmaxOp>();
  }
  return probabilities.hasOneUse() ? probabilities.getDefiningOp<SoftmaxOp>() : SoftmaxOp();
}

bool Raiser::matchScores(Value scores, Expansion &expansion, unsigned depth) {
  Operation *op = scores.getDefiningOp();
  if (!op || !scores.hasOneUse() || depth == 0)
    return false;
  if (auto product = dyn_cast<MatmulOp>(op)) {
    expansion.product = product;
    return !product.getBias();
  }
  auto descend = [&](Value operand, Mask mask) {
    if (operand.getType() != scores.getType() || !matchScores(operand, expansion, depth - 1))
      return false;
    expansion.masks.push_back(mask);
    return true;
  };
  if (isa<AddOp>(op)) {
    for (Value operand : op->getOperands())
      if (descend(operand, {getOther(op, operand), {}, false, 0.0}))
        return true;
  } else if (auto select = dyn_cast<SelectOp>(op)) {
    for (bool hides : {false, true}) {
      std::optional<double> filling = getSplat(hides ? select.getOnTrue() : select.getOnFalse());
      if (filling && *filling <= lowest && descend(hides ? select.getOnFalse() : select.getOnTrue(), {{}, select.getCondition(), hides, *filling}))
        return true;
    }
  }
  return false;
}

/// Where a mask shows scores, as a band of diagonals.
std::optional<Band> Raiser::findVisible(const Mask &mask, int64_t rows, int64_t columns) {
  Value value = mask.value ? mask.value : mask.condition;
  std::optional<TwoValued> known = analysis.analyze(value);
  if (!known)
    return std::nullopt;
  ArrayRef<int64_t> shape = getTensorType(value).getShape();
  if (!known->isSplat() && (shape[shape.size() - 2] != rows || shape.back() != columns))
    return std::nullopt;
  auto shows = [&](double number) -> std::optional<bool> {
    if (!mask.value)
      return (number != 0.0) != mask.hides;
    if (number == 0.0)
      return true;
    return number <= lowest ? std::optional(false) : std::nullopt;
  };
  std::optional<bool> inside = shows(known->inside), outside = shows(known->outside);
  if (!inside || !outside)
    return std::nullopt;
  const Band &band = known->band;
  if (*inside && *outside)
    return Band();
  if (*inside)
    return band;
  if (!*outside)
    return Band{0, -1};
  // The complement of a band that reaches an edge is a band.
  if (band.low <= -(rows - 1))
    return Band{band.high + 1, Band::infinite};
  if (band.high >= columns - 1)
    return Band{-Band::infinite, band.low - 1};
  return std::nullopt;
}

/// -inf in place of a score or added to it.
bool hidesForGood(const Mask &mask) { return !mask.value && mask.filling == -std::numeric_limits<double>::infinity(); }

/// Splits a conjunction, for a part of it may be causal. Only where hidden is hidden for good: else rows that see nothing depend on how they were hidden.
void splitConjunctions(Mask mask, SmallVectorImpl<Mask> &parts) {
  auto both = hidesForGood(mask) && !mask.hides ? mask.condition.getDefiningOp<AndOp>() : AndOp();
  if (!both || both.getLhs().getType() != both.getType() || both.getRhs().getType() != both.getType()) {
    parts.push_back(mask);
    return;
  }
  for (Value part : {both.getLhs(), both.getRhs()})
    splitConjunctions({{}, part, false, mask.filling}, parts);
}

Visibility Raiser::classify(ArrayRef<Mask> masks, int64_t rows, int64_t columns) {
  SmallVector<Mask, 2> kept, banded, rest;
  Band band;
  for (const Mask &mask : masks) {
    std::optional<Band> whole = findVisible(mask, rows, columns);
    if (whole && whole->covers(rows, columns))
      continue;
    kept.push_back(mask);
    SmallVector<Mask, 4> parts;
    splitConjunctions(mask, parts);
    for (const Mask &part : whole ? ArrayRef(mask) : ArrayRef(parts)) {
      std::optional<Band> visible = findVisible(part, rows, columns);
      if (!visible) {
        rest.push_back(part);
      } else if (!visible->covers(rows, columns)) {
        band = band.intersect(*visible);
        banded.push_back(part);
      }
    }
  }
  // A finite number hides for good only in rows that see something else; beside further masks that is not known.
  bool areIndependent = rest.empty() || (llvm::all_of(rest, hidesForGood) && llvm::all_of(banded, hidesForGood));
  if (band.isCausal(rows, columns) && areIndependent)
    return {true, rest};
  return {false, kept};
}

/// A mask that is selected by a condition says so.
Mask normalize(Mask mask) {
  auto select = mask.value ? mask.value.getDefiningOp<SelectOp>() : SelectOp();
  if (!select || getTensorType(select.getCondition()).getShape() != select.getType().getShape())
    return mask;
  std::optional<double> onTrue = getSplat(select.getOnTrue()), onFalse = getSplat(select.getOnFalse());
  if (!onTrue || !onFalse || (*onTrue != 0.0 && *onFalse != 0.0))
    return mask;
  bool hides = *onTrue != 0.0;
  double filling = hides ? *onTrue : *onFalse;
  // A finite number is added and not put in place of a score: that stays as it is.
  return filling == -std::numeric_limits<double>::infinity() ? Mask{{}, select.getCondition(), hides, filling} : mask;
}

/// One operand for all masks: i1 where all of them hide with -inf, else floats to add.
Value Raiser::buildMask(OpBuilder &builder, Location loc, ArrayRef<Mask> masks, Type elementType) {
  bool allForGood = llvm::all_of(masks, hidesForGood);
  Value result;
  for (const Mask &mask : masks) {
    Value part = mask.value;
    if (!part && allForGood) {
      part = mask.hides ? Value(NotOp::create(builder, loc, mask.condition)) : mask.condition;
    } else if (!part) {
      Value zero = scalar(builder, loc, elementType, 0.0), filling = scalar(builder, loc, elementType, mask.filling);
      part = mask.hides ? select(builder, loc, mask.condition, filling, zero) : select(builder, loc, mask.condition, zero, filling);
    }
    if (!result)
      result = part;
    else if (allForGood)
      result = AndOp::create(builder, loc, RankedTensorType::get(*broadcastShapes(getTensorType(result).getShape(), getTensorType(part).getShape()), builder.getI1Type()),
                             result, part);
    else
      result = add(builder, loc, result, part);
  }
  return result;
}

/// x [B, G, S, D] where the value is [B, G * R, S, D] with every head repeated R times in place.
Value matchRepeatedHeads(OpBuilder &builder, Value value) {
  auto joined = value.getDefiningOp<ReshapeOp>();
  auto repeated = joined ? joined.getInput().getDefiningOp<BroadcastOp>() : BroadcastOp();
  if (!repeated)
    return {};
  ArrayRef<int64_t> result = joined.getType().getShape(), wide = repeated.getType().getShape(), narrow = getTensorType(repeated.getInput()).getShape();
  if (result.size() != 4 || wide.size() != 5 || narrow.size() != 5 || narrow[2] != 1)
    return {};
  for (unsigned axis : {0u, 1u, 3u, 4u})
    if (narrow[axis] != wide[axis])
      return {};
  if (result[0] != wide[0] || result[1] != wide[1] * wide[2] || result[2] != wide[3] || result[3] != wide[4])
    return {};
  SmallVector<int64_t> heads = {narrow[0], narrow[1], narrow[3], narrow[4]};
  if (auto split = repeated.getInput().getDefiningOp<ReshapeOp>(); split && getTensorType(split.getInput()).getShape() == ArrayRef<int64_t>(heads))
    return split.getInput();
  return reshape(builder, joined.getLoc(), repeated.getInput(), heads);
}

bool Raiser::simplify(AttentionOp attention) {
  OpBuilder builder(attention);
  bool changed = false;
  auto group = [](Value value) { return getTensorType(value).getDimSize(1); };
  Value key = matchRepeatedHeads(builder, attention.getKey()), value = matchRepeatedHeads(builder, attention.getValue());
  if (key && value && group(key) == group(value)) {
    attention.getKeyMutable().assign(key);
    attention.getValueMutable().assign(value);
    changed = true;
  }
  if (!attention.getMask())
    return changed;

  // The op's own i1 masks hide for good.
  bool isCondition = getTensorType(attention.getMask()).getElementType().isInteger(1);
  double infinity = std::numeric_limits<double>::infinity();
  Mask mask = isCondition ? Mask{{}, attention.getMask(), false, -infinity} : normalize({attention.getMask(), {}, false, 0.0});
  int64_t rows = getTensorType(attention.getQuery()).getDimSize(2), columns = getTensorType(attention.getKey()).getDimSize(2);
  Visibility visibility = classify(mask, rows, columns);
  bool turnsCausal = visibility.causal && !attention.getCausal();
  bool isSame = visibility.masks.size() == 1 && visibility.masks[0].value == mask.value && visibility.masks[0].condition == mask.condition;
  if (isSame && !turnsCausal && (isCondition || mask.value))
    return changed;
  attention.getMaskMutable().clear();
  if (!visibility.masks.empty())
    attention.getMaskMutable().assign(buildMask(builder, attention.getLoc(), visibility.masks, getTensorType(attention.getQuery()).getElementType()));
  attention.setCausal(attention.getCausal() || visibility.causal);
  return true;
}

bool Raiser::raise(MatmulOp matmul) {
  if (matmul.getBias() || matmul.getTransposeLhs() || matmul.getScale().convertToDouble() != 1.0 || matmul.getType().getRank() != 4)
    return false;
  SoftmaxOp softmax = matchProbabilities(matmul.getLhs());
  Expansion expansion;
  if (!softmax || !matchScores(softmax.getInput(), expansion, /*depth=*/6))
    return false;

  // q [B, H, T, D], k and v [B, H, S, D] in whatever order of the last two axes.
  MatmulOp product = expansion.product;
  RankedTensorType q = getTensorType(product.getLhs()), k = getTensorType(product.getRhs()), v = getTensorType(matmul.getRhs());
  if (q.getRank() != 4 || k.getRank() != 4 || v.getRank() != 4)
    return false;
  auto heads = [](RankedTensorType type) { return type.getShape().take_front(2); };
  Type elementType = q.getElementType();
  if (heads(q) != heads(k) || heads(q) != heads(v) || v.getElementType() != elementType || product.getType().getElementType() != elementType ||
      matmul.getType().getElementType() != elementType)
    return false;
  if (llvm::any_of(expansion.masks, [&](const Mask &mask) { return mask.value && gradients.reaches(mask.value); }))
    return false;

  for (Mask &mask : expansion.masks)
    mask = normalize(mask);
  ArrayRef<int64_t> scores = product.getType().getShape();
  Visibility visibility = classify(expansion.masks, scores[2], scores[3]);

  OpBuilder builder(matmul);
  Location loc = matmul.getLoc();
  auto inOrder = [&](Value value, bool exchanged) { return exchanged ? exchangeLastAxes(builder, loc, value) : value; };
  Value query = inOrder(product.getLhs(), product.getTransposeLhs()), key = inOrder(product.getRhs(), !product.getTransposeRhs());
  Value value = inOrder(matmul.getRhs(), matmul.getTransposeRhs());
  Value mask = buildMask(builder, loc, visibility.masks, elementType);
  auto statistics = RankedTensorType::get(scores.drop_back(), getComputeType(elementType));
  auto attention = AttentionOp::create(builder, loc, matmul.getType(), statistics, query, key, value, mask, product.getScale(), visibility.causal);
  matmul.getResult().replaceAllUsesWith(attention.getResult());
  simplify(attention);
  return true;
}

struct RaiseAttentionPass : zopt::impl::RaiseAttentionBase<RaiseAttentionPass> {
  void runOnOperation() override {
    Raiser raiser;
    bool changed = false;
    for (Block &block : getOperation().getBody()) {
      for (Operation &op : block) {
        if (auto matmul = dyn_cast<MatmulOp>(op))
          changed |= raiser.raise(matmul);
        else if (auto attention = dyn_cast<AttentionOp>(op))
          changed |= raiser.simplify(attention);
      }
    }
    if (changed)
      eraseDeadOps(getOperation());
    else
      markAllAnalysesPreserved();
  }
};

} // namespace

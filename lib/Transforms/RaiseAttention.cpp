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
  bool isJoined = false; ///< of scores [B * H, T, S] that are split into heads behind it
};

/// The operands of an attention in spelled-out form.
struct Expansion {
  MatmulOp product; ///< scores before masks
  SmallVector<Mask, 2> masks;
  SmallVector<int64_t, 2> heads; ///< [B, H] where the product is [B * H, T, S] and masks are added to [B, H, T, S]
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

/// [B, H] where [B, H, T, S] becomes [B * H, T, S].
std::optional<SmallVector<int64_t, 2>> matchJoinedHeads(RankedTensorType split, RankedTensorType joined) {
  ArrayRef<int64_t> s = split.getShape(), j = joined.getShape();
  if (s.size() != 4 || j.size() != 3 || s[0] * s[1] != j[0] || s.drop_front(2) != j.drop_front(1))
    return std::nullopt;
  return SmallVector<int64_t, 2>{s[0], s[1]};
}

/// The probabilities' scores; `probabilities` has no other use. Looks through the zeroing of NaN, and through heads that are joined with samples.
SoftmaxOp matchProbabilities(Value probabilities) {
  if (auto joined = probabilities.getDefiningOp<ReshapeOp>(); joined && joined->hasOneUse() && matchJoinedHeads(getTensorType(joined.getInput()), joined.getType()))
    return matchProbabilities(joined.getInput());
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
  if (auto split = dyn_cast<ReshapeOp>(op)) { // BLOOM: products of batches of matrices
    auto heads = matchJoinedHeads(split.getType(), getTensorType(split.getInput()));
    if (!heads || !expansion.heads.empty() || !matchScores(split.getInput(), expansion, depth - 1))
      return false;
    expansion.heads = *heads;
    for (Mask &mask : expansion.masks)
      mask.isJoined = true;
    return true;
  }
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
  if (!both) {
    parts.push_back(mask);
    return;
  }
  for (Value part : {both.getLhs(), both.getRhs()})
    splitConjunctions({{}, part, false, mask.filling, mask.isJoined}, parts);
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
  if (!select)
    return mask;
  std::optional<double> onTrue = getSplat(select.getOnTrue()), onFalse = getSplat(select.getOnFalse());
  if (!onTrue || !onFalse || (*onTrue != 0.0 && *onFalse != 0.0))
    return mask;
  bool hides = *onTrue != 0.0;
  double filling = hides ? *onTrue : *onFalse;
  // A finite number is added and not put in place of a score: that stays as it is.
  return filling == -std::numeric_limits<double>::infinity() ? Mask{{}, select.getCondition(), hides, filling, mask.isJoined} : mask;
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

/// x where the value is x with every element of `axis` repeated R times in place: x with an axis of 1 behind it, broadcast to R, and both joined.
Value matchRepeated(OpBuilder &builder, Value value, int64_t axis) {
  auto joined = value.getDefiningOp<ReshapeOp>();
  auto repeated = joined ? joined.getInput().getDefiningOp<BroadcastOp>() : BroadcastOp();
  if (!repeated || getTensorType(repeated.getInput()).getRank() != repeated.getType().getRank())
    return {};
  SmallVector<int64_t> narrow(getTensorType(repeated.getInput()).getShape()), wide(repeated.getType().getShape());
  if (static_cast<int64_t>(wide.size()) != joined.getType().getRank() + 1 || narrow[axis + 1] != 1)
    return {};
  int64_t repetitions = wide[axis + 1];
  narrow.erase(narrow.begin() + axis + 1);
  wide.erase(wide.begin() + axis + 1);
  if (narrow != wide)
    return {};
  wide[axis] *= repetitions;
  if (joined.getType().getShape() != ArrayRef<int64_t>(wide))
    return {};
  if (auto split = repeated.getInput().getDefiningOp<ReshapeOp>(); split && getTensorType(split.getInput()).getShape() == ArrayRef<int64_t>(narrow))
    return split.getInput();
  return reshape(builder, joined.getLoc(), repeated.getInput(), narrow);
}

/// x [B, G, S, D] where the value is [B, G * R, S, D] with every head repeated in place, before or after heads and positions were exchanged.
Value matchRepeatedHeads(OpBuilder &builder, Value value) {
  auto transpose = value.getDefiningOp<TransposeOp>();
  if (!transpose)
    return matchRepeated(builder, value, 1);
  if (transpose.getPermutation() != ArrayRef<int64_t>({0, 2, 1, 3}))
    return {};
  Value heads = matchRepeated(builder, transpose.getInput(), 2);
  return heads ? train::transpose(builder, transpose.getLoc(), heads, {0, 2, 1, 3}) : Value();
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
  if (matmul.getBias() || matmul.getTransposeLhs() || matmul.getScale().convertToDouble() != 1.0)
    return false;
  SoftmaxOp softmax = matchProbabilities(matmul.getLhs());
  Expansion expansion;
  if (!softmax || !matchScores(softmax.getInput(), expansion, /*depth=*/6))
    return false;

  // q [B, H, T, D], k and v [B, H, S, D] in whatever order of the last two axes, or with one leading axis for both.
  MatmulOp product = expansion.product;
  RankedTensorType q = getTensorType(product.getLhs()), k = getTensorType(product.getRhs()), v = getTensorType(matmul.getRhs());
  int64_t rank = q.getRank();
  if ((rank != 3 && rank != 4) || k.getRank() != rank || v.getRank() != rank)
    return false;
  auto heads = [](RankedTensorType type) { return type.getShape().drop_back(2); };
  Type elementType = q.getElementType();
  // Falcon: all query heads read one key head.
  const bool isMultiQuery = rank == 4 && q.getDimSize(0) == k.getDimSize(0) && k.getDimSize(1) == 1;
  if ((heads(q) != heads(k) && !isMultiQuery) || heads(k) != heads(v) || v.getElementType() != elementType || product.getType().getElementType() != elementType ||
      matmul.getType().getElementType() != elementType)
    return false;
  // Heads are split between the products or nowhere.
  const bool isSplit = !expansion.heads.empty();
  std::optional<SmallVector<int64_t, 2>> joined = rank == 3 ? matchJoinedHeads(softmax.getType(), product.getType()) : std::nullopt;
  if (isSplit ? rank != 3 || !joined || *joined != expansion.heads : softmax.getType() != product.getType())
    return false;
  if (llvm::any_of(expansion.masks, [&](const Mask &mask) { return mask.value && gradients.reaches(mask.value); }))
    return false;

  for (Mask &mask : expansion.masks)
    mask = normalize(mask);
  Visibility visibility = classify(expansion.masks, q.getDimSize(rank - (product.getTransposeLhs() ? 1 : 2)), k.getDimSize(rank - (product.getTransposeRhs() ? 2 : 1)));

  OpBuilder builder(matmul);
  Location loc = matmul.getLoc();
  auto withHeads = [&](Value value) {
    SmallVector<int64_t> shape(getTensorType(value).getShape());
    if (shape.size() == 3 && isSplit && shape[0] != 1) {
      shape[0] = expansion.heads[0];
      shape.insert(shape.begin() + 1, expansion.heads[1]);
    } else if (shape.size() == 3) {
      shape.insert(shape.begin() + 1, 1);
    }
    return reshape(builder, loc, value, shape);
  };
  for (Mask &mask : visibility.masks)
    if (mask.isJoined)
      for (Value *part : {&mask.value, &mask.condition})
        if (*part)
          *part = withHeads(*part);
  auto prepare = [&](Value value, bool exchanged) { return withHeads(exchanged ? exchangeLastAxes(builder, loc, value) : value); };
  Value query = prepare(product.getLhs(), product.getTransposeLhs()), key = prepare(product.getRhs(), !product.getTransposeRhs());
  Value value = prepare(matmul.getRhs(), matmul.getTransposeRhs());
  Value mask = buildMask(builder, loc, visibility.masks, elementType);
  if (mask && rank == 3 && !isSplit)
    mask = withHeads(mask);
  SmallVector<int64_t> shape(getTensorType(query).getShape());
  auto statistics = RankedTensorType::get(ArrayRef(shape).drop_back(), getComputeType(elementType));
  shape.back() = getTensorType(value).getShape().back();
  auto attention = AttentionOp::create(builder, loc, matmul.getType().clone(shape), statistics, query, key, value, mask, product.getScale(), visibility.causal);
  matmul.getResult().replaceAllUsesWith(reshape(builder, loc, attention.getResult(), matmul.getType().getShape()));
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

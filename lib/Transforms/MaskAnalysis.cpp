//===- MaskAnalysis.cpp - what an attention mask shows -------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "MaskAnalysis.h"
#include "RaisingPatterns.h"
#include "llvm/Support/MathExtras.h"
#include <cmath>

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

namespace {

/// start + sum of steps[axis] * index[axis]; steps of axes of size 1 are 0.
struct Affine {
  int64_t start = 0;
  SmallVector<int64_t, 4> steps;
};

/// Of the axes of `from` that are not 1, in order, the steps as axes of `to`; nothing where the reshape does more than add or remove axes of 1.
std::optional<SmallVector<int64_t, 4>> reshapeSteps(ArrayRef<int64_t> steps, ArrayRef<int64_t> from, ArrayRef<int64_t> to) {
  SmallVector<int64_t, 4> result;
  size_t next = 0;
  for (int64_t size : to) {
    while (next < from.size() && from[next] == 1)
      ++next;
    if (size == 1) {
      result.push_back(0);
      continue;
    }
    if (next == from.size() || from[next] != size)
      return std::nullopt;
    result.push_back(steps[next++]);
  }
  return result;
}

/// A literal that steps evenly along its only axis that is not 1.
std::optional<Affine> matchProgression(ConstantOp constant) {
  auto elements = dyn_cast<DenseIntElementsAttr>(constant.getValue());
  RankedTensorType type = getTensorType(constant);
  if (!elements || type.getNumElements() < 2)
    return std::nullopt;
  auto values = llvm::map_to_vector(elements.getValues<APInt>(), [](const APInt &value) { return value.getSExtValue(); });
  Affine result{values[0], SmallVector<int64_t, 4>(type.getRank(), 0)};
  int64_t step = values[1] - values[0];
  for (size_t i = 1; i < values.size(); ++i)
    if (values[i] - values[i - 1] != step)
      return std::nullopt;
  for (int64_t axis = 0; axis < type.getRank(); ++axis) {
    if (type.getDimSize(axis) == 1)
      continue;
    if (type.getDimSize(axis) != type.getNumElements())
      return std::nullopt;
    result.steps[axis] = step;
  }
  return result;
}

std::optional<Affine> matchAffine(Value value, unsigned depth = 16) {
  RankedTensorType type = getTensorType(value);
  Operation *op = value.getDefiningOp();
  if (!op || depth == 0)
    return std::nullopt;
  if (std::optional<double> splat = getSplat(value); splat && std::abs(*splat) < 1e15 && *splat == std::floor(*splat))
    return Affine{static_cast<int64_t>(*splat), SmallVector<int64_t, 4>(type.getRank(), 0)};
  if (auto constant = dyn_cast<ConstantOp>(op))
    return matchProgression(constant);
  if (auto iota = dyn_cast<IotaOp>(op)) {
    Affine result{static_cast<int64_t>(iota.getStart()), SmallVector<int64_t, 4>(type.getRank(), 0)};
    if (type.getDimSize(iota.getAxis()) != 1)
      result.steps[iota.getAxis()] = iota.getStep();
    return result;
  }
  if (!isa<ReshapeOp, BroadcastOp, TransposeOp, CastOp, SliceOp, AddOp, SubOp>(op))
    return std::nullopt;

  RankedTensorType source = getTensorType(op->getOperand(0));
  std::optional<Affine> a = matchAffine(op->getOperand(0), depth - 1);
  if (!a)
    return std::nullopt;
  if (isa<ReshapeOp>(op)) {
    std::optional<SmallVector<int64_t, 4>> steps = reshapeSteps(a->steps, source.getShape(), type.getShape());
    if (!steps)
      return std::nullopt;
    return Affine{a->start, *steps};
  }
  // What is broadcast along an axis of 1 has no step there already.
  auto align = [&](Affine &affine) { affine.steps.insert(affine.steps.begin(), type.getRank() - affine.steps.size(), 0); };
  if (isa<BroadcastOp>(op)) {
    align(*a);
    return a;
  }
  if (auto transpose = dyn_cast<TransposeOp>(op)) {
    Affine result{a->start, {}};
    for (int64_t axis : transpose.getPermutation())
      result.steps.push_back(a->steps[axis]);
    return result;
  }
  if (isa<CastOp>(op)) {
    // Indices are small; every integer type but i1 and every float type that exporters compute them in holds them.
    Type element = type.getElementType();
    bool holdsIndices = element.isInteger(32) || element.isInteger(64) || element.isF32() || element.isF64();
    return holdsIndices && !source.getElementType().isInteger(1) ? a : std::nullopt;
  }
  if (auto slice = dyn_cast<SliceOp>(op)) {
    for (auto [axis, step] : llvm::enumerate(a->steps)) {
      a->start += step * slice.getStarts()[axis];
      step = type.getDimSize(axis) == 1 ? 0 : step * slice.getStrides()[axis];
    }
    return a;
  }
  std::optional<Affine> b = matchAffine(op->getOperand(1), depth - 1);
  if (!b)
    return std::nullopt;
  align(*a), align(*b);
  int64_t sign = isa<AddOp>(op) ? 1 : -1;
  a->start += sign * b->start;
  for (auto [step, other] : llvm::zip(a->steps, b->steps))
    step += sign * other;
  return a;
}

ComparePredicate mirror(ComparePredicate predicate) {
  switch (predicate) {
  case ComparePredicate::lt: return ComparePredicate::gt;
  case ComparePredicate::le: return ComparePredicate::ge;
  case ComparePredicate::gt: return ComparePredicate::lt;
  case ComparePredicate::ge: return ComparePredicate::le;
  default: return predicate;
  }
}

bool compareNumbers(ComparePredicate predicate, double a, double b) {
  switch (predicate) {
  case ComparePredicate::eq: return a == b;
  case ComparePredicate::ne: return a != b;
  case ComparePredicate::lt: return a < b;
  case ComparePredicate::le: return a <= b;
  case ComparePredicate::gt: return a > b;
  case ComparePredicate::ge: return a >= b;
  }
  return false;
}

/// Where `start + step * (column - row)` stands in `predicate` to 0.
TwoValued solve(ComparePredicate predicate, int64_t step, int64_t start) {
  if (step < 0)
    return solve(mirror(predicate), -step, -start);
  bool divides = start % step == 0;
  int64_t floor = llvm::divideFloorSigned(-start, step), ceil = llvm::divideCeilSigned(-start, step);
  Band band;
  switch (predicate) {
  case ComparePredicate::le: band.high = floor; break;
  case ComparePredicate::lt: band.high = ceil - 1; break;
  case ComparePredicate::ge: band.low = ceil; break;
  case ComparePredicate::gt: band.low = floor + 1; break;
  case ComparePredicate::eq:
  case ComparePredicate::ne:
    band = divides ? Band{floor, floor} : Band{0, -1};
    break;
  }
  bool equal = predicate != ComparePredicate::ne;
  return {band, equal ? 1.0 : 0.0, equal ? 0.0 : 1.0};
}

std::optional<TwoValued> compareIndices(CompareOp compare) {
  std::optional<Affine> lhs = matchAffine(compare.getLhs()), rhs = matchAffine(compare.getRhs());
  ArrayRef<int64_t> shape = getTensorType(compare).getShape();
  if (!lhs || !rhs || shape.size() < 2)
    return std::nullopt;
  SmallVector<int64_t> steps(shape.size(), 0);
  for (auto [affine, sign] : {std::pair(&*lhs, 1), std::pair(&*rhs, -1)})
    for (auto [axis, step] : llvm::enumerate(affine->steps))
      steps[shape.size() - affine->steps.size() + axis] += sign * step;
  int64_t start = lhs->start - rhs->start;
  if (llvm::any_of(ArrayRef(steps).drop_back(2), [](int64_t step) { return step != 0; }))
    return std::nullopt;
  int64_t row = steps[steps.size() - 2], column = steps.back();
  // With one row (or column) its index is 0, whatever it is multiplied by.
  if (shape[shape.size() - 2] == 1)
    row = -column;
  else if (shape.back() == 1)
    column = -row;
  if (row != -column)
    return std::nullopt;
  if (column == 0) {
    double truth = compareNumbers(compare.getPredicate(), start, 0);
    return TwoValued{Band(), truth, truth};
  }
  return solve(compare.getPredicate(), column, start);
}

/// A small literal: the value of each diagonal, two of which differ at most once.
std::optional<TwoValued> matchLiteral(ConstantOp constant) {
  auto elements = dyn_cast<DenseElementsAttr>(constant.getValue());
  ArrayRef<int64_t> shape = getTensorType(constant).getShape();
  if (!elements || shape.size() < 2)
    return std::nullopt;
  SmallVector<double> values;
  if (isa<FloatType>(elements.getElementType())) {
    for (APFloat number : elements.getValues<APFloat>()) {
      bool losesInfo;
      number.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven, &losesInfo);
      values.push_back(number.convertToDouble());
    }
  } else if (elements.getElementType().isInteger(1)) {
    for (bool truth : elements.getValues<bool>())
      values.push_back(truth);
  } else {
    return std::nullopt;
  }
  int64_t rows = shape[shape.size() - 2], columns = shape.back();
  // The last row has the diagonals from 1 - rows to columns - rows, the first one the rest.
  auto at = [&](int64_t diagonal) { return diagonal < 0 ? values[-diagonal * columns] : values[diagonal]; };
  TwoValued result{Band(), at(1 - rows), at(1 - rows)};
  for (int64_t diagonal = 2 - rows; diagonal < columns; ++diagonal) {
    if (at(diagonal) == at(diagonal - 1))
      continue;
    if (!result.isSplat())
      return std::nullopt;
    result.outside = at(diagonal);
    result.band.high = diagonal - 1;
  }
  for (auto [index, value] : llvm::enumerate(values)) {
    int64_t diagonal = static_cast<int64_t>(index) % columns - static_cast<int64_t>(index) / columns % rows;
    if (value != at(diagonal))
      return std::nullopt;
  }
  return result;
}

/// Whether two shapes have the same last two axes.
bool haveSameMatrices(RankedTensorType a, RankedTensorType b) {
  return a.getRank() >= 2 && b.getRank() >= 2 && a.getShape().take_back(2) == b.getShape().take_back(2);
}

std::optional<double> apply(Operation *op, double a, double b) {
  // What fp32 makes of it: an overflow is an infinity, as in the graph.
  auto round = [&](double value) { return getTensorType(op->getResult(0)).getElementType().isF64() ? value : static_cast<double>(static_cast<float>(value)); };
  if (isa<AddOp>(op))
    return round(a + b);
  if (isa<SubOp>(op))
    return round(a - b);
  if (isa<MulOp>(op))
    return round(a * b);
  if (isa<AndOp>(op))
    return a != 0.0 && b != 0.0;
  if (isa<OrOp>(op))
    return a != 0.0 || b != 0.0;
  if (auto compare = dyn_cast<CompareOp>(op))
    return compareNumbers(compare.getPredicate(), a, b);
  return std::nullopt;
}

} // namespace

std::optional<TwoValued> MaskAnalysis::analyze(Value value) {
  if (auto found = known.find(value); found != known.end())
    return found->second;
  std::optional<TwoValued> result = compute(value);
  if (result && !(std::isnan(result->inside) || std::isnan(result->outside)))
    return known[value] = result;
  return known[value] = std::nullopt;
}

std::optional<TwoValued> MaskAnalysis::compute(Value value) {
  RankedTensorType type = getTensorType(value);
  if (std::optional<double> splat = getSplat(value))
    return TwoValued{Band(), *splat, *splat};
  Operation *op = value.getDefiningOp();
  if (!op)
    return std::nullopt;
  if (auto constant = dyn_cast<ConstantOp>(op))
    return matchLiteral(constant);
  if (auto compare = dyn_cast<CompareOp>(op))
    if (std::optional<TwoValued> result = compareIndices(compare))
      return result;

  // Everything else keeps matrices as they are.
  auto operand = [&](unsigned index) -> std::optional<TwoValued> {
    std::optional<TwoValued> result = analyze(op->getOperand(index));
    return result && (result->isSplat() || haveSameMatrices(getTensorType(op->getOperand(index)), type)) ? result : std::nullopt;
  };
  if (isa<ReshapeOp, BroadcastOp>(op))
    return operand(0);
  if (isa<CastOp>(op)) {
    // From i1 only, whose values every type has.
    return getTensorType(op->getOperand(0)).getElementType().isInteger(1) ? operand(0) : std::nullopt;
  }
  if (isa<NotOp>(op)) {
    std::optional<TwoValued> a = type.getElementType().isInteger(1) ? operand(0) : std::nullopt;
    if (a)
      a->inside = 1.0 - a->inside, a->outside = 1.0 - a->outside;
    return a;
  }
  if (auto select = dyn_cast<SelectOp>(op)) {
    std::optional<TwoValued> condition = operand(0), onTrue = operand(1), onFalse = operand(2);
    if (!condition || !onTrue || !onFalse || !onTrue->isSplat() || !onFalse->isSplat())
      return std::nullopt;
    auto choose = [&](double truth) { return truth != 0.0 ? onTrue->inside : onFalse->inside; };
    return TwoValued{condition->band, choose(condition->inside), choose(condition->outside)};
  }
  bool isLogic = isa<AndOp, OrOp>(op) && type.getElementType().isInteger(1);
  bool isArithmetic = isa<AddOp, SubOp, MulOp>(op) && isa<Float32Type, Float64Type>(type.getElementType());
  if (!isLogic && !isArithmetic && !isa<CompareOp>(op))
    return std::nullopt;
  std::optional<TwoValued> a = operand(0), b = operand(1);
  if (!a || !b)
    return std::nullopt;
  if (a->isSplat() || b->isSplat()) {
    std::optional<double> inside = apply(op, a->inside, b->inside), outside = apply(op, a->outside, b->outside);
    if (!inside || !outside)
      return std::nullopt;
    return TwoValued{a->isSplat() ? b->band : a->band, *inside, *outside};
  }
  // Both are true in their bands, so their conjunction is in both; the same for complements and disjunctions.
  double inBand = isa<AndOp>(op) ? 1.0 : 0.0;
  if (isLogic && a->inside == inBand && b->inside == inBand)
    return TwoValued{a->band.intersect(b->band), inBand, 1.0 - inBand};
  return std::nullopt;
}

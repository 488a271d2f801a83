//===- MergeProducts.cpp - narrow products of one operand as one product --------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Query, key and value read one activation y, so backward adds three products to the gradient of y. With grouped
// queries key and value are narrow: for llama-1.1b a product of depth 256 writes 64 MiB, and the next one reads and
// writes them again; and a weight's gradient of 256 rows does not fill the GPU. As one product over the joined depth
// nothing is written in between. So with the gate and the projection beside it: their weights are wide, but neighbours
// in their bucket, and need no copy.
//
//===----------------------------------------------------------------------===//

#include "TensorValues.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "zopt/Dialect/Zero/Zero.h"
#include "zopt/Transforms/Passes.h"
#include "llvm/ADT/SetVector.h"

namespace zopt {
#define GEN_PASS_DEF_MERGEPRODUCTS
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

/// What computes the elements that reshapes and transposes lead to.
static Value skipMovement(Value value) {
  while (isa_and_nonnull<ReshapeOp, TransposeOp>(value.getDefiningOp()))
    value = value.getDefiningOp()->getOperand(0);
  return value;
}

/// Moves the reshapes and transposes that lead to `value` before `place`.
static void hoist(Value value, Operation *place) {
  Operation *op = value.getDefiningOp();
  if (!isa_and_nonnull<ReshapeOp, TransposeOp>(op) || op->isBeforeInBlock(place))
    return;
  hoist(op->getOperand(0), place);
  op->moveBefore(place);
}

static Value concat(OpBuilder &builder, Location loc, ArrayRef<Value> parts, int64_t axis) {
  RankedTensorType type = getTensorType(parts[0]);
  SmallVector<int64_t> shape(type.getShape());
  shape[axis] = 0;
  for (Value part : parts)
    shape[axis] += getTensorType(part).getShape()[axis];
  return ConcatOp::create(builder, loc, RankedTensorType::get(shape, type.getElementType()), parts, axis);
}

/// Most additions of a sum that becomes one product: a weight of a net that was written out over time has thousands.
static constexpr size_t kMostSums = 64;

namespace {

/// x w of a sum, and the product that makes the gradient of w.
struct Term {
  MatmulOp product;
  MatmulOp weightGradient;
};

struct MergeProductsPass : zopt::impl::MergeProductsBase<MergeProductsPass> {
  void runOnOperation() override {
    segments.clear();
    for (auto bucket : getOperation()->getParentOfType<ModuleOp>().getOps<zero::BucketOp>())
      for (auto segment : bucket.getSegments().getAsRange<zero::SegmentAttr>())
        segments[segment.getParameter().getAttr()] = {bucket, segment};
    // From the end: a sum of sums is found at its root.
    SmallVector<AddOp> all = llvm::to_vector(getOperation().getBody().front().getOps<AddOp>());
    for (AddOp sum : llvm::reverse(all))
      if (!erased.contains(sum))
        merge(sum);
  }

private:
  /// Whether matrices lie one behind the other in a bucket, so that their rows are those of one matrix.
  bool areNeighbours(ArrayRef<Value> weights) {
    std::pair<zero::BucketOp, zero::SegmentAttr> previous;
    for (Value weight : weights) {
      auto view = weight.getDefiningOp<zero::ViewOp>();
      auto found = segments.find(view ? view.getParameterAttr().getAttr() : weight.getDefiningOp<ReadStateOp>().getStateAttr().getAttr());
      if (found == segments.end() ||
          (previous.first && (found->second.first != previous.first || previous.second.getReserved() > 0 ||
                              found->second.second.getOffset() != previous.second.getEnd())))
        return false;
      previous = found->second;
    }
    return true;
  }

  /// The products of a sum, in the order in which they are added; false where anything else is added, or
  /// too many are.
  bool collect(AddOp sum, SmallVectorImpl<Term> &terms, SmallVectorImpl<AddOp> &sums) {
    if (sums.size() == kMostSums)
      return false;
    sums.push_back(sum);
    for (Value value : {sum.getLhs(), sum.getRhs()}) {
      if (value.getType() != sum.getType() ||
          (value.getDefiningOp() && (!value.hasOneUse() || value.getDefiningOp()->getBlock() != sum->getBlock())))
        return false;
      if (auto product = value.getDefiningOp<MatmulOp>())
        terms.push_back({product, {}});
      else if (auto inner = value.getDefiningOp<AddOp>(); !inner || !collect(inner, terms, sums))
        return false;
    }
    return true;
  }

  /// The product of the same rows with a value y that all terms have: x^T y or y^T x.
  static MatmulOp findWeightGradient(MatmulOp product, Value y, bool xFirst) {
    Value x = product.getLhs();
    SmallVector<Value> forms = {skipReshapes(x)};
    for (size_t i = 0; i < forms.size(); ++i)
      for (Operation *user : forms[i].getUsers())
        if (auto reshape = dyn_cast<ReshapeOp>(user))
          forms.push_back(reshape.getResult());
    int64_t depth = getTensorType(x).getShape().back();
    for (Value form : forms)
      for (Operation *user : form.getUsers()) {
        auto gradient = dyn_cast<MatmulOp>(user);
        if (!gradient || gradient.getBias() || !gradient.getTransposeLhs() || gradient.getTransposeRhs() ||
            gradient.getScale().convertToDouble() != 1.0 || gradient->getBlock() != product->getBlock() ||
            getTensorType(form).getRank() != 2 || getTensorType(form).getShape().back() != depth ||
            gradient.getLhs() == gradient.getRhs())
          continue;
        Value other = xFirst ? gradient.getRhs() : gradient.getLhs();
        if ((xFirst ? gradient.getLhs() : gradient.getRhs()) == form && (!y || other == y))
          return gradient;
      }
    return {};
  }

  void merge(AddOp sum) {
    SmallVector<Term> terms;
    SmallVector<AddOp> sums;
    if (getTensorType(sum.getResult()).getElementType().getIntOrFloatBitWidth() != 16 || !collect(sum, terms, sums))
      return;
    // Backward runs from the last reader of y to the first, parameters lie in a bucket from the first to the last.
    llvm::sort(terms, [](const Term &a, const Term &b) { return b.product->isBeforeInBlock(a.product); });
    MatmulOp first = terms.back().product;
    RankedTensorType xType = getTensorType(first.getLhs());
    int64_t copied = 0;
    SmallVector<Value> weights;
    for (Term &term : terms) {
      MatmulOp product = term.product;
      RankedTensorType type = getTensorType(product.getLhs());
      if (product.getBias() || product.getTransposeLhs() || product.getTransposeRhs() != first.getTransposeRhs() ||
          product.getScale().convertToDouble() != 1.0 || getTensorType(product.getRhs()).getRank() != 2 ||
          type.getShape().drop_back() != xType.getShape().drop_back() ||
          type.getElementType() != xType.getElementType() ||
          !isa_and_nonnull<ReadStateOp, zero::ViewOp>(product.getRhs().getDefiningOp()) ||
          !isa_and_nonnull<TrainDialect>(skipMovement(product.getLhs()).getDefiningOp()
                                             ? skipMovement(product.getLhs()).getDefiningOp()->getDialect()
                                             : nullptr))
        return;
      weights.push_back(product.getRhs());
      copied += 2 * bytesOf(product.getRhs());
    }
    if (!first.getTransposeRhs() && areNeighbours(weights))
      copied = 0;
    // Every term but the last writes a sum that the next one reads.
    const int64_t saved = 2 * (terms.size() - 1) * bytesOf(sum.getResult());
    if (4 * copied > saved)
      return;

    // x can be made where its parts are: before all that reads them, if they are there by then.
    Operation *start = first;
    Operation *lastPart = nullptr;
    for (bool xFirst : {true, false}) {
      MatmulOp gradient = findWeightGradient(first, Value(), xFirst);
      if (!gradient)
        continue;
      Value y = xFirst ? gradient.getRhs() : gradient.getLhs();
      for (Term &term : terms)
        term.weightGradient = findWeightGradient(term.product, y, xFirst);
      if (llvm::all_of(terms, [](const Term &term) { return static_cast<bool>(term.weightGradient); })) {
        weightGradientsHaveXFirst = xFirst;
        break;
      }
      for (Term &term : terms)
        term.weightGradient = {};
    }
    for (Term &term : terms) {
      for (MatmulOp product : {term.product, term.weightGradient})
        if (product && product->isBeforeInBlock(start))
          start = product;
      Operation *part = skipMovement(term.product.getLhs()).getDefiningOp();
      if (!lastPart || lastPart->isBeforeInBlock(part))
        lastPart = part;
    }
    // Or later, as far as nothing needs a weight's gradient before.
    if (!lastPart->isBeforeInBlock(start))
      start = lastPart->getNextNode();
    for (Term &term : terms)
      if (term.weightGradient && llvm::any_of(term.weightGradient->getUsers(), [&](Operation *user) {
            return user->getBlock() != start->getBlock() || user->isBeforeInBlock(start);
          }))
        return;
    if (MatmulOp gradient = terms.front().weightGradient)
      if (Operation *y =
              skipMovement(weightGradientsHaveXFirst ? gradient.getRhs() : gradient.getLhs()).getDefiningOp();
          y && !y->isBeforeInBlock(start)) {
        // Computed again right before its first reader, it can be earlier.
        if (!isPure(y) || llvm::any_of(y->getOperands(), [&](Value operand) {
              Operation *definition = operand.getDefiningOp();
              return definition && !definition->isBeforeInBlock(start);
            }))
          return;
        y->moveBefore(start);
      }
    rewrite(sum, terms, sums, start);
  }

  void rewrite(AddOp sum, ArrayRef<Term> terms, ArrayRef<AddOp> sums, Operation *start) {
    OpBuilder builder(start);
    SmallVector<Location> locations;
    SmallVector<Value> parts, weights;
    for (Term term : terms) {
      locations.push_back(term.product.getLoc());
      hoist(term.product.getLhs(), start);
      parts.push_back(term.product.getLhs());
      weights.push_back(term.product.getRhs());
    }
    Location loc = builder.getFusedLoc(locations);
    const int64_t rank = getTensorType(parts[0]).getRank();
    Value x = concat(builder, loc, parts, rank - 1);
    if (MatmulOp gradient = terms.front().weightGradient) {
      hoist(weightGradientsHaveXFirst ? gradient.getRhs() : gradient.getLhs(), start);
      mergeWeightGradients(builder, terms, x);
    }

    // Behind the last weight; those of a bucket that is freed before live until here.
    MatmulOp last = terms.front().product;
    builder.setInsertionPoint(last);
    for (Value weight : weights)
      if (auto view = weight.getDefiningOp<zero::ViewOp>())
        for (Operation *user : view.getGathered().getUsers())
          if (isa<zero::FreeOp>(user) && user->isBeforeInBlock(last))
            user->moveAfter(last);
    bool transposed = last.getTransposeRhs();
    Value w = concat(builder, loc, weights, transposed ? 1 : 0);
    auto product = MatmulOp::create(builder, loc, sum.getType(), x, w, Value(), UnitAttr(), last.getTransposeRhsAttr(),
                                    last.getScaleAttr());
    sum.getResult().replaceAllUsesWith(product.getResult());
    for (AddOp inner : sums) {
      erased.insert(inner);
      inner.erase();
    }
    for (Term term : terms)
      term.product->erase();
  }

  void mergeWeightGradients(OpBuilder &builder, ArrayRef<Term> terms, Value x) {
    SmallVector<Location> locations =
        llvm::map_to_vector(terms, [](const Term &term) { return term.weightGradient->getLoc(); });
    Location loc = builder.getFusedLoc(locations);
    MatmulOp first = terms.front().weightGradient;
    RankedTensorType type = first.getType();
    const int64_t depth = getTensorType(x).getShape().back(), rows = getTensorType(x).getNumElements() / depth,
                  axis = weightGradientsHaveXFirst ? 0 : 1;
    Value flat = reshape(builder, loc, x, {rows, depth}),
          y = weightGradientsHaveXFirst ? first.getRhs() : first.getLhs();
    SmallVector<int64_t> shape(type.getShape()), starts = {0, 0};
    shape[axis] = depth;
    auto whole = MatmulOp::create(builder, loc, RankedTensorType::get(shape, type.getElementType()),
                                  weightGradientsHaveXFirst ? flat : y, weightGradientsHaveXFirst ? y : flat, Value(),
                                  builder.getUnitAttr(), UnitAttr(), first.getScaleAttr());
    for (Term term : terms) {
      MatmulOp gradient = term.weightGradient;
      auto slice = SliceOp::create(builder, gradient->getLoc(), gradient.getType(), whole.getResult(), starts,
                                   SmallVector<int64_t>{1, 1});
      starts[axis] += getTensorType(gradient.getResult()).getShape()[axis];
      gradient.getResult().replaceAllUsesWith(slice.getResult());
      SmallVector<Value> operands = {gradient.getLhs(), gradient.getRhs()};
      gradient.erase();
      // The reshape that only this product read.
      for (Value operand : operands)
        while (operand.getDefiningOp<ReshapeOp>() && operand.use_empty()) {
          Value input = operand.getDefiningOp()->getOperand(0);
          operand.getDefiningOp()->erase();
          operand = input;
        }
    }
  }

  bool weightGradientsHaveXFirst = true;
  DenseMap<StringAttr, std::pair<zero::BucketOp, zero::SegmentAttr>> segments; // where a parameter lies
  DenseSet<Operation *> erased;
};

} // namespace

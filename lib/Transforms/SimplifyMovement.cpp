//===- SimplifyMovement.cpp - remove ops that move or change nothing -----------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Exporters transpose the last two axes of a 4-D tensor as reshape to 3-D, transpose, reshape back. Reshapes of reshapes and transposes of transposes are folds of the ops.
//
//===----------------------------------------------------------------------===//

#include "RaisingPatterns.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"
#include "zopt/Transforms/Passes.h"

namespace zopt {
#define GEN_PASS_DEF_SIMPLIFYMOVEMENT
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

namespace {

/// For a reshape that only joins neighbouring axes: how many axes of `from` each axis of `to` is made of. An axis of 1 belongs to the group before it (`eager`) or is
/// a group of its own where `to` has an axis of 1 for it.
std::optional<SmallVector<int64_t>> findJoinedAxes(ArrayRef<int64_t> from, ArrayRef<int64_t> to, bool eager) {
  SmallVector<int64_t> groups;
  size_t next = 0;
  for (int64_t size : to) {
    int64_t product = 1, count = 0;
    if (size == 1 && next < from.size() && from[next] == 1)
      ++count, ++next;
    while (product < size && next < from.size())
      product *= from[next++], ++count;
    while (eager && next < from.size() && from[next] == 1)
      ++count, ++next;
    if (product != size)
      return std::nullopt;
    groups.push_back(count);
  }
  if (next != from.size()) {
    if (groups.empty() || llvm::any_of(from.drop_front(next), [](int64_t size) { return size != 1; }))
      return std::nullopt;
    groups.back() += from.size() - next;
  }
  return groups;
}

/// reshape(transpose(reshape(x))) is transpose(reshape(x)) where the outer reshape only takes axes apart: they can be apart before they move. Often x has them apart already, and
/// nothing but a transpose is left. An outer reshape that only adds axes of 1 stays where it is, unless the
/// inner one joins axes (of a single sample with its heads, say).
struct TransposeBetweenReshapes : OpRewritePattern<ReshapeOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(ReshapeOp outer, PatternRewriter &rewriter) const override {
    auto transpose = outer.getInput().getDefiningOp<TransposeOp>();
    auto inner = transpose ? transpose.getInput().getDefiningOp<ReshapeOp>() : ReshapeOp();
    if (!inner)
      return failure();
    ArrayRef<int64_t> source = getTensorType(inner.getInput()).getShape(), target = outer.getType().getShape();
    SmallVector<int64_t> shape, permutation;
    bool takesApart = false;
    for (bool eager : {true, false}) {
      std::optional<SmallVector<int64_t>> groups = findJoinedAxes(target, transpose.getType().getShape(), eager);
      if (!groups)
        return failure();
      // Where each axis of the inner reshape begins, once it is apart.
      SmallVector<int64_t> counts(groups->size()), starts(groups->size()), newShape, newPermutation(target.size());
      int64_t first = 0;
      for (auto [axis, count] : llvm::zip(transpose.getPermutation(), *groups))
        counts[axis] = count, starts[axis] = first, first += count;
      for (auto [start, count] : llvm::zip(starts, counts)) {
        takesApart |= llvm::count_if(target.slice(start, count), [](int64_t size) { return size != 1; }) > 1;
        for (int64_t i = 0; i < count; ++i)
          newPermutation[start + i] = newShape.size(), newShape.push_back(target[start + i]);
      }
      if (shape.empty() || ArrayRef<int64_t>(newShape) == source)
        shape = newShape, permutation = newPermutation;
    }
    bool joins = source.size() > static_cast<size_t>(transpose.getType().getRank());
    if (!takesApart && !joins && ArrayRef<int64_t>(shape) != source)
      return failure();
    Value apart = reshape(rewriter, inner.getLoc(), inner.getInput(), shape);
    rewriter.replaceOpWithNewOp<TransposeOp>(outer, outer.getType(), apart, permutation);
    return success();
  }
};

struct SliceOfEverything : OpRewritePattern<SliceOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(SliceOp slice, PatternRewriter &rewriter) const override {
    if (slice.getInput().getType() != slice.getType() || llvm::any_of(slice.getStarts(), [](int64_t start) { return start != 0; }))
      return failure();
    for (auto [size, stride] : llvm::zip(slice.getType().getShape(), slice.getStrides()))
      if (size != 1 && stride != 1)
        return failure();
    rewriter.replaceOp(slice, slice.getInput());
    return success();
  }
};

template <typename OpTy>
struct FactorOfOne : OpRewritePattern<OpTy> {
  using OpRewritePattern<OpTy>::OpRewritePattern;

  LogicalResult matchAndRewrite(OpTy op, PatternRewriter &rewriter) const override {
    std::optional<Scaling> scaling = matchScaling(op);
    if (!scaling || scaling->factor != 1.0)
      return failure();
    rewriter.replaceOp(op, scaling->source);
    return success();
  }
};

struct AndWithTrue : OpRewritePattern<AndOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(AndOp op, PatternRewriter &rewriter) const override {
    for (Value operand : op->getOperands()) {
      if (operand.getType() != op.getType() || !op.getType().getElementType().isInteger(1) || !isSplat(getOther(op, operand), 1.0))
        continue;
      rewriter.replaceOp(op, operand);
      return success();
    }
    return failure();
  }
};

struct SimplifyMovementPass : zopt::impl::SimplifyMovementBase<SimplifyMovementPass> {
  FrozenRewritePatternSet patterns;

  LogicalResult initialize(MLIRContext *context) override {
    RewritePatternSet set(context);
    populateSimplifyMovementPatterns(set);
    patterns = std::move(set);
    return success();
  }

  void runOnOperation() override {
    if (failed(applyPatternsGreedily(getOperation(), patterns)))
      signalPassFailure();
  }
};

} // namespace

void zopt::populateSimplifyMovementPatterns(RewritePatternSet &patterns) {
  patterns.add<TransposeBetweenReshapes, SliceOfEverything, FactorOfOne<MulOp>, FactorOfOne<DivOp>, AndWithTrue>(patterns.getContext());
}

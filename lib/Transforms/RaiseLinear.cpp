//===- RaiseLinear.cpp - give matrix products their bias, scale and flags ------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RaisingPatterns.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"
#include "zopt/Transforms/Passes.h"

namespace zopt {
#define GEN_PASS_DEF_RAISELINEAR
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

namespace {

/// The same product of another left operand, which differs in leading axes only.
MatmulOp cloneWithLhs(PatternRewriter &rewriter, MatmulOp matmul, Value lhs) {
  SmallVector<int64_t> shape(getTensorType(lhs).getShape());
  shape.back() = matmul.getType().getShape().back();
  return MatmulOp::create(rewriter, matmul.getLoc(), matmul.getType().clone(shape), lhs, matmul.getRhs(), matmul.getBias(), matmul.getTransposeLhs(),
                          matmul.getTransposeRhs(), matmul.getScale());
}

/// The reshape that makes the matrix on the left of a product of two matrices; rows of the one are rows of the other.
ReshapeOp getRowReshape(MatmulOp matmul) {
  if (!matmul || matmul.getTransposeLhs() || getTensorType(matmul.getLhs()).getRank() != 2 || getTensorType(matmul.getRhs()).getRank() != 2)
    return {};
  return matmul.getLhs().getDefiningOp<ReshapeOp>();
}

/// reshape(reshape(x) [M, K] x w [K, N]) -> [.., N] is reshape(x -> [.., K]) x w.
struct ReshapesAroundProduct : OpRewritePattern<ReshapeOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(ReshapeOp outer, PatternRewriter &rewriter) const override {
    auto matmul = outer.getInput().getDefiningOp<MatmulOp>();
    ReshapeOp inner = getRowReshape(matmul);
    ArrayRef<int64_t> target = outer.getType().getShape();
    if (!inner || !matmul->hasOneUse() || target.size() < 2 || target.back() != matmul.getType().getShape().back())
      return failure();
    SmallVector<int64_t> shape(target);
    shape.back() = getTensorType(matmul.getLhs()).getShape().back();
    rewriter.setInsertionPoint(matmul);
    rewriter.replaceOp(outer, cloneWithLhs(rewriter, matmul, reshape(rewriter, inner.getLoc(), inner.getInput(), shape)));
    return success();
  }
};

/// Where only reshapes read the product, the reshape of its rows goes behind it and joins them.
struct ReshapeBeforeProduct : OpRewritePattern<MatmulOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(MatmulOp matmul, PatternRewriter &rewriter) const override {
    ReshapeOp inner = getRowReshape(matmul);
    if (!inner || getTensorType(inner.getInput()).getRank() < 2 || getTensorType(inner.getInput()).getShape().back() != inner.getType().getShape().back() ||
        matmul->use_empty() || !llvm::all_of(matmul->getUsers(), [](Operation *user) { return isa<ReshapeOp>(user); }))
      return failure();
    MatmulOp wide = cloneWithLhs(rewriter, matmul, inner.getInput());
    rewriter.replaceOpWithNewOp<ReshapeOp>(matmul, matmul.getType(), wide);
    return success();
  }
};

/// A transpose whose last two axes come in falling order is the same transpose with them in order, and a flag: memory keeps its innermost axis.
struct TransposedOperand : OpRewritePattern<MatmulOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(MatmulOp matmul, PatternRewriter &rewriter) const override {
    bool changed = false;
    for (unsigned index : {0u, 1u}) {
      auto transpose = matmul->getOperand(index).getDefiningOp<TransposeOp>();
      if (!transpose || transpose.getPermutation().take_back(2).front() < transpose.getPermutation().back())
        continue;
      Value operand = exchangeLastAxes(rewriter, transpose.getLoc(), transpose);
      rewriter.modifyOpInPlace(matmul, [&] {
        matmul->setOperand(index, operand);
        if (index == 0)
          matmul.setTransposeLhs(!matmul.getTransposeLhs());
        else
          matmul.setTransposeRhs(!matmul.getTransposeRhs());
      });
      changed = true;
    }
    return success(changed);
  }
};

void multiplyScale(PatternRewriter &rewriter, MatmulOp matmul, double factor) {
  matmul.setScaleAttr(rewriter.getF64FloatAttr(matmul.getScale().convertToDouble() * factor));
}

struct ScaledOperand : OpRewritePattern<MatmulOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(MatmulOp matmul, PatternRewriter &rewriter) const override {
    bool changed = false;
    for (unsigned index : {0u, 1u}) {
      std::optional<Scaling> scaling = matchScaling(matmul->getOperand(index));
      if (!scaling)
        continue;
      rewriter.modifyOpInPlace(matmul, [&] {
        matmul->setOperand(index, scaling->source);
        multiplyScale(rewriter, matmul, scaling->factor);
      });
      changed = true;
    }
    return success(changed);
  }
};

template <typename OpTy>
struct ScaledProduct : OpRewritePattern<OpTy> {
  using OpRewritePattern<OpTy>::OpRewritePattern;

  LogicalResult matchAndRewrite(OpTy op, PatternRewriter &rewriter) const override {
    std::optional<Scaling> scaling = matchScaling(op);
    auto matmul = scaling ? scaling->source.getDefiningOp<MatmulOp>() : MatmulOp();
    if (!matmul || !matmul->hasOneUse() || matmul.getBias())
      return failure();
    rewriter.modifyOpInPlace(matmul, [&] { multiplyScale(rewriter, matmul, scaling->factor); });
    rewriter.replaceOp(op, matmul.getResult());
    return success();
  }
};

struct AddedBias : OpRewritePattern<AddOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(AddOp add, PatternRewriter &rewriter) const override {
    for (Value operand : {add.getLhs(), add.getRhs()}) {
      auto matmul = operand.getDefiningOp<MatmulOp>();
      Value bias = getOther(add, operand);
      if (!matmul || !matmul->hasOneUse() || matmul.getBias() || matmul.getType() != add.getType() || getTensorType(matmul.getRhs()).getRank() != 2 ||
          !isVector(bias, add.getType().getShape().back()))
        continue;
      // The product moves to the sum, where the bias is known.
      rewriter.replaceOp(add, MatmulOp::create(rewriter, matmul.getLoc(), add.getType(), matmul.getLhs(), matmul.getRhs(), asVector(rewriter, bias.getLoc(), bias),
                                               matmul.getTransposeLhs(), matmul.getTransposeRhs(), matmul.getScale()));
      return success();
    }
    return failure();
  }
};

struct RaiseLinearPass : zopt::impl::RaiseLinearBase<RaiseLinearPass> {
  FrozenRewritePatternSet patterns;

  LogicalResult initialize(MLIRContext *context) override {
    RewritePatternSet set(context);
    populateSimplifyMovementPatterns(set);
    set.add<ReshapesAroundProduct, ReshapeBeforeProduct, TransposedOperand, ScaledOperand, ScaledProduct<MulOp>, ScaledProduct<DivOp>, AddedBias>(context);
    patterns = std::move(set);
    return success();
  }

  void runOnOperation() override {
    if (failed(applyPatternsGreedily(getOperation(), patterns)))
      signalPassFailure();
  }
};

} // namespace

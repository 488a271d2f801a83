//===- FuseMatmulEpilogues.cpp - products with their neighbours ---------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What a GELU reads and writes is the widest activation of a transformer: 16 bytes an element of memory traffic a layer that a product's epilogue saves. A bias's gradient is a pass over a cotangent that the
// weight's gradient reads anyway, a residual one more pass over what a product has in registers.
//
//===----------------------------------------------------------------------===//

#include "TensorValues.h"
#include "zopt/Transforms/Passes.h"

namespace zopt {
#define GEN_PASS_DEF_FUSEMATMULEPILOGUES
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

static constexpr StringLiteral kResidual = "zero.residual";

/// Epilogues are a matter of the narrow types: fp32 is for comparisons, f64 for tests.
static bool isNarrow(Value value) { return getTensorType(value).getElementType().getIntOrFloatBitWidth() == 16; }

/// Whether something behind `op` reads the elements of `value`.
static bool isReadBehind(Value value, Operation *op) {
  return llvm::any_of(value.getUsers(), [&](Operation *user) {
    return isa<ReshapeOp>(user) ? isReadBehind(user->getResult(0), op)
                                : user->getBlock() != op->getBlock() || op->isBeforeInBlock(user);
  });
}

/// Whether `product` may wait for what is added to it: not where it has to keep more than its result until then (the
/// logits' gradient for that of a tied table, which comes last of all), or a bucket's gathered weight.
static bool mayWait(MatmulOp product, Value addend) {
  if (!product->isBeforeInBlock(addend.getDefiningOp()))
    return true;
  int64_t kept = 0;
  for (Value operand : {skipReshapes(product.getLhs()), skipReshapes(product.getRhs())}) {
    if (operand.getDefiningOp<zero::ViewOp>())
      return false;
    if (operand.getDefiningOp() && !isa<ReadStateOp>(operand.getDefiningOp()) && !isReadBehind(operand, product))
      kept += bytesOf(operand);
  }
  return kept <= bytesOf(product.getResult());
}

namespace {

struct FuseMatmulEpiloguesPass : zopt::impl::FuseMatmulEpiloguesBase<FuseMatmulEpiloguesPass> {
  using FuseMatmulEpiloguesBase::FuseMatmulEpiloguesBase;

  void runOnOperation() override {
    Block &block = getOperation().getBody().front();
    for (auto gelu : llvm::make_early_inc_range(block.getOps<GeluOp>()))
      fuseGelu(gelu);
    for (auto gradient : llvm::make_early_inc_range(block.getOps<GeluGradOp>()))
      fuseGeluGrad(gradient);
    for (auto sum : llvm::make_early_inc_range(block.getOps<AddOp>()))
      fuseAddend(sum);
    for (auto sum : llvm::make_early_inc_range(block.getOps<ReduceSumOp>()))
      if (biasGradients)
        fuseBiasGradient(sum);
    for (Operation &op : llvm::make_early_inc_range(llvm::reverse(block)))
      if (isOpTriviallyDead(&op))
        op.erase();
  }

private:
  FusedMatmulOp create(OpBuilder &builder, Location loc, MatmulOp product, TypeRange results, ArrayRef<int32_t> present, Value aux, Value addend, MatmulEpilogue epilogue, BiasGradient kind) {
    auto fused = FusedMatmulOp::create(builder, loc, results[0], present[0] ? results[1] : Type(), present[1] ? results[1 + present[0]] : Type(), product.getLhs(), product.getRhs(), product.getBias(), aux, addend,
                                       product.getTransposeLhsAttr(), product.getTransposeRhsAttr(), product.getScaleAttr(), MatmulEpilogueAttr::get(&getContext(), epilogue),
                                       BiasGradientAttr::get(&getContext(), kind));
    return fused;
  }

  /// gelu(product): the product itself stays for the gradient.
  void fuseGelu(GeluOp gelu) {
    auto product = gelu.getInput().getDefiningOp<MatmulOp>();
    if (!product || gelu.getApproximate() != GeluApproximation::tanh || !isNarrow(gelu.getResult()) || product->getBlock() != gelu->getBlock())
      return;
    OpBuilder builder(product);
    FusedMatmulOp fused = create(builder, builder.getFusedLoc({product.getLoc(), gelu.getLoc()}), product, {gelu.getType(), product.getType()}, {1, 0}, /*aux=*/Value(), /*addend=*/Value(), MatmulEpilogue::gelu, BiasGradient::none);
    for (Operation *op : {product.getOperation(), gelu.getOperation()})
      if (Attribute residual = op->getAttr(kResidual))
        fused->setAttr(kResidual, residual);
    gelu.getResult().replaceAllUsesWith(fused.getResult());
    product.getResult().replaceAllUsesWith(fused.getPreActivation());
    gelu.erase();
    product.erase();
  }

  /// product * gelu'(x), where nothing else wants the product.
  void fuseGeluGrad(GeluGradOp gradient) {
    auto product = gradient.getCotangent().getDefiningOp<MatmulOp>();
    if (!product || !product->hasOneUse() || product.getBias() || gradient.getApproximate() != GeluApproximation::tanh || !isNarrow(gradient.getResult()) || product->getBlock() != gradient->getBlock())
      return;
    OpBuilder builder(gradient);
    FusedMatmulOp fused =
        create(builder, builder.getFusedLoc({product.getLoc(), gradient.getLoc()}), product, {gradient.getType()}, {0, 0}, gradient.getInput(), /*addend=*/Value(), MatmulEpilogue::gelu_grad, BiasGradient::none);
    gradient.getResult().replaceAllUsesWith(fused.getResult());
    gradient.erase();
    product.erase();
  }

  /// x + product: a residual, or the gradients of several readers of one value.
  void fuseAddend(AddOp sum) {
    for (Value value : {sum.getRhs(), sum.getLhs()}) {
      auto product = value.getDefiningOp<MatmulOp>();
      Value other = value == sum.getRhs() ? sum.getLhs() : sum.getRhs();
      if (!product || !product->hasOneUse() || value == other || other.getType() != sum.getType() || value.getType() != sum.getType() || !isNarrow(sum.getResult()) || product->getBlock() != sum->getBlock())
        continue;
      // A weight in place of the addend would be a bias of sorts, which no residual is.
      if (!other.getDefiningOp() || isa<ReadStateOp, zero::ViewOp>(other.getDefiningOp()))
        continue;
      // Of two products the later one takes the other in.
      if (auto second = other.getDefiningOp<MatmulOp>(); second && product->isBeforeInBlock(second) && second->hasOneUse())
        continue;
      if (!mayWait(product, other))
        continue;
      OpBuilder builder(sum);
      FusedMatmulOp fused = create(builder, builder.getFusedLoc({product.getLoc(), sum.getLoc()}), product, {sum.getType()}, {0, 0}, /*aux=*/Value(), other, MatmulEpilogue::none, BiasGradient::none);
      if (Attribute residual = sum->getAttr(kResidual))
        fused->setAttr(kResidual, residual);
      sum.getResult().replaceAllUsesWith(fused.getResult());
      sum.erase();
      product.erase();
      return;
    }
  }

  /// The sum of a cotangent over all its rows, beside the product that made the cotangent or the one that makes the weight's gradient of it.
  void fuseBiasGradient(ReduceSumOp sum) {
    ArrayRef<int64_t> axes = sum.getAxes();
    int64_t rank = getTensorType(sum.getInput()).getRank();
    if (sum.getKeepdims() || static_cast<int64_t>(axes.size()) != rank - 1 || !llvm::equal(axes, llvm::seq<int64_t>(0, rank - 1)) || !isNarrow(sum.getResult()))
      return;
    Value cotangent = skipReshapes(sum.getInput());
    if (getTensorType(cotangent).getShape().back() != getTensorType(sum.getInput()).getShape().back())
      return;
    if (auto made = cotangent.getDefiningOp<FusedMatmulOp>(); made && made.getEpilogue() == MatmulEpilogue::gelu_grad && made.getBiasGradientKind() == BiasGradient::none) {
      OpBuilder builder(made);
      auto fused = FusedMatmulOp::create(builder, made.getLoc(), made.getResult().getType(), Type(), sum.getType(), made.getLhs(), made.getRhs(), made.getBias(), made.getAux(), /*addend=*/Value(), made.getTransposeLhsAttr(),
                                         made.getTransposeRhsAttr(), made.getScaleAttr(), made.getEpilogueAttr(), BiasGradientAttr::get(&getContext(), BiasGradient::out_columns));
      made.getResult().replaceAllUsesWith(fused.getResult());
      sum.getResult().replaceAllUsesWith(fused.getBiasGradient());
      sum.erase();
      made.erase();
      return;
    }
    // The weight's gradient: x^T dy or dy^T x.
    SmallVector<Value> forms = {cotangent};
    for (size_t i = 0; i < forms.size(); ++i)
      for (Operation *user : forms[i].getUsers())
        if (auto reshape = dyn_cast<ReshapeOp>(user))
          forms.push_back(reshape.getResult());
    for (Value form : forms)
      for (Operation *user : form.getUsers()) {
        auto product = dyn_cast<MatmulOp>(user);
        if (!product || product->getBlock() != sum->getBlock() || product.getBias() || getTensorType(form).getRank() != 2 || getTensorType(product.getLhs()).getRank() != 2 || !isNarrow(product.getResult()) ||
            product.getScale().convertToDouble() != 1.0)
          continue;
        bool isRhs = product.getRhs() == form && !product.getTransposeRhs(), isLhs = product.getLhs() == form && product.getTransposeLhs();
        if (isRhs == isLhs)
          continue;
        Operation *first = product, *last = sum;
        if (last->isBeforeInBlock(first))
          std::swap(first, last);
        if (llvm::any_of(first->getUsers(), [&](Operation *reader) { return reader->getBlock() != last->getBlock() || reader->isBeforeInBlock(last); }))
          continue;
        OpBuilder builder(last);
        BiasGradient kind = isRhs ? BiasGradient::rhs_columns : BiasGradient::lhs_rows;
        FusedMatmulOp fused = create(builder, product.getLoc(), product, {product.getType(), sum.getType()}, {0, 1}, /*aux=*/Value(), /*addend=*/Value(), MatmulEpilogue::none, kind);
        product.getResult().replaceAllUsesWith(fused.getResult());
        sum.getResult().replaceAllUsesWith(fused.getBiasGradient());
        product.erase();
        sum.erase();
        return;
      }
  }
};

} // namespace

//===- LowerBatchNorm.cpp - batch normalization as arithmetic ---------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What is the same for all elements of a channel is computed once for it. A rectifier behind a normalization masks the
// cotangent by its result; the mask is computed again from the input, which the kernels of the gradient read anyway, so
// that neither the rectifier's result nor the masked cotangent is read or written.
//
//===----------------------------------------------------------------------===//

#include "Residuals.h"
#include "TensorValues.h"
#include "zopt/Dialect/Zero/Zero.h"
#include "zopt/Transforms/Passes.h"
#include "llvm/ADT/TypeSwitch.h"
#include <map>

namespace zopt {
#define GEN_PASS_DEF_LOWERBATCHNORM
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

/// What a vector of a number a channel is, whatever the shape that it is read in and, if a parameter, wherever it is
/// gathered.
static const void *identityOf(Value vector) {
  while (Operation *op = vector.getDefiningOp()) {
    if (auto view = dyn_cast<zero::ViewOp>(op))
      return view.getParameterAttr().getAsOpaquePointer();
    if (!isa<ReshapeOp, TransposeOp, CastOp>(op))
      break;
    vector = op->getOperand(0);
  }
  return vector.getAsOpaquePointer();
}

namespace {

/// Vectors of a normalization, in the type that it computes in: 1 / sqrt(variance + epsilon), and what makes its result
/// x * scale + shift.
struct Factors {
  Value inverse, scale, shift;
};

struct Normalization {
  Value input;
  Factors factors;
};

struct LowerBatchNormPass : zopt::impl::LowerBatchNormBase<LowerBatchNormPass> {
  void runOnOperation() override {
    func::FuncOp function = getOperation();
    for (Operation &op : llvm::make_early_inc_range(function.getBody().front()))
      llvm::TypeSwitch<Operation *>(&op)
          .Case<BatchNormOp, BatchNormGradOp>([&](auto op) { lower(op); })
          .Case([&](BatchNormSumsOp op) { takeMask(op); })
          .Case([&](BackwardOp op) { backward = op; });
    if (!backward)
      return;
    // Backward reads the vectors of forward.
    for (Operation *op : findResiduals(function))
      if (!op->hasAttr(kResidualAttrName))
        op->setAttr(kResidualAttrName, StringAttr::get(&getContext(), "keep"));
  }

private:
  static Type computeTypeOf(Value value) { return getComputeType(getTensorType(value).getElementType()); }

  /// Of the last normalization with these operands, if there is one.
  template <typename Op>
  Factors &factorsOf(Op op) {
    return known[{skipReshapes(op.getInput()).getAsOpaquePointer(), identityOf(op.getVariance()),
                  identityOf(op.getGamma()), op.getEpsilon().convertToDouble()}];
  }

  template <typename Op>
  static Factors makeFactors(OpBuilder &builder, Op op) {
    Location loc = op.getLoc();
    Type compute = computeTypeOf(op.getInput());
    Value epsilon = scalar(builder, loc, compute, op.getEpsilon().convertToDouble());
    Value sum = add(builder, loc, cast(builder, loc, op.getVariance(), compute), epsilon);
    Factors factors;
    factors.inverse = ReciprocalOp::create(builder, loc, SqrtOp::create(builder, loc, sum));
    factors.scale = mul(builder, loc, factors.inverse, cast(builder, loc, op.getGamma(), compute));
    return factors;
  }

  /// Puts `made`, rounded, in the place of the op.
  static Value replace(OpBuilder &builder, Operation *op, Value made) {
    Value result = op->getResult(0);
    Value rounded = cast(builder, op->getLoc(), made, getTensorType(result).getElementType());
    rounded.getDefiningOp()->setDiscardableAttrs(op->getDiscardableAttrDictionary());
    result.replaceAllUsesWith(rounded);
    op->erase();
    return rounded;
  }

  static Value apply(OpBuilder &builder, Location loc, Value input, const Factors &factors) {
    Type compute = getTensorType(factors.scale).getElementType();
    return add(builder, loc, mul(builder, loc, cast(builder, loc, input, compute), factors.scale), factors.shift);
  }

  void lower(BatchNormOp op) {
    OpBuilder builder(op);
    Location loc = op.getLoc();
    Type compute = computeTypeOf(op.getInput());
    Factors factors = makeFactors(builder, op);
    Value mean = cast(builder, loc, op.getMean(), compute), beta = cast(builder, loc, op.getBeta(), compute);
    factors.shift = sub(builder, loc, beta, mul(builder, loc, mean, factors.scale));
    factorsOf(op) = factors;
    Value input = op.getInput();
    Value result = replace(builder, op, apply(builder, loc, input, factors));
    normalizations[result] = {input, factors};
  }

  /// dx = dy * scale + x * slope + offset, where the two vectors hold what goes through the statistics.
  void lower(BatchNormGradOp op) {
    OpBuilder builder(op);
    Location loc = op.getLoc();
    Type compute = computeTypeOf(op.getInput());
    Factors factors = factorsOf(op);
    if (!factors.scale)
      factors = makeFactors(builder, op);
    Value result = mul(builder, loc, cast(builder, loc, op.getCotangent(), compute), factors.scale);
    if (!op.getSums().empty()) {
      auto wide = [&](Value value) { return cast(builder, loc, value, compute); };
      Value share = div(builder, loc, factors.scale, scalar(builder, loc, compute, -op.getCount().convertToDouble()));
      Value slope = mul(builder, loc, share, mul(builder, loc, wide(op.getSums()[1]), factors.inverse));
      Value offset = sub(builder, loc, mul(builder, loc, share, wide(op.getSums()[0])), mul(builder, loc, wide(op.getMean()), slope));
      result = add(builder, loc, result, add(builder, loc, mul(builder, loc, wide(op.getInput()), slope), offset));
    }
    replace(builder, op, result);
  }

  /// Of relu_grad(dy, relu(batch_norm(x))), where nothing else reads it, the sums and the gradient over the same x.
  void takeMask(BatchNormSumsOp op) {
    auto mask = skipReshapes(op.getCotangent()).getDefiningOp<ReluGradOp>();
    auto relu = mask ? mask.getInput().getDefiningOp<ReluOp>() : ReluOp();
    auto found = relu ? normalizations.find(relu.getInput()) : normalizations.end();
    if (found == normalizations.end() || skipReshapes(found->second.input) != skipReshapes(op.getInput()))
      return;
    const Normalization &norm = found->second;
    SmallVector<Operation *> users = {mask};
    for (size_t i = 0; i < users.size(); ++i)
      for (Operation *user : users[i]->getUsers()) {
        auto grad = dyn_cast<BatchNormGradOp>(user);
        if (isa<ReshapeOp>(user))
          users.push_back(user);
        else if (user != op && !(grad && grad.getInput() == norm.input))
          return;
      }
    OpBuilder builder(mask);
    Location loc = mask.getLoc();
    mask.getInputMutable().assign(cast(builder, loc, apply(builder, loc, norm.input, norm.factors), mask.getType().getElementType()));
    builder.setInsertionPoint(op);
    op.getCotangentMutable().assign(reshape(builder, loc, mask.getCotangent(), getTensorType(op.getCotangent()).getShape()));
    op.getScaleMutable().assign(norm.factors.scale);
    op.getShiftMutable().assign(norm.factors.shift);
  }

  Operation *backward = nullptr;
  std::map<std::tuple<const void *, const void *, const void *, double>, Factors> known;
  DenseMap<Value, Normalization> normalizations; // by their results
};

} // namespace

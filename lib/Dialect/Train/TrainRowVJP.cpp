//===- TrainRowVJP.cpp - derivatives of reductions, rows and losses ------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Dialect/Train/TrainBuilders.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

using Values = SmallVector<Value>;

/// Statistics that an op leaves for its own derivative have none themselves.
static LogicalResult checkNoCotangent(Operation *op, ArrayRef<Value> cotangents, ArrayRef<StringRef> names) {
  for (auto [index, name] : llvm::enumerate(names))
    if (!name.empty() && cotangents[index])
      return op->emitOpError() << "has no derivative through its result '" << name << "'";
  return success();
}

//===----------------------------------------------------------------------===//
// Reductions
//===----------------------------------------------------------------------===//

/// The shape that a reduction's result has with kept axes.
static SmallVector<int64_t> keptShape(RankedTensorType input, ArrayRef<int64_t> axes) {
  SmallVector<int64_t> shape(input.getShape());
  for (int64_t axis : axes)
    shape[axis] = 1;
  return shape;
}

/// Spreads a reduction's cotangent back over the input's shape.
static Value spread(OpBuilder &builder, Location loc, Value cotangent, Value input, ArrayRef<int64_t> axes) {
  RankedTensorType type = getTensorType(input);
  Value kept = train::reshape(builder, loc, cotangent, keptShape(type, axes));
  return broadcast(builder, loc, train::cast(builder, loc, kept, type.getElementType()), type.getShape());
}

Values ReduceSumOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  return {spread(builder, getLoc(), cotangents[0], getInput(), getAxes())};
}

Values ReduceMeanOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  double count = 1;
  for (int64_t axis : getAxes())
    count *= getTensorType(getInput()).getDimSize(axis);
  Value divisor = scalar(builder, getLoc(), getTensorType(cotangents[0]).getElementType(), count);
  return {spread(builder, getLoc(), div(builder, getLoc(), cotangents[0], divisor), getInput(), getAxes())};
}

Values ReduceMaxOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  Location loc = getLoc();
  RankedTensorType type = getTensorType(getInput());
  SmallVector<int64_t> kept = keptShape(type, getAxes());
  Value maximum = train::reshape(builder, loc, getResult(), kept);
  Value isMaximum = compare(builder, loc, ComparePredicate::eq, getInput(), maximum);
  // Ties are counted in the compute type: bf16 counts exactly only up to 256.
  Type countType = getComputeType(type.getElementType());
  Value count = reduceSum(builder, loc, train::cast(builder, loc, isMaximum, countType), getAxes(), /*keepdims=*/true);
  Value cotangent = train::cast(builder, loc, train::reshape(builder, loc, cotangents[0], kept), countType);
  Value share = train::cast(builder, loc, div(builder, loc, cotangent, count), type.getElementType());
  return {select(builder, loc, isMaximum, share, scalar(builder, loc, type.getElementType(), 0.0))};
}

/// The product of all other elements: without a zero that is result / x, with one zero it is the product of the rest there and 0 elsewhere, with more it is 0.
Values ReduceProdOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  Location loc = getLoc();
  RankedTensorType type = getTensorType(getInput());
  Type element = type.getElementType();
  SmallVector<int64_t> kept = keptShape(type, getAxes());
  Value none = scalar(builder, loc, element, 0.0), one = scalar(builder, loc, element, 1.0);
  Value isZero = compare(builder, loc, ComparePredicate::eq, getInput(), none);
  Type countType = getComputeType(element);
  Value zeros = reduceSum(builder, loc, train::cast(builder, loc, isZero, countType), getAxes(), /*keepdims=*/true);
  Value others = select(builder, loc, isZero, one, getInput());
  Value rest = ReduceProdOp::create(builder, loc, RankedTensorType::get(kept, element), others, getAxes(), /*keepdims=*/true);
  Value noZero = compare(builder, loc, ComparePredicate::eq, zeros, scalar(builder, loc, countType, 0.0));
  Value oneZero = compare(builder, loc, ComparePredicate::eq, zeros, scalar(builder, loc, countType, 1.0));
  Value atZero = select(builder, loc, oneZero, rest, none);
  Value elsewhere = select(builder, loc, noZero, div(builder, loc, rest, others), none);
  Value slope = select(builder, loc, isZero, atZero, elsewhere);
  return {mul(builder, loc, spread(builder, loc, cotangents[0], getInput(), getAxes()), slope)};
}

//===----------------------------------------------------------------------===//
// Rows
//===----------------------------------------------------------------------===//

Values SoftmaxOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  return {SoftmaxGradOp::create(builder, getLoc(), getType(), getResult(), cotangents[0])};
}

Values LogSoftmaxOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  return {LogSoftmaxGradOp::create(builder, getLoc(), getType(), getResult(), cotangents[0])};
}

/// The type of a vector parameter's gradient: that of the parameter, or of `like` where there is none.
static Type vectorType(Value parameter, Value input) {
  RankedTensorType type = getTensorType(input);
  return parameter ? parameter.getType() : RankedTensorType::get({type.getShape().back()}, type.getElementType());
}

Values LayerNormOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  if (failed(checkNoCotangent(*this, cotangents, {"", "mean", "rstd"})))
    return {};
  Values grads(getNumOperands());
  if (needed[0])
    grads[0] = LayerNormGradOp::create(builder, getLoc(), getInput().getType(), getInput(), getGamma(), getMean(), getRstd(), cotangents[0]).getResult();
  unsigned gamma = 1, beta = getGamma() ? 2 : 1;
  bool gammaNeeded = getGamma() && needed[gamma], betaNeeded = getBeta() && needed[beta];
  if (gammaNeeded || betaNeeded) {
    auto parameters = LayerNormParameterGradOp::create(builder, getLoc(), vectorType(getGamma(), getInput()), vectorType(getBeta(), getInput()),
                                                       getInput(), getMean(), getRstd(), cotangents[0]);
    if (gammaNeeded)
      grads[gamma] = parameters.getGammaGrad();
    if (betaNeeded)
      grads[beta] = parameters.getBetaGrad();
  }
  return grads;
}

Values RMSNormOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  if (failed(checkNoCotangent(*this, cotangents, {"", "rstd"})))
    return {};
  Values grads(getNumOperands());
  if (needed[0])
    grads[0] = RMSNormGradOp::create(builder, getLoc(), getInput().getType(), getInput(), getGamma(), getRstd(), cotangents[0]).getResult();
  if (getGamma() && needed[1])
    grads[1] = RMSNormParameterGradOp::create(builder, getLoc(), getGamma().getType(), getInput(), getRstd(), cotangents[0]);
  return grads;
}

Values CrossEntropyOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  if (failed(checkNoCotangent(*this, cotangents, {"", "count", "lse"})))
    return {};
  return {CrossEntropyGradOp::create(builder, getLoc(), getLogits().getType(), getLogits(), getLabels(), getLse(), cotangents[0],
                                     getIgnoreIndexAttr(), getLabelSmoothingAttr()),
          Value()};
}

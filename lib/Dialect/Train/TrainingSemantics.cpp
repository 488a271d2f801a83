//===- TrainingSemantics.cpp - dropout and batch normalization -----------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Verifiers and derivatives of the ops of TrainingSemanticsOps.td, whose labels (C1), (C2), ... stand here.
//
//===----------------------------------------------------------------------===//

#include "zopt/Dialect/Train/TrainBuilders.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

using Values = SmallVector<Value>;

static ArrayRef<int64_t> shapeOf(Value value) { return getTensorType(value).getShape(); }

static std::string text(ArrayRef<int64_t> shape) {
  std::string result = "[";
  llvm::raw_string_ostream stream(result);
  llvm::interleave(shape, stream, "x");
  return result + "]";
}

//===----------------------------------------------------------------------===//
// Random numbers
//===----------------------------------------------------------------------===//

/// Whether a place between row-major elements, `inner` of them to its right, lies between axes or divides one of them.
static bool dividesAxes(ArrayRef<int64_t> shape, int64_t inner) {
  int64_t after = 1;
  for (int64_t size : llvm::reverse(shape)) {
    if (inner <= after)
      break;
    if (inner < after * size)
      return inner % after == 0 && size % (inner / after) == 0;
    after *= size;
  }
  return true;
}

template <typename Op>
static LogicalResult verifyRatio(Op op) { // (C1)
  double ratio = op.getRatio().convertToDouble();
  if (!(ratio >= 0 && ratio < 1))
    return op.emitOpError() << "ratio is " << ratio << ", expected at least 0 and below 1";
  return success();
}

template <typename Op>
static LogicalResult verifyRandom(Op op) {
  if (int64_t id = op.getId(); id < 0 || id >= int64_t(1) << 32)
    return op.emitOpError() << "id is " << id << ", expected 0 to 4294967295";
  ArrayRef<int64_t> shape = shapeOf(op.getInput());
  std::optional<ArrayRef<int64_t>> layout = op.getLayout();
  if (layout) { // (C2)
    int64_t count = 1;
    if (layout->size() != 3 || llvm::any_of(*layout, [](int64_t size) { return size < 1; }))
      return op.emitOpError() << "layout is " << text(*layout) << ", expected three sizes of at least 1";
    for (int64_t size : *layout)
      count *= size;
    if (count != getTensorType(op.getInput()).getNumElements())
      return op.emitOpError() << "layout " << text(*layout) << " has " << count << " elements, but the input "
                              << getTensorType(op.getInput()).getNumElements();
    int64_t inner = (*layout)[2], batch = (*layout)[1];
    if (!dividesAxes(shape, inner) || !dividesAxes(shape, inner * batch))
      return op.emitOpError() << "layout " << text(*layout) << " does not divide the axes of " << text(shape);
    if (count / batch >= int64_t(1) << 32)
      return op.emitOpError() << "has " << count / batch << " elements a sample, expected fewer than 4294967296";
  }
  auto random = op.getRandom(); // (C3)
  if (random.size() != 0 && random.size() != 2)
    return op.emitOpError() << "has " << random.size() << " random operands, expected a key and a counter";
  if (!random.empty() && !layout)
    return op.emitOpError("has a key and a counter, but no layout");
  for (Value operand : random)
    if (getTensorType(operand).getRank() != 0 || !getTensorType(operand).getElementType().isInteger(64))
      return op.emitOpError() << "expects i64 scalars for the key and the counter, but got " << operand.getType();
  return success();
}

LogicalResult DropoutOp::verify() { return failed(verifyRatio(*this)) ? failure() : verifyRandom(*this); }

LogicalResult DropoutMaskOp::verify() {
  if (shapeOf(getResult()) != shapeOf(getInput())) // (C4)
    return emitOpError() << "result has shape " << text(shapeOf(getResult())) << ", expected "
                         << text(shapeOf(getInput()));
  return failed(verifyRatio(*this)) ? failure() : verifyRandom(*this);
}

template <typename Op>
static LogicalResult verifyNumbers(Op op) {
  Type element = getTensorType(op.getResult()).getElementType();
  if (shapeOf(op.getResult()) != shapeOf(op.getInput()) || !(element.isF32() || element.isF64())) // (C4)
    return op.emitOpError() << "result is " << op.getResult().getType() << ", expected f32 or f64 of the shape "
                            << text(shapeOf(op.getInput()));
  return verifyRandom(op);
}

LogicalResult UniformOp::verify() { return verifyNumbers(*this); }

LogicalResult NormalOp::verify() { return verifyNumbers(*this); }

Values UniformOp::buildVJP(OpBuilder &, ArrayRef<Value>, ArrayRef<bool>) { return Values(getNumOperands()); }

Values NormalOp::buildVJP(OpBuilder &, ArrayRef<Value>, ArrayRef<bool>) { return Values(getNumOperands()); }

Values DropoutOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  Values result(getNumOperands());
  result[0] = DropoutOp::create(builder, getLoc(), cotangents[0].getType(), cotangents[0], getRandom(), getRatioAttr(),
                                getIdAttr(), getLayoutAttr());
  return result;
}

//===----------------------------------------------------------------------===//
// Batch normalization
//===----------------------------------------------------------------------===//

/// [C, 1, ...] for an input [N, C, ...].
static SmallVector<int64_t> channelShape(Value input) {
  SmallVector<int64_t> shape(getTensorType(input).getRank() - 1, 1);
  shape[0] = getTensorType(input).getDimSize(1);
  return shape;
}

static LogicalResult verifyRank(Operation *op, Value input) {
  if (getTensorType(input).getRank() < 2)
    return op->emitOpError() << "input has shape " << text(shapeOf(input)) << ", which has no axis of channels";
  return success();
}

/// Vectors of a number a channel, as elementwise ops read them: [C, 1, ...], or with channels last [1, ..., C].
static LogicalResult verifyChannels(Operation *op, Value input, ArrayRef<std::pair<StringRef, Value>> vectors) {
  if (failed(verifyRank(op, input)))
    return failure();
  SmallVector<int64_t> last(getTensorType(input).getRank(), 1);
  last.back() = getTensorType(input).getShape().back();
  const bool isLast = llvm::all_of(vectors, [&](auto vector) { return shapeOf(vector.second) == ArrayRef<int64_t>(last); });
  for (auto [name, value] : vectors)
    if (!isLast && shapeOf(value) != ArrayRef<int64_t>(channelShape(input)))
      return op->emitOpError() << name << " has shape " << text(shapeOf(value)) << ", expected "
                               << text(channelShape(input));
  return success();
}

static LogicalResult verifyVectors(Operation *op, Value input, ArrayRef<std::pair<StringRef, Value>> vectors) {
  for (auto [name, value] : vectors)
    if (shapeOf(value) != ArrayRef<int64_t>(getTensorType(input).getDimSize(1)))
      return op->emitOpError() << name << " has shape " << text(shapeOf(value)) << ", expected "
                               << text({getTensorType(input).getDimSize(1)});
  return success();
}

LogicalResult BatchStatisticsOp::verify() {
  if (failed(verifyRank(*this, getInput())))
    return failure();
  return verifyVectors(*this, getInput(), {{"mean", getMean()}, {"variance", getVariance()}});
}

LogicalResult BatchNormOp::verify() {
  if (getSynchronized() && !getTraining())
    return emitOpError("is synchronized, but not in training");
  return verifyChannels(*this, getInput(), {{"mean", getMean()}, {"gamma", getGamma()}});
}

LogicalResult BatchNormSumsOp::verify() {
  if (failed(verifyRank(*this, getInput())))
    return failure();
  if (shapeOf(getMean()) != ArrayRef<int64_t>(channelShape(getInput())))
    return emitOpError() << "mean has shape " << text(shapeOf(getMean())) << ", expected " << text(channelShape(getInput()));
  if (bool(getScale()) != bool(getShift())) // (C3)
    return emitOpError() << "has a " << (getScale() ? "scale" : "shift") << ", but no " << (getScale() ? "shift" : "scale");
  for (auto [name, value] : {std::pair<StringRef, Value>("scale", getScale()), {"shift", getShift()}})
    if (value && getTensorType(value).getNumElements() != getTensorType(getMean()).getNumElements())
      return emitOpError() << name << " has shape " << text(shapeOf(value)) << ", expected " << getTensorType(getMean()).getNumElements() << " elements";
  return verifyVectors(*this, getInput(), {{"sum", getSum()}, {"product", getProduct()}});
}

LogicalResult BatchNormGradOp::verify() {
  if (failed(verifyChannels(*this, getInput(), {{"mean", getMean()}, {"gamma", getGamma()}})))
    return failure();
  if (getSums().size() != 0 && getSums().size() != 2)
    return emitOpError() << "has " << getSums().size() << " sums, expected none or two";
  for (Value sum : getSums())
    if (sum.getType() != getMean().getType())
      return emitOpError() << "has a sum of " << sum.getType() << ", expected " << getMean().getType();
  return success();
}

Values BatchStatisticsOp::buildVJP(OpBuilder &, ArrayRef<Value>, ArrayRef<bool>) {
  emitOpError("has no derivative through its results, but in a batch_norm in training");
  return {};
}

Values BatchNormOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  Location loc = getLoc();
  Value cotangent = cotangents[0];
  Values result(5);
  const bool ofStatistics = !getTraining() && (needed[1] || needed[2]);
  Value sum, product;
  if (needed[3] || needed[4] || (needed[0] && getTraining()) || ofStatistics) {
    auto vector = getTensorType(getMean()).clone({getTensorType(getInput()).getDimSize(1)});
    auto sums = BatchNormSumsOp::create(builder, loc, vector, vector, getInput(), getMean(), getVariance(), cotangent,
                                        /*scale=*/Value(), /*shift=*/Value(), getEpsilonAttr());
    sum = sums.getSum();
    product = sums.getProduct();
  }
  auto toParameter = [&](Value value) {
    return train::cast(builder, loc, train::reshape(builder, loc, value, shapeOf(getGamma())),
                       getTensorType(getGamma()).getElementType());
  };
  if (needed[3])
    result[3] = toParameter(product);
  if (needed[4])
    result[4] = toParameter(sum);
  if (ofStatistics) {
    // Of weights that are standardized: -sum gamma / s and -product gamma / (2 s^2), with s^2 = variance + epsilon.
    RankedTensorType type = getTensorType(getVariance());
    Value square = add(builder, loc, getVariance(), splat(builder, loc, type, getEpsilon().convertToDouble()));
    Value gamma = train::cast(builder, loc, train::reshape(builder, loc, getGamma(), type.getShape()), type.getElementType());
    auto times = [&](Value of, double factor) {
      return mul(builder, loc, mul(builder, loc, train::reshape(builder, loc, of, type.getShape()), gamma), splat(builder, loc, type, factor));
    };
    if (needed[1])
      result[1] = div(builder, loc, times(sum, -1), SqrtOp::create(builder, loc, type, square));
    if (needed[2])
      result[2] = div(builder, loc, times(product, -0.5), square);
  }
  if (!needed[0])
    return result;
  Values sums;
  RankedTensorType input = getTensorType(getInput());
  double count = 1;
  if (getTraining()) {
    count = double(input.getNumElements()) / double(std::max<int64_t>(1, input.getDimSize(1)));
    for (Value value : {sum, product}) {
      // Means over ranks of both sums stand beside a count of one rank's elements.
      if (getSynchronized())
        value = MeanOverRanksOp::create(builder, loc, value.getType(), value);
      sums.push_back(train::reshape(builder, loc, value, shapeOf(getMean())));
    }
  }
  result[0] = BatchNormGradOp::create(builder, loc, input, getInput(), getMean(), getVariance(), getGamma(), cotangent,
                                      sums, getEpsilonAttr(), builder.getF64FloatAttr(count));
  return result;
}

Values MeanOverRanksOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool>) {
  return {MeanOverRanksOp::create(builder, getLoc(), cotangents[0].getType(), cotangents[0])};
}

LogicalResult RunningAverageOp::verify() {
  double momentum = getMomentum().convertToDouble();
  if (!(momentum >= 0 && momentum <= 1))
    return emitOpError() << "momentum is " << momentum << ", expected 0 to 1";
  return success();
}

LogicalResult RunningAverageOp::verifySymbolUses(SymbolTableCollection &symbols) {
  auto state = symbols.lookupNearestSymbolFrom<StateOp>(*this, getStateAttr());
  if (!state)
    return emitOpError() << "names no train.state: " << getStateAttr();
  if (state.getRole() != Role::buffer)
    return emitOpError() << "moves " << getStateAttr() << ", which is no buffer";
  if (state.getTensorType().getShape() != shapeOf(getValue()))
    return emitOpError() << "moves " << getStateAttr() << " of shape " << text(state.getTensorType().getShape())
                         << " by " << text(shapeOf(getValue()));
  return success();
}

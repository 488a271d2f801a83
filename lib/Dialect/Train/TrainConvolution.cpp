//===- TrainConvolution.cpp - constraints and derivatives of convolution and pooling ===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The labels (C1), (C2), ... are those of the op's description in ConvolutionOps.td.
//
//===----------------------------------------------------------------------===//

#include "zopt/Dialect/Train/TrainBuilders.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

using Values = SmallVector<Value>;

static std::string text(ArrayRef<int64_t> values) { return "[" + llvm::join(llvm::map_range(values, [](int64_t value) { return std::to_string(value); }), ", ") + "]"; }

/// `strides`, `dilations` and `pads` of an op over `space` axes.
template <typename Op>
static LogicalResult verifyWindow(Op op, int64_t space) {
  if (space < 1 || space > 3)
    return op.emitOpError("works on 1 to 3 axes of space, but got ") << space;
  if (static_cast<int64_t>(op.getStrides().size()) != space || static_cast<int64_t>(op.getDilations().size()) != space || static_cast<int64_t>(op.getPads().size()) != 2 * space)
    return op.emitOpError("has strides ") << text(op.getStrides()) << ", dilations " << text(op.getDilations()) << " and pads " << text(op.getPads()) << " for " << space << " axes of space";
  if (llvm::any_of(op.getStrides(), [](int64_t value) { return value < 1; }) || llvm::any_of(op.getDilations(), [](int64_t value) { return value < 1; }))
    return op.emitOpError("has strides ") << text(op.getStrides()) << " and dilations " << text(op.getDilations()) << ", which must be positive";
  return success();
}

//===----------------------------------------------------------------------===//
// Convolution
//===----------------------------------------------------------------------===//

template <typename Op>
static LogicalResult verifyConvolution(Op op, Value input, Value weight, Value output) {
  ArrayRef<int64_t> x = getTensorType(input).getShape(), w = getTensorType(weight).getShape(), y = getTensorType(output).getShape();
  if (x.size() < 3 || w.size() != x.size() || y.size() != x.size()) // (C1)
    return op.emitOpError("has an input ") << text(x) << ", a weight " << text(w) << " and an output " << text(y) << ", which must have one rank of 3 to 5";
  if (failed(verifyWindow(op, x.size() - 2)))
    return failure();
  const int64_t groups = op.getGroups();
  if (groups < 1 || x[1] % groups || y[1] % groups || w[0] != y[1] || w[1] != x[1] / groups || x[0] != y[0]) // (C2)
    return op.emitOpError("has an input ") << text(x) << ", a weight " << text(w) << " and an output " << text(y) << ", which do not agree in batch and channels for " << groups << " groups";
  const size_t space = x.size() - 2;
  for (size_t axis = 0; axis < space; ++axis) {
    const int64_t room = x[axis + 2] + op.getPads()[axis] + op.getPads()[space + axis] - ((w[axis + 2] - 1) * op.getDilations()[axis] + 1);
    const int64_t expected = room < 0 ? 0 : room / op.getStrides()[axis] + 1;
    if (w[axis + 2] < 1 || y[axis + 2] != expected)
      return op.emitOpError("has ") << y[axis + 2] << " output places along axis " << axis + 2 << ", expected " << expected << " of an input " << text(x) << " and a window " << text(w.drop_front(2));
  }
  return success();
}

static LogicalResult verifyOneType(Operation *op, ArrayRef<Value> values) { // (C3)
  for (Value value : values)
    if (getTensorType(value).getElementType() != getTensorType(values.front()).getElementType())
      return op->emitOpError("has tensors of element types ") << getTensorType(values.front()).getElementType() << " and " << getTensorType(value).getElementType();
  return success();
}

LogicalResult ConvOp::verify() {
  if (failed(verifyConvolution(*this, getInput(), getWeight(), getResult())) || failed(verifyOneType(*this, {getInput(), getWeight(), getResult()})))
    return failure();
  if (getBias() && getTensorType(getBias()).getShape() != ArrayRef<int64_t>{getTensorType(getResult()).getDimSize(1)})
    return emitOpError("has a bias ") << text(getTensorType(getBias()).getShape()) << " for " << getTensorType(getResult()).getDimSize(1) << " output channels";
  return success();
}

LogicalResult ConvInputGradOp::verify() {
  return failure(failed(verifyConvolution(*this, getResult(), getWeight(), getCotangent())) || failed(verifyOneType(*this, {getWeight(), getCotangent(), getResult()})));
}

LogicalResult ConvWeightGradOp::verify() {
  return failure(failed(verifyConvolution(*this, getInput(), getResult(), getCotangent())) || failed(verifyOneType(*this, {getInput(), getCotangent()})));
}

namespace {
/// Makes the three ops of one convolution, each linear in both operands: so the derivative of any of them is the other two.
template <typename Source>
struct Convolution {
  OpBuilder &builder;
  Source source;

  Value forward(Value input, Value weight, Type result) {
    return ConvOp::create(builder, source.getLoc(), result, input, weight, Value(), source.getStrides(), source.getDilations(), source.getPads(), source.getGroups());
  }
  Value inputGrad(Value weight, Value cotangent, Type result) {
    return ConvInputGradOp::create(builder, source.getLoc(), result, weight, cotangent, source.getStrides(), source.getDilations(), source.getPads(), source.getGroups());
  }
  Value weightGrad(Value input, Value cotangent, Type result) {
    return ConvWeightGradOp::create(builder, source.getLoc(), result, input, cotangent, source.getStrides(), source.getDilations(), source.getPads(), source.getGroups());
  }
};
} // namespace

Values ConvOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  Convolution<ConvOp> make{builder, *this};
  Value dy = cotangents[0];
  Values grads(getNumOperands());
  if (needed[0])
    grads[0] = make.inputGrad(getWeight(), dy, getInput().getType());
  if (needed[1])
    grads[1] = make.weightGrad(getInput(), dy, getWeight().getType());
  if (getBias() && needed[2]) {
    SmallVector<int64_t> axes = {0};
    llvm::append_range(axes, llvm::seq<int64_t>(2, getTensorType(dy).getRank()));
    grads[2] = train::cast(builder, getLoc(), reduceSum(builder, getLoc(), dy, axes), getTensorType(getBias()).getElementType());
  }
  return grads;
}

Values ConvInputGradOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  Convolution<ConvInputGradOp> make{builder, *this};
  Values grads(2);
  if (needed[0])
    grads[0] = make.weightGrad(cotangents[0], getCotangent(), getWeight().getType());
  if (needed[1])
    grads[1] = make.forward(cotangents[0], getWeight(), getCotangent().getType());
  return grads;
}

Values ConvWeightGradOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  Convolution<ConvWeightGradOp> make{builder, *this};
  Value dw = train::cast(builder, getLoc(), cotangents[0], getTensorType(getInput()).getElementType());
  Values grads(2);
  if (needed[0])
    grads[0] = make.inputGrad(dw, getCotangent(), getInput().getType());
  if (needed[1])
    grads[1] = make.forward(getInput(), dw, getCotangent().getType());
  return grads;
}

/// A product and a sum for each element of the output and each element of a window over the channels of its group.
static int64_t flops(Value weight, Value output) {
  auto type = getTensorType(weight);
  return 2 * getTensorType(output).getNumElements() * (type.getNumElements() / type.getDimSize(0));
}
int64_t ConvOp::getFlops() { return flops(getWeight(), getResult()) + (getBias() ? getTensorType(getResult()).getNumElements() : 0); }
int64_t ConvInputGradOp::getFlops() { return flops(getWeight(), getCotangent()); }
int64_t ConvWeightGradOp::getFlops() { return flops(getResult(), getCotangent()); }

//===----------------------------------------------------------------------===//
// Pooling
//===----------------------------------------------------------------------===//

template <typename Op>
static LogicalResult verifyPool(Op op, Value input, Value output) {
  ArrayRef<int64_t> x = getTensorType(input).getShape(), y = getTensorType(output).getShape(), window = op.getWindow();
  if (x.size() < 3 || y.size() != x.size() || window.size() + 2 != x.size() || llvm::any_of(window, [](int64_t size) { return size < 1; })) // (C1)
    return op.emitOpError("has an input ") << text(x) << ", an output " << text(y) << " and a window " << text(window);
  if (failed(verifyWindow(op, window.size())))
    return failure();
  if (x[0] != y[0] || x[1] != y[1]) // (C2)
    return op.emitOpError("has an input ") << text(x) << " and an output " << text(y) << ", which do not agree in batch and channels";
  for (size_t axis = 0; axis < window.size(); ++axis) {
    const int64_t span = (window[axis] - 1) * op.getDilations()[axis] + 1, begin = op.getPads()[axis], end = op.getPads()[window.size() + axis];
    if (begin < 0 || end < 0 || begin >= span || end >= span)
      return op.emitOpError("has pads ") << text(op.getPads()) << " around a window " << text(window) << ", which must be smaller than the dilated window";
    const int64_t room = x[axis + 2] + begin + end - span, stride = op.getStrides()[axis];
    const int64_t least = room < 0 ? 0 : room / stride + 1, most = room < 0 ? 0 : (room + stride - 1) / stride + 1;
    if (y[axis + 2] < 1 || y[axis + 2] < least || y[axis + 2] > most)
      return op.emitOpError("has ") << y[axis + 2] << " output places along axis " << axis + 2 << ", expected " << least << (least == most ? "" : " or " + std::to_string(most));
    if ((y[axis + 2] - 1) * stride >= x[axis + 2] + begin)
      return op.emitOpError("has a window outside the input along axis ") << axis + 2;
  }
  return success();
}

static LogicalResult verifyIndices(Operation *op, Value indices, Value output, ArrayRef<int64_t> window) {
  auto type = getTensorType(indices);
  if (type.getShape() != getTensorType(output).getShape())
    return op->emitOpError("has indices ") << text(type.getShape()) << " for windows " << text(getTensorType(output).getShape());
  const int64_t size = ShapedType::getNumElements(window);
  if (unsigned bits = type.getElementType().getIntOrFloatBitWidth(); bits < 8 || (bits < 64 && size > (int64_t(1) << (bits - 1))))
    return op->emitOpError("has indices of ") << type.getElementType() << ", which do not hold the " << size << " elements of a window";
  return success();
}

LogicalResult MaxPoolOp::verify() {
  return failure(failed(verifyPool(*this, getInput(), getResult())) || failed(verifyOneType(*this, {getInput(), getResult()})) || failed(verifyIndices(*this, getIndices(), getResult(), getWindow())));
}

LogicalResult MaxPoolGradOp::verify() {
  return failure(failed(verifyPool(*this, getResult(), getCotangent())) || failed(verifyOneType(*this, {getResult(), getCotangent()})) || failed(verifyIndices(*this, getIndices(), getCotangent(), getWindow())));
}

template <typename Op>
static LogicalResult verifyAverage(Op op, Value input, Value output) {
  if (failed(verifyPool(op, input, output)) || failed(verifyOneType(op, {input, output})))
    return failure();
  if (op.getCounted().size() != op.getPads().size() || llvm::any_of(op.getCounted(), [](int64_t size) { return size < 0; }))
    return op.emitOpError("counts a margin ") << text(op.getCounted()) << " beside pads " << text(op.getPads());
  return success();
}

LogicalResult AveragePoolOp::verify() { return verifyAverage(*this, getInput(), getResult()); }
LogicalResult AveragePoolGradOp::verify() { return verifyAverage(*this, getResult(), getCotangent()); }

Values MaxPoolOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  return {MaxPoolGradOp::create(builder, getLoc(), getInput().getType(), getIndices(), cotangents[0], getWindow(), getStrides(), getDilations(), getPads())};
}

Values AveragePoolOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  return {AveragePoolGradOp::create(builder, getLoc(), getInput().getType(), cotangents[0], getWindow(), getStrides(), getDilations(), getPads(), getCounted())};
}

Values AveragePoolGradOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  return {AveragePoolOp::create(builder, getLoc(), getCotangent().getType(), cotangents[0], getWindow(), getStrides(), getDilations(), getPads(), getCounted())};
}

//===- TrainBuilders.cpp - short forms to build train ops ----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Dialect/Train/TrainBuilders.h"

using namespace mlir;

namespace zopt::train {

FailureOr<SmallVector<int64_t>> broadcastShapes(ArrayRef<int64_t> a, ArrayRef<int64_t> b) {
  size_t rank = std::max(a.size(), b.size());
  SmallVector<int64_t> shape(rank, 1);
  for (size_t i = 0; i < rank; ++i) {
    int64_t da = i + a.size() < rank ? 1 : a[i + a.size() - rank];
    int64_t db = i + b.size() < rank ? 1 : b[i + b.size() - rank];
    if (da != db && da != 1 && db != 1)
      return failure();
    shape[i] = da == 1 ? db : da;
  }
  return shape;
}

FloatType getComputeType(Type elementType) {
  MLIRContext *context = elementType.getContext();
  if (elementType.isF64())
    return Float64Type::get(context);
  return Float32Type::get(context);
}

/// The type of an elementwise result. Where shapes do not agree it is the left operand's, and the op's verifier says so.
static RankedTensorType broadcastType(Value lhs, Value rhs, Type elementType) {
  FailureOr<SmallVector<int64_t>> shape = broadcastShapes(getTensorType(lhs).getShape(), getTensorType(rhs).getShape());
  return RankedTensorType::get(succeeded(shape) ? ArrayRef<int64_t>(*shape) : getTensorType(lhs).getShape(), elementType);
}

Value splat(OpBuilder &builder, Location loc, RankedTensorType type, double value) {
  Attribute element;
  if (auto floatType = dyn_cast<FloatType>(type.getElementType()))
    element = builder.getFloatAttr(floatType, value);
  else
    element = builder.getIntegerAttr(type.getElementType(), static_cast<int64_t>(value));
  return ConstantOp::create(builder, loc, type, DenseElementsAttr::get(type, element));
}

Value scalar(OpBuilder &builder, Location loc, Type elementType, double value) {
  return splat(builder, loc, RankedTensorType::get({}, elementType), value);
}

template <typename OpTy>
static Value binary(OpBuilder &builder, Location loc, Value lhs, Value rhs) {
  return OpTy::create(builder, loc, broadcastType(lhs, rhs, getTensorType(lhs).getElementType()), lhs, rhs);
}

Value add(OpBuilder &builder, Location loc, Value lhs, Value rhs) { return binary<AddOp>(builder, loc, lhs, rhs); }
Value sub(OpBuilder &builder, Location loc, Value lhs, Value rhs) { return binary<SubOp>(builder, loc, lhs, rhs); }
Value mul(OpBuilder &builder, Location loc, Value lhs, Value rhs) { return binary<MulOp>(builder, loc, lhs, rhs); }
Value div(OpBuilder &builder, Location loc, Value lhs, Value rhs) { return binary<DivOp>(builder, loc, lhs, rhs); }

Value compare(OpBuilder &builder, Location loc, ComparePredicate predicate, Value lhs, Value rhs) {
  return CompareOp::create(builder, loc, broadcastType(lhs, rhs, builder.getI1Type()), predicate, lhs, rhs);
}

Value select(OpBuilder &builder, Location loc, Value condition, Value onTrue, Value onFalse) {
  Type elementType = getTensorType(onTrue).getElementType();
  RankedTensorType branches = broadcastType(onTrue, onFalse, elementType);
  FailureOr<SmallVector<int64_t>> shape = broadcastShapes(getTensorType(condition).getShape(), branches.getShape());
  auto type = RankedTensorType::get(succeeded(shape) ? ArrayRef<int64_t>(*shape) : branches.getShape(), elementType);
  return SelectOp::create(builder, loc, type, condition, onTrue, onFalse);
}

Value cast(OpBuilder &builder, Location loc, Value value, Type elementType) {
  RankedTensorType type = getTensorType(value);
  if (type.getElementType() == elementType)
    return value;
  return CastOp::create(builder, loc, type.clone(elementType), value);
}

Value reshape(OpBuilder &builder, Location loc, Value value, ArrayRef<int64_t> shape) {
  RankedTensorType type = getTensorType(value);
  if (type.getShape() == shape)
    return value;
  return ReshapeOp::create(builder, loc, type.clone(shape), value);
}

Value broadcast(OpBuilder &builder, Location loc, Value value, ArrayRef<int64_t> shape) {
  RankedTensorType type = getTensorType(value);
  if (type.getShape() == shape)
    return value;
  return BroadcastOp::create(builder, loc, type.clone(shape), value);
}

Value transpose(OpBuilder &builder, Location loc, Value value, ArrayRef<int64_t> permutation) {
  RankedTensorType type = getTensorType(value);
  SmallVector<int64_t> shape;
  for (int64_t axis : permutation)
    shape.push_back(type.getDimSize(axis));
  return TransposeOp::create(builder, loc, type.clone(shape), value, permutation);
}

Value reduceSum(OpBuilder &builder, Location loc, Value value, ArrayRef<int64_t> axes, bool keepdims) {
  RankedTensorType type = getTensorType(value);
  SmallVector<int64_t> shape;
  for (int64_t axis = 0; axis < type.getRank(); ++axis) {
    if (!llvm::is_contained(axes, axis))
      shape.push_back(type.getDimSize(axis));
    else if (keepdims)
      shape.push_back(1);
  }
  return ReduceSumOp::create(builder, loc, type.clone(shape), value, axes, keepdims);
}

Value reduceTo(OpBuilder &builder, Location loc, Value value, ArrayRef<int64_t> shape) {
  RankedTensorType type = getTensorType(value);
  int64_t leading = type.getRank() - static_cast<int64_t>(shape.size());
  SmallVector<int64_t> axes;
  for (int64_t axis = 0; axis < type.getRank(); ++axis)
    if (type.getDimSize(axis) != 1 && (axis < leading || shape[axis - leading] == 1))
      axes.push_back(axis);
  if (!axes.empty())
    value = reduceSum(builder, loc, value, axes);
  return reshape(builder, loc, value, shape);
}

} // namespace zopt::train

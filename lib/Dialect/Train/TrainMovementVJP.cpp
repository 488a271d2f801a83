//===- TrainMovementVJP.cpp - derivatives of movement ops ----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Movement is linear, so its derivatives are its transposes and read no residual but indices.
//
//===----------------------------------------------------------------------===//

#include "zopt/Dialect/Train/TrainBuilders.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

using Values = SmallVector<Value>;

Values ReshapeOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  return {train::reshape(builder, getLoc(), cotangents[0], getTensorType(getInput()).getShape())};
}

Values TransposeOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  SmallVector<int64_t> inverse(getPermutation().size());
  for (auto [index, axis] : llvm::enumerate(getPermutation()))
    inverse[axis] = index;
  return {train::transpose(builder, getLoc(), cotangents[0], inverse)};
}

Values SliceOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  return {SliceGradOp::create(builder, getLoc(), getInput().getType(), cotangents[0], getStarts(), getStrides())};
}

Values ConcatOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  Values grads;
  int64_t rank = getTensorType(getResult()).getRank();
  SmallVector<int64_t> starts(rank, 0), strides(rank, 1);
  for (auto [index, input] : llvm::enumerate(getInputs())) {
    grads.push_back(needed[index] ? SliceOp::create(builder, getLoc(), input.getType(), cotangents[0], starts, strides).getResult() : Value());
    starts[getAxis()] += getTensorType(input).getDimSize(getAxis());
  }
  return grads;
}

Values BroadcastOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  return {reduceTo(builder, getLoc(), cotangents[0], getTensorType(getInput()).getShape())};
}

Values GatherOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  return {GatherGradOp::create(builder, getLoc(), getData().getType(), cotangents[0], getIndices(), getAxis()), Value()};
}

// Transposes of transposes, where import pads and scatters with them.
Values SliceGradOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  return {SliceOp::create(builder, getLoc(), getCotangent().getType(), cotangents[0], getStarts(), getStrides())};
}

Values GatherGradOp::buildVJP(OpBuilder &builder, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  auto type = getTensorType(getCotangent()).clone(getTensorType(cotangents[0]).getElementType());
  return {train::cast(builder, getLoc(), GatherOp::create(builder, getLoc(), type, cotangents[0], getIndices(), getAxis()), getTensorType(getCotangent()).getElementType()), Value()};
}

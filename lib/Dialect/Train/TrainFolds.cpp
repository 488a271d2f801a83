//===- TrainFolds.cpp - local simplifications ----------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A fold never changes a bit: it removes ops that move or convert nothing and joins two of the same kind.
//
//===----------------------------------------------------------------------===//

#include "zopt/Dialect/Train/TrainBuilders.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

OpFoldResult ConstantOp::fold(FoldAdaptor) { return getValue(); }

/// Whether every value of `from` has an exact counterpart in `to`.
static bool widens(Type from, Type to) {
  auto a = dyn_cast<FloatType>(from), b = dyn_cast<FloatType>(to);
  if (!a || !b)
    return false;
  return APFloat::isRepresentableBy(a.getFloatSemantics(), b.getFloatSemantics());
}

OpFoldResult CastOp::fold(FoldAdaptor) {
  if (getInput().getType() == getResult().getType())
    return getInput();
  // Widening and back again is the identity; narrowing and back again rounds.
  if (auto inner = getInput().getDefiningOp<CastOp>()) {
    Type source = getTensorType(inner.getInput()).getElementType();
    if (inner.getInput().getType() == getResult().getType() && widens(source, getTensorType(getInput()).getElementType()))
      return inner.getInput();
  }
  return {};
}

OpFoldResult ReshapeOp::fold(FoldAdaptor) {
  if (getInput().getType() == getResult().getType())
    return getInput();
  if (auto inner = getInput().getDefiningOp<ReshapeOp>()) {
    if (inner.getInput().getType() == getResult().getType())
      return inner.getInput();
    getInputMutable().assign(inner.getInput());
    return getResult();
  }
  return {};
}

OpFoldResult TransposeOp::fold(FoldAdaptor) {
  bool identity = true;
  for (auto [index, axis] : llvm::enumerate(getPermutation()))
    identity &= axis == static_cast<int64_t>(index);
  if (identity)
    return getInput();
  if (auto inner = getInput().getDefiningOp<TransposeOp>()) {
    SmallVector<int64_t> permutation;
    for (int64_t axis : getPermutation())
      permutation.push_back(inner.getPermutation()[axis]);
    setPermutation(permutation);
    getInputMutable().assign(inner.getInput());
    return getResult();
  }
  return {};
}

OpFoldResult BroadcastOp::fold(FoldAdaptor) {
  if (getInput().getType() == getResult().getType())
    return getInput();
  if (auto inner = getInput().getDefiningOp<BroadcastOp>()) {
    getInputMutable().assign(inner.getInput());
    return getResult();
  }
  return {};
}

//===----------------------------------------------------------------------===//
// Elementwise
//===----------------------------------------------------------------------===//

/// Elementwise ops broadcast themselves: reads through broadcasts that the other operands' shapes make anyway. Whether any operand changed.
static bool readThroughBroadcasts(Operation *op) {
  ArrayRef<int64_t> space = getTensorType(op->getResult(0)).getShape();
  bool changed = false;
  for (OpOperand &operand : op->getOpOperands()) {
    auto broadcast = operand.get().getDefiningOp<BroadcastOp>();
    if (!broadcast)
      continue;
    SmallVector<int64_t> shape(getTensorType(broadcast.getInput()).getShape());
    bool agrees = true;
    for (OpOperand &other : op->getOpOperands()) {
      if (&other == &operand)
        continue;
      FailureOr<SmallVector<int64_t>> merged = broadcastShapes(shape, getTensorType(other.get()).getShape());
      if ((agrees = agrees && succeeded(merged)))
        shape = *merged;
    }
    if (!agrees || ArrayRef<int64_t>(shape) != space)
      continue;
    operand.set(broadcast.getInput());
    changed = true;
  }
  return changed;
}

static OpFoldResult foldBroadcasts(Operation *op) {
  return readThroughBroadcasts(op) ? OpFoldResult(op->getResult(0)) : OpFoldResult();
}

/// Whether a constant operand is `number` everywhere.
static bool isSplatOf(Attribute operand, double number) {
  auto elements = dyn_cast_or_null<DenseFPElementsAttr>(operand);
  return elements && elements.isSplat() && elements.getSplatValue<APFloat>().isExactlyValue(number);
}

OpFoldResult AddOp::fold(FoldAdaptor) { return foldBroadcasts(*this); }
OpFoldResult SubOp::fold(FoldAdaptor) { return foldBroadcasts(*this); }
OpFoldResult PowOp::fold(FoldAdaptor) { return foldBroadcasts(*this); }
OpFoldResult MaxOp::fold(FoldAdaptor) { return foldBroadcasts(*this); }
OpFoldResult MinOp::fold(FoldAdaptor) { return foldBroadcasts(*this); }
OpFoldResult AndOp::fold(FoldAdaptor) { return foldBroadcasts(*this); }
OpFoldResult OrOp::fold(FoldAdaptor) { return foldBroadcasts(*this); }
OpFoldResult XorOp::fold(FoldAdaptor) { return foldBroadcasts(*this); }
OpFoldResult RemOp::fold(FoldAdaptor) { return foldBroadcasts(*this); }
OpFoldResult ShiftLeftOp::fold(FoldAdaptor) { return foldBroadcasts(*this); }
OpFoldResult ShiftRightOp::fold(FoldAdaptor) { return foldBroadcasts(*this); }
OpFoldResult CompareOp::fold(FoldAdaptor) { return foldBroadcasts(*this); }
OpFoldResult SelectOp::fold(FoldAdaptor) { return foldBroadcasts(*this); }

OpFoldResult MulOp::fold(FoldAdaptor adaptor) {
  if (isSplatOf(adaptor.getRhs(), 1.0) && getLhs().getType() == getType())
    return getLhs();
  if (isSplatOf(adaptor.getLhs(), 1.0) && getRhs().getType() == getType())
    return getRhs();
  return foldBroadcasts(*this);
}

OpFoldResult DivOp::fold(FoldAdaptor adaptor) {
  if (isSplatOf(adaptor.getRhs(), 1.0) && getLhs().getType() == getType())
    return getLhs();
  return foldBroadcasts(*this);
}

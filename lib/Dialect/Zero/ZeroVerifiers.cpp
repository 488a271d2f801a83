//===- ZeroVerifiers.cpp - what ops of zero check about symbols ----------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Each op checks itself and the symbols it names. What needs the whole module (a parameter in one bucket only, views before the free) is zopt-verify-explicit's.
//
//===----------------------------------------------------------------------===//

#include "zopt/Dialect/Train/Train.h"
#include "zopt/Dialect/Zero/Zero.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::zero;

namespace {

/// The op of type OpTy that `name` refers to; otherwise an error at `op` and null.
template <typename OpTy>
OpTy lookup(Operation *op, SymbolTableCollection &symbolTable, FlatSymbolRefAttr name) {
  Operation *found = symbolTable.lookupNearestSymbolFrom(op, name);
  if (!found) {
    op->emitOpError("refers to unknown symbol ") << name;
    return nullptr;
  }
  auto typed = dyn_cast<OpTy>(found);
  if (!typed)
    op->emitOpError("expects ") << name << " to be a '" << OpTy::getOperationName() << "', but got '" << found->getName() << "'";
  return typed;
}

/// The segment of `bucket` that holds `parameter`, or null.
SegmentAttr findSegment(BucketOp bucket, FlatSymbolRefAttr parameter) {
  for (SegmentAttr segment : bucket.getSegments().getAsRange<SegmentAttr>())
    if (segment.getParameter() == parameter)
      return segment;
  return nullptr;
}

} // namespace

//===----------------------------------------------------------------------===//
// BucketOp
//===----------------------------------------------------------------------===//

int64_t BucketOp::getLogicalElements() {
  if (getSegments().empty())
    return 0;
  auto last = cast<SegmentAttr>(getSegments().getValue().back());
  return llvm::alignTo(last.getEnd(), kBlockElements);
}

LogicalResult BucketOp::verifySymbolUses(SymbolTableCollection &symbolTable) {
  if (!lookup<GroupOp>(*this, symbolTable, getGroupAttr()))
    return failure();
  if (!isa<FloatType>(getComputeType()) || !isa<FloatType>(getGradientType()))
    return emitOpError("expects float compute and gradient types, but got ") << getComputeType() << " and " << getGradientType();
  if (getSegments().empty())
    return emitOpError("has no segments");

  int64_t end = 0;
  Type stateType;
  for (SegmentAttr segment : getSegments().getAsRange<SegmentAttr>()) {
    auto state = lookup<train::StateOp>(*this, symbolTable, segment.getParameter());
    if (!state)
      return failure();
    if (state.getRole() != train::Role::parameter)
      return emitOpError("segment ") << segment.getParameter() << " names a state that is not a parameter";
    RankedTensorType type = state.getTensorType();
    if (type.getNumElements() != segment.getElements())
      return emitOpError("segment ") << segment.getParameter() << " has " << segment.getElements() << " elements, but the state has " << type.getNumElements();
    if (segment.getOffset() % kBlockElements != 0)
      return emitOpError("segment ") << segment.getParameter() << " starts at " << segment.getOffset() << ", which is not a multiple of " << kBlockElements;
    if (segment.getOffset() < end)
      return emitOpError("segment ") << segment.getParameter() << " starts at " << segment.getOffset() << ", before the end of the one before it at " << end;
    if (segment.getReserved() < 0)
      return emitOpError("segment ") << segment.getParameter() << " reserves " << segment.getReserved() << " elements, but expects at least 0";
    end = segment.getEnd();
    if (!getFrozen() && !state.getTrained())
      return emitOpError("segment ") << segment.getParameter() << " names a parameter that is not trained, but the bucket is not frozen";
    if (!stateType)
      stateType = type.getElementType();
    else if (stateType != type.getElementType())
      return emitOpError("segment ") << segment.getParameter() << " has element type " << type.getElementType() << ", but the ones before it have " << stateType;
  }

  if (FlatSymbolRefAttr optimizer = getOptimizerAttr()) {
    if (getFrozen())
      return emitOpError("is frozen, but has optimizer ") << optimizer;
    if (!lookup<train::OptimizerOp>(*this, symbolTable, optimizer))
      return failure();
  }
  if (!getFrozen()) {
    if (getParameterPlacement() == Placement::sharded && getOptimizerPlacement() != Placement::sharded)
      return emitOpError("has sharded parameters but replicated optimizer state");
    if (getGradientPlacement() == Placement::sharded && getOptimizerPlacement() != Placement::sharded)
      return emitOpError("has sharded gradients but replicated optimizer state");
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Collectives
//===----------------------------------------------------------------------===//

FlatSymbolRefAttr AllGatherOp::getCollectiveBucket() { return getBucketAttr(); }
FlatSymbolRefAttr ReduceGradientsOp::getCollectiveBucket() { return getBucketAttr(); }
FlatSymbolRefAttr DirectionOp::getCollectiveBucket() { return getBucketAttr(); }
FlatSymbolRefAttr AllReduceOp::getCollectiveBucket() { return nullptr; }
FlatSymbolRefAttr GradientNormOp::getCollectiveBucket() { return nullptr; }
FlatSymbolRefAttr PublishOp::getCollectiveBucket() { return getBucketAttr(); }

LogicalResult AllGatherOp::verifySymbolUses(SymbolTableCollection &symbolTable) {
  auto bucket = lookup<BucketOp>(*this, symbolTable, getBucketAttr());
  if (!bucket)
    return failure();
  if (bucket.getParameterPlacement() != Placement::sharded)
    return emitOpError("gathers ") << getBucketAttr() << ", whose parameters are replicated";
  int64_t frees = llvm::count_if(getGathered().getUsers(), [](Operation *user) { return isa<FreeOp>(user); });
  if (frees != 1)
    return emitOpError("expects one 'zero.free' of its result, but got ") << frees;
  return success();
}

LogicalResult ViewOp::verifySymbolUses(SymbolTableCollection &symbolTable) {
  auto gather = getGathered().getDefiningOp<AllGatherOp>();
  if (!gather)
    return emitOpError("expects the result of a 'zero.all_gather'");
  auto bucket = lookup<BucketOp>(*this, symbolTable, gather.getBucketAttr());
  if (!bucket)
    return failure();
  if (!findSegment(bucket, getParameterAttr()))
    return emitOpError("refers to ") << getParameterAttr() << ", which is not in " << gather.getBucketAttr();
  auto state = lookup<train::StateOp>(*this, symbolTable, getParameterAttr());
  if (!state)
    return failure();
  auto type = cast<RankedTensorType>(getType());
  RankedTensorType expected = state.getTensorType().clone(bucket.getComputeType());
  if (type != expected)
    return emitOpError("has type ") << type << ", but " << getParameterAttr() << " in " << gather.getBucketAttr() << " is " << expected;
  return success();
}

LogicalResult ReduceGradientsOp::verifySymbolUses(SymbolTableCollection &symbolTable) {
  auto bucket = lookup<BucketOp>(*this, symbolTable, getBucketAttr());
  if (!bucket)
    return failure();
  if (bucket.getFrozen())
    return emitOpError("reduces ") << getBucketAttr() << ", which is frozen";
  ArrayAttr segments = bucket.getSegments();
  if (segments.size() != getGradients().size())
    return emitOpError("expects one gradient a segment: ") << getBucketAttr() << " has " << segments.size() << ", but got " << getGradients().size();
  for (auto [segment, gradient] : llvm::zip_equal(segments.getAsRange<SegmentAttr>(), getGradients())) {
    auto state = lookup<train::StateOp>(*this, symbolTable, segment.getParameter());
    if (!state)
      return failure();
    RankedTensorType expected = state.getTensorType().clone(bucket.getGradientType());
    if (gradient.getType() != expected)
      return emitOpError("gradient of ") << segment.getParameter() << " has type " << gradient.getType() << ", but expects " << expected;
  }
  return success();
}

LogicalResult AllReduceOp::verifySymbolUses(SymbolTableCollection &symbolTable) {
  if (!lookup<GroupOp>(*this, symbolTable, getGroupAttr()))
    return failure();
  if (getInputs().getTypes() != getResults().getTypes())
    return emitOpError("expects results of the operands' types");
  for (Value input : getInputs())
    if (auto type = cast<RankedTensorType>(input.getType()); type.getRank() > 1 && type.getNumElements() != 1)
      return emitOpError("expects scalars or vectors, but got ") << type;
  return success();
}

LogicalResult GradientNormOp::verifySymbolUses(SymbolTableCollection &symbolTable) {
  if (!lookup<GroupOp>(*this, symbolTable, getGroupAttr()))
    return failure();
  for (FlatSymbolRefAttr name : getBuckets().getAsRange<FlatSymbolRefAttr>()) {
    auto bucket = lookup<BucketOp>(*this, symbolTable, name);
    if (!bucket)
      return failure();
    if (bucket.getFrozen())
      return emitOpError("refers to ") << name << ", which is frozen and has no gradient";
  }
  return success();
}

LogicalResult PublishOp::verifySymbolUses(SymbolTableCollection &symbolTable) {
  auto bucket = lookup<BucketOp>(*this, symbolTable, getBucketAttr());
  if (!bucket)
    return failure();
  if (bucket.getFrozen() || bucket.getParameterPlacement() != Placement::replicated || bucket.getOptimizerPlacement() != Placement::sharded)
    return emitOpError("publishes ") << getBucketAttr() << ", which expects replicated parameters and sharded optimizer state";
  return success();
}

//===----------------------------------------------------------------------===//
// UpdateOp
//===----------------------------------------------------------------------===//

/// One a segment, of its state's type.
static LogicalResult verifyDirections(Operation *op, BucketOp bucket, TypeRange types, SymbolTableCollection &symbolTable) {
  if (bucket.getSegments().size() != types.size())
    return op->emitOpError("expects one direction a segment: @") << bucket.getSymName() << " has " << bucket.getSegments().size() << ", but got " << types.size();
  for (auto [segment, type] : llvm::zip_equal(bucket.getSegments().getAsRange<SegmentAttr>(), types)) {
    auto state = lookup<train::StateOp>(op, symbolTable, segment.getParameter());
    if (!state)
      return failure();
    if (type != state.getTensorType())
      return op->emitOpError("direction of ") << segment.getParameter() << " has type " << type << ", but expects " << state.getTensorType();
  }
  return success();
}

LogicalResult DirectionOp::verifySymbolUses(SymbolTableCollection &symbolTable) {
  auto bucket = lookup<BucketOp>(*this, symbolTable, getBucketAttr());
  if (!bucket)
    return failure();
  if (!bucket.getOptimizer())
    return emitOpError("is about ") << getBucketAttr() << ", which has no optimizer";
  auto optimizer = lookup<train::OptimizerOp>(*this, symbolTable, bucket.getOptimizerAttr());
  if (!optimizer)
    return failure();
  if (!optimizer.getNewtonSchulz())
    return emitOpError("is about ") << getBucketAttr() << ", whose optimizer " << bucket.getOptimizerAttr() << " makes no Newton-Schulz iterations";
  return verifyDirections(*this, bucket, getDirections().getTypes(), symbolTable);
}

LogicalResult UpdateOp::verifySymbolUses(SymbolTableCollection &symbolTable) {
  auto bucket = lookup<BucketOp>(*this, symbolTable, getBucketAttr());
  if (!bucket)
    return failure();
  if (!bucket.getOptimizer())
    return emitOpError("updates ") << getBucketAttr() << ", which has no optimizer";
  if (bucket.getSegments().size() != getDecays().size())
    return emitOpError("expects one decay a segment: ") << getBucketAttr() << " has " << bucket.getSegments().size() << ", but got " << getDecays().size();
  if (getRates() && bucket.getSegments().size() != getRates()->size())
    return emitOpError("expects one rate a segment: ") << getBucketAttr() << " has " << bucket.getSegments().size() << ", but got " << getRates()->size();
  auto optimizer = lookup<train::OptimizerOp>(*this, symbolTable, bucket.getOptimizerAttr());
  if (!optimizer)
    return failure();
  if (optimizer.getCyclesMomentum() != static_cast<bool>(getMomentum()))
    return emitOpError() << (getMomentum() ? "has a momentum, which " : "has no momentum, which ") << bucket.getOptimizerAttr() << (getMomentum() ? " does not take" : " takes");
  if (optimizer.getNewtonSchulz().has_value() == getDirections().empty())
    return emitOpError() << (getDirections().empty() ? "has no directions, which " : "has directions, which ") << bucket.getOptimizerAttr() << (getDirections().empty() ? " takes" : " does not take");
  return getDirections().empty() ? success() : verifyDirections(*this, bucket, getDirections().getTypes(), symbolTable);
}

//===- DirectionLowering.cpp - updates by Newton-Schulz iterations -------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A rank has a slice of a bucket, but the iterations need whole matrices: each rank computes the direction of its
// slice, the slices are gathered, every rank iterates over every matrix and takes its slice of the results. So the bits
// do not depend on the placement.
//
//===----------------------------------------------------------------------===//

#include "FunctionLowering.h"

using namespace mlir;
using namespace zopt;

LogicalResult FunctionLowering::lowerDirection(zero::DirectionOp op) {
  BucketHome &home = *context.bucketOf.lookup(op.getBucketAttr().getAttr());
  auto optimizer = context.module.lookupSymbol<train::OptimizerOp>(*home.op.getOptimizer());
  SmallVector<FlatSymbolRefAttr> scalars;
  for (Value value : {op.getScale(), op.getFinite()}) {
    FailureOr<FlatSymbolRefAttr> scalar = getScalar(value);
    if (failed(scalar))
      return failure();
    scalars.push_back(*scalar);
  }
  // What is not scheduled stands where its source is ready.
  auto gatherHere = [&](StorageId source, StorageId destination, int64_t bytes, StringRef what) {
    IntegerAttr id = builder.getI64IntegerAttr(context.nextCollective++);
    plan::AllGatherOp::create(builder, op.getLoc(), id, getRef(source), getRef(destination),
                              builder.getI64IntegerAttr(bytes),
                              builder.getStringAttr(what + " " + home.op.getSymName()));
    plan::WaitOp::create(builder, op.getLoc(), id);
  };
  auto temporary = [&](int64_t elements, Type type, plan::MemoryClass memoryClass) {
    return context.storages.createTemporary(elements * getElementBytes(type), memoryClass);
  };

  StorageId gradient = home.gradient;
  if (home.accumulates && !home.optimizerSharded &&
      !context.isAlone()) { // every rank updates everything, but accumulates a slice
    gradient = temporary(home.padded, home.gradientType, plan::MemoryClass::communication);
    gatherHere(home.gradient, gradient, home.slice * getElementBytes(home.gradientType), "gather gradient of");
  }
  const int64_t elements = home.optimizerSharded ? home.slice : home.padded;
  StorageId direction = temporary(elements, home.stateType, plan::MemoryClass::workspace);
  SmallVector<Attribute> buffers = {getRef(gradient)};
  for (StorageId slot : ArrayRef(home.slots).drop_back(optimizer.getAverage() ? 1 : 0))
    buffers.push_back(getRef(slot));
  buffers.append({getRef(direction), scalars[0], scalars[1]});
  KernelLaunch launch =
      context.kernels.getGenerator().getDirectionKernel(optimizer, home.gradientType, elements / zero::kBlockElements);
  plan::LaunchOp::create(builder, op.getLoc(), launch.kernel, builder.getArrayAttr(buffers),
                         builder.getDenseI64ArrayAttr({}), builder.getDenseI64ArrayAttr(launch.writes),
                         builder.getI64IntegerAttr(launch.extent), builder.getI64IntegerAttr(launch.grain));
  if (home.optimizerSharded) {
    StorageId whole = temporary(home.padded, home.stateType, plan::MemoryClass::communication);
    gatherHere(direction, whole, home.slice * getElementBytes(home.stateType), "gather direction of");
    direction = whole;
  }
  for (auto [result, segment] :
       llvm::zip_equal(op.getDirections(), home.op.getSegments().getAsRange<zero::SegmentAttr>()))
    views[result] = View::contiguous(direction, cast<RankedTensorType>(result.getType()), segment.getOffset());
  return success();
}

void FunctionLowering::assignDirections(zero::UpdateOp op) {
  BucketHome &home = *context.bucketOf.lookup(op.getBucketAttr().getAttr());
  StorageId storage =
      context.storages.createTemporary(home.padded * getElementBytes(home.stateType), plan::MemoryClass::workspace);
  bucketGradients[op] = storage;
  for (auto [value, segment] :
       llvm::zip_equal(op.getDirections(), home.op.getSegments().getAsRange<zero::SegmentAttr>()))
    written[op].push_back(assignDestination(
        value, View::contiguous(storage, cast<RankedTensorType>(value.getType()), segment.getOffset())));
}

FailureOr<FlatSymbolRefAttr> FunctionLowering::collectDirections(zero::UpdateOp op) {
  BucketHome &home = *context.bucketOf.lookup(op.getBucketAttr().getAttr());
  StorageId storage = bucketGradients.lookup(op);
  const int64_t elementBytes = getElementBytes(home.stateType);
  // Blocks are updated whole: what lies between matrices and behind the last is 0.
  int64_t end = 0;
  auto zeroUpTo = [&](int64_t begin) {
    if (begin > end)
      plan::ZeroOp::create(builder, op.getLoc(), getRef(storage), builder.getI64IntegerAttr(end * elementBytes),
                           builder.getI64IntegerAttr((begin - end) * elementBytes), nullptr);
  };
  for (auto [index, segment] : llvm::enumerate(home.op.getSegments().getAsRange<zero::SegmentAttr>())) {
    zeroUpTo(segment.getOffset());
    end = segment.getOffset() + segment.getElements();
    Value direction = op.getDirections()[index];
    if (!written[op][index] &&
        failed(copy(op.getLoc(), getView(direction),
                    View::contiguous(storage, cast<RankedTensorType>(direction.getType()), segment.getOffset()))))
      return failure();
  }
  zeroUpTo(home.padded);
  return getRef(storage);
}

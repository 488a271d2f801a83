//===- StatePlacement.cpp - where states live on a rank ------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Of a trained bucket of n padded elements in slices of s = n / world:
//
// | gradients | optimizer | accumulation | reduced gradient |
// |---|---|---|---|
// | replicated | replicated | 1 | n elements, all-reduced in place |
// | replicated | sharded | 1 | n elements, reduce-scattered in place into the rank's slice of them |
// | sharded | sharded | 1 | s elements, reduce-scattered out of a bucket that is freed |
// | any | any | more | s elements of the state's type (fp32), accumulated out of a bucket that is freed |
//
//===----------------------------------------------------------------------===//

#include "Lowering.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace zopt;

View BucketHome::getView(StorageId storage, StringAttr parameter, RankedTensorType type) const {
  View view = View::contiguous(storage, type, offsets.lookup(parameter));
  if (int64_t elements = reserved.lookup(parameter); elements > 0 && type.getRank() == 2)
    view.padding = {type.getDimSize(0), type.getDimSize(0) + elements / type.getDimSize(1), type.getDimSize(1)};
  return view;
}

LogicalResult StatePlacement::place(OpBuilder &builder) {
  ModuleOp module = context.module;
  SymbolTable symbols(module);
  for (auto bucket : module.getOps<zero::BucketOp>()) {
    homes.push_back(std::make_unique<BucketHome>());
    BucketHome &home = *homes.back();
    home.op = bucket;
    for (auto segment : bucket.getSegments().getAsRange<zero::SegmentAttr>()) {
      home.offsets[segment.getParameter().getAttr()] = segment.getOffset();
      if (segment.getReserved() > 0)
        home.reserved[segment.getParameter().getAttr()] = segment.getReserved();
      context.homeOf[segment.getParameter().getAttr()] = &home;
      home.stateType = symbols.lookup<train::StateOp>(segment.getParameter().getAttr()).getTensorType().getElementType();
    }
    context.bucketOf[bucket.getSymNameAttr()] = &home;
    placeBucket(home, builder);
  }

  // Optimizer state of a bucket's parameters is in its slots.
  DenseSet<StringAttr> inSlots;
  for (auto &home : homes)
    if (std::optional<StringRef> optimizer = home->op.getOptimizer())
      for (auto slot : symbols.lookup<train::OptimizerOp>(*optimizer).getSlots().getAsRange<StringAttr>())
        for (auto &[parameter, offset] : home->offsets)
          inSlots.insert(StringAttr::get(module.getContext(), parameter.getValue() + "." + slot.getValue()));
  for (auto state : module.getOps<train::StateOp>()) {
    StringAttr name = state.getSymNameAttr();
    if (context.homeOf.contains(name) || inSlots.contains(name))
      continue;
    RankedTensorType type = state.getTensorType();
    StorageId storage = context.storages.create(name.getValue() + ".value", type.getNumElements() * getElementBytes(type.getElementType()), plan::MemoryClass::buffers, /*persistent=*/true);
    context.stateOf[name] = storage;
    plan::PlacedStateOp::create(builder, state.getLoc(), FlatSymbolRefAttr::get(name), context.storages.getRef(storage));
  }
  return success();
}

void StatePlacement::placeBucket(BucketHome &home, OpBuilder &builder) {
  using zero::Placement;
  zero::BucketOp bucket = home.op;
  StorageTable &storages = context.storages;
  StringRef name = bucket.getSymName();
  bool trained = !bucket.getFrozen(), alone = context.isAlone();
  home.padded = llvm::alignTo(bucket.getLogicalElements(), context.worldSize * zero::kBlockElements);
  home.slice = home.padded / context.worldSize;
  home.parametersSharded = !alone && bucket.getParameterPlacement() == Placement::sharded;
  home.optimizerSharded = !alone && trained && bucket.getOptimizerPlacement() == Placement::sharded;
  home.gradientsSharded = !alone && trained && bucket.getGradientPlacement() == Placement::sharded;
  home.accumulates = trained && context.accumSteps > 1;

  int64_t computeBytes = getElementBytes(bucket.getComputeType()), stateBytes = getElementBytes(home.stateType);
  home.parameters = storages.create(name + ".parameters", (home.parametersSharded ? home.slice : home.padded) * computeBytes, plan::MemoryClass::parameters, true);
  if (home.optimizerSharded && !home.parametersSharded)
    home.parameterSlice = storages.createSlice(home.parameters, name + ".parameters.slice", home.slice * computeBytes);

  SmallVector<Attribute> slots;
  FlatSymbolRefAttr master, gradient;
  if (std::optional<StringRef> optimizer = bucket.getOptimizer()) {
    int64_t bytes = (home.optimizerSharded ? home.slice : home.padded) * stateBytes;
    if (bucket.getComputeType() != home.stateType) {
      home.master = storages.create(name + ".master", bytes, plan::MemoryClass::optimizer, true);
      master = storages.getRef(home.master);
    }
    for (auto slot : context.module.lookupSymbol<train::OptimizerOp>(*optimizer).getSlots().getAsRange<StringAttr>()) {
      home.slots.push_back(storages.create(name + "." + slot.getValue(), bytes, plan::MemoryClass::optimizer, true));
      slots.push_back(storages.getRef(home.slots.back()));
    }
  }

  bool gradientWhole = false;
  if (trained) {
    home.gradientType = home.accumulates ? home.stateType : bucket.getGradientType();
    int64_t bytes = getElementBytes(home.gradientType);
    // A gradient that is not accumulated is needed from backward to the update only: forward's activations may lie in its place.
    bool lasts = home.accumulates || !context.isGpu();
    if (home.accumulates || home.gradientsSharded) {
      home.gradient = storages.create(name + ".gradient", home.slice * bytes, plan::MemoryClass::gradients, lasts);
      gradientWhole = alone;
    } else {
      home.gradientWhole = storages.create(name + ".gradient", home.padded * bytes, plan::MemoryClass::gradients, lasts || home.optimizerSharded); // a slice of it has a place for each rank
      gradientWhole = !home.optimizerSharded;
      home.gradient = gradientWhole ? home.gradientWhole : storages.createSlice(home.gradientWhole, name + ".gradient.slice", home.slice * bytes);
    }
    gradient = storages.getRef(home.gradient);
  }
  plan::PlacedBucketOp::create(builder, bucket.getLoc(), FlatSymbolRefAttr::get(bucket.getSymNameAttr()), builder.getI64IntegerAttr(home.padded), builder.getI64IntegerAttr(home.slice),
                               storages.getRef(home.parameters), master, builder.getArrayAttr(slots), gradient, trained ? TypeAttr::get(home.gradientType) : nullptr,
                               gradientWhole ? builder.getUnitAttr() : nullptr);
}

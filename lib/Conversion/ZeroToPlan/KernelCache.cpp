//===- KernelCache.cpp - kernels of ops that are alike -------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A model repeats its layers, so most ops have a twin whose kernels are there already.
//
//===----------------------------------------------------------------------===//

#include "Lowering.h"

using namespace mlir;
using namespace zopt;

/// Equal but for operands, which layouts stand for, and for discardable attributes, which say nothing about kernels.
static bool isAlike(Operation *a, Operation *b) {
  if (a->getName() != b->getName() || a->getResultTypes() != b->getResultTypes() || a->getNumRegions() != b->getNumRegions())
    return false;
  if (!a->getName().compareOpProperties(a->getPropertiesStorage(), b->getPropertiesStorage()))
    return false;
  return llvm::all_of(llvm::zip(a->getRegions(), b->getRegions()), [](auto regions) {
    return OperationEquivalence::isRegionEquivalentTo(&std::get<0>(regions), &std::get<1>(regions), OperationEquivalence::IgnoreLocations);
  });
}

FailureOr<KernelPlan> KernelCache::get(Operation *op, ArrayRef<TensorLayout> layouts) {
  llvm::hash_code hash = llvm::hash_combine(op->getName(), op->getName().hashOpProperties(op->getPropertiesStorage()));
  for (Region &region : op->getRegions())
    for (Operation &inner : region.getOps())
      hash = llvm::hash_combine(hash, inner.getName());
  for (const TensorLayout &layout : layouts)
    hash = llvm::hash_combine(hash, layout.elementType, llvm::hash_combine_range(layout.shape), llvm::hash_combine_range(layout.strides), layout.alignment);
  auto sameLayouts = [&](ArrayRef<TensorLayout> other) {
    return llvm::equal(layouts, other, [](const TensorLayout &a, const TensorLayout &b) { return a.elementType == b.elementType && a.shape == b.shape && a.strides == b.strides && a.alignment == b.alignment; });
  };
  for (Entry &entry : entries[hash])
    if (sameLayouts(entry.layouts) && isAlike(entry.op, op))
      return entry.plan;
  FailureOr<KernelPlan> plan = generator.generate(op, layouts);
  if (failed(plan))
    return failure();
  entries[hash].push_back({op, llvm::to_vector(layouts), *plan});
  return plan;
}

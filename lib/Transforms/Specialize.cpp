//===- Specialize.cpp - fix the number of ranks --------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Transforms/Passes.h"

namespace zopt {
#define GEN_PASS_DEF_SPECIALIZE
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;

namespace {

/// The divisors of `product` next to `ranks`, as text: "2 or 4".
std::string nearestDivisors(int64_t product, int64_t ranks) {
  int64_t below = 0, above = 0;
  for (int64_t candidate = std::min(ranks, product); candidate >= 1 && !below; --candidate)
    if (product % candidate == 0)
      below = candidate;
  for (int64_t candidate = ranks + 1; candidate <= product && !above; ++candidate)
    if (product % candidate == 0)
      above = candidate;
  std::string text = std::to_string(below);
  if (above)
    text += " or " + std::to_string(above);
  return text;
}

struct SpecializePass : zopt::impl::SpecializeBase<SpecializePass> {
  using SpecializeBase::SpecializeBase;

  void runOnOperation() override {
    if (failed(resolveBatch()))
      return signalPassFailure();
    for (auto function : getOperation().getOps<func::FuncOp>())
      for (Operation &op : llvm::make_early_inc_range(function.getBody().front())) {
        if (isa<zero::WorldSizeOp>(op))
          fold(&op, worldSize);
        else if (isa<zero::AccumStepsOp>(op))
          fold(&op, accumSteps);
      }
    auto setAttr = [&](StringRef name, int64_t value) { getOperation()->setAttr(name, IntegerAttr::get(IntegerType::get(&getContext(), 64), value)); };
    setAttr("train.world_size", worldSize);
    setAttr("train.accum_steps", accumSteps);
    setAttr("train.global_batch", microBatch * accumSteps * worldSize);
  }

private:
  std::optional<int64_t> getCount(StringRef name) {
    auto attr = getOperation()->getAttrOfType<IntegerAttr>(name);
    return attr ? std::optional(attr.getInt()) : std::nullopt;
  }

  LogicalResult resolveBatch() {
    ModuleOp module = getOperation();
    if (worldSize < 1)
      return module.emitError("world-size is ") << int64_t(worldSize) << ", but expects at least 1";
    if (std::optional<int64_t> ranks = getCount("train.world_size"); ranks && *ranks != worldSize)
      return module.emitError("is specialized for ") << *ranks << " ranks, but " << int64_t(worldSize) << " are asked for";
    microBatch = getCount("train.micro_batch").value_or(1);
    std::optional<int64_t> accum = getCount("train.accum_steps"), global = getCount("train.global_batch");
    if (microBatch < 1 || accum.value_or(1) < 1 || global.value_or(1) < 1)
      return module.emitError("expects a positive micro-batch, accumulation and global batch, but got ") << microBatch << ", " << accum.value_or(1) << " and " << global.value_or(1);
    if (!global) {
      accumSteps = accum.value_or(1);
      return success();
    }
    int64_t perStep = microBatch * accum.value_or(1);
    if (*global % perStep != 0)
      return module.emitError("global batch ") << *global << " is not a multiple of micro-batch " << microBatch << (accum ? " x accumulation " + std::to_string(*accum) : std::string());
    int64_t shares = *global / perStep; // micro-batches to spread over ranks, and over micro-steps where accumulation is free
    if (accum && shares != worldSize)
      return module.emitError("global batch ") << *global << " is micro-batch " << microBatch << " x accumulation " << *accum << " x " << shares << " ranks, but there are " << int64_t(worldSize);
    if (shares % worldSize != 0)
      return module.emitError("global batch ") << *global << " with micro-batch " << microBatch << " does not divide by " << int64_t(worldSize) << " ranks; it does by " << nearestDivisors(shares, worldSize);
    accumSteps = accum.value_or(shares / worldSize);
    return success();
  }

  void fold(Operation *op, int64_t value) {
    auto type = cast<RankedTensorType>(op->getResult(0).getType());
    OpBuilder builder(op);
    auto constant = train::ConstantOp::create(builder, op->getLoc(), type, DenseElementsAttr::get(type, builder.getFloatAttr(type.getElementType(), static_cast<double>(value))));
    op->replaceAllUsesWith(constant);
    op->erase();
  }

  int64_t microBatch = 1, accumSteps = 1;
};

} // namespace

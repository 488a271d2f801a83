//===- SetBatch.cpp - writes how the global batch is made on the module ---===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Transforms/Passes.h"
#include "mlir/IR/BuiltinOps.h"

namespace zopt {
#define GEN_PASS_DEF_SETBATCHPASS
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;

namespace {
struct SetBatchPass : zopt::impl::SetBatchPassBase<SetBatchPass> {
  using SetBatchPassBase::SetBatchPassBase;

  void runOnOperation() final {
    ModuleOp module = getOperation();
    Builder builder(&getContext());
    module->setAttr("train.mode", builder.getStringAttr(mode));
    if (gradAccum > 0)
      module->setAttr("train.accum_steps", builder.getI64IntegerAttr(gradAccum));
    if (globalBatch <= 0)
      return;
    module->setAttr("train.global_batch", builder.getI64IntegerAttr(globalBatch));
    // The micro-batch is in the graph's shapes already; what does not divide can never run, on any number of ranks.
    auto micro = module->getAttrOfType<IntegerAttr>("train.micro_batch");
    int64_t part = (micro ? micro.getInt() : 1) * std::max<int64_t>(1, gradAccum);
    if (globalBatch % part) {
      module.emitError("global batch ") << int64_t(globalBatch) << " is not divisible by micro-batch " << (micro ? micro.getInt() : 1) << " times " << std::max<int64_t>(1, gradAccum) << " micro-steps";
      signalPassFailure();
    }
  }
};
} // namespace

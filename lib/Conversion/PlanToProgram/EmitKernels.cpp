//===- EmitKernels.cpp - a plan's kernels as a file ------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "LowerKernels.h"
#include "zopt/Conversion/Passes.h"
#include "zopt/Conversion/PlanToProgram.h"

namespace zopt {
#define GEN_PASS_DEF_EMITKERNELS
#include "zopt/Conversion/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;

namespace {

struct EmitKernelsPass : zopt::impl::EmitKernelsBase<EmitKernelsPass> {
  using EmitKernelsBase::EmitKernelsBase;

  void getDependentDialects(DialectRegistry &registry) const override { registerLoweringDialects(registry); }

  void runOnOperation() override {
    if (failed(compileKernels(getOperation(), output)))
      signalPassFailure();
  }
};

} // namespace

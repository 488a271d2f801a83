//===- AssignResiduals.cpp - decide on values that backward needs --------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The decisions are attributes, so that a solver can take others (recompute, another tier) without a new mechanism; a gathered weight never is a residual.
//
//===----------------------------------------------------------------------===//

#include "Residuals.h"
#include "zopt/Transforms/Passes.h"

namespace zopt {
#define GEN_PASS_DEF_ASSIGNRESIDUALS
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;

namespace {

struct AssignResidualsPass : zopt::impl::AssignResidualsBase<AssignResidualsPass> {
  void runOnOperation() override {
    auto keep = StringAttr::get(&getContext(), zero::stringifyResidualDecision(zero::ResidualDecision::keep));
    for (auto function : getOperation().getOps<func::FuncOp>()) {
      for (Operation &op : function.getBody().front())
        op.removeAttr(kResidualAttrName);
      for (Operation *op : findResiduals(function))
        op->setAttr(kResidualAttrName, keep);
    }
  }
};

} // namespace

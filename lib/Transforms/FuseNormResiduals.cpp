//===- FuseNormResiduals.cpp - a norm's gradient and the residual's ------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// In a residual block what reaches a norm's input comes by two ways, through the norm and past it. Added up in the norm's gradient kernel, their sum costs one reading of the second instead of a kernel that
// reads both and writes the sum.
//
//===----------------------------------------------------------------------===//

#include "zopt/Dialect/Train/TrainBuilders.h"
#include "zopt/Transforms/Passes.h"

namespace zopt {
#define GEN_PASS_DEF_FUSENORMRESIDUALS
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

namespace {

struct FuseNormResidualsPass : zopt::impl::FuseNormResidualsBase<FuseNormResidualsPass> {
  void runOnOperation() override {
    for (auto sum : llvm::make_early_inc_range(getOperation().getBody().front().getOps<AddOp>()))
      if (!fuse<LayerNormGradOp>(sum))
        fuse<RMSNormGradOp>(sum);
  }

private:
  template <typename NormGradOp>
  bool fuse(AddOp sum) {
    if (getTensorType(sum.getResult()).getElementType().getIntOrFloatBitWidth() != 16)
      return false;
    for (Value value : {sum.getRhs(), sum.getLhs()}) {
      auto gradient = value.getDefiningOp<NormGradOp>();
      Value other = value == sum.getRhs() ? sum.getLhs() : sum.getRhs();
      if (!gradient || !gradient->hasOneUse() || gradient.getAddend() || value == other || other.getType() != sum.getType() || value.getType() != sum.getType() || gradient->getBlock() != sum->getBlock())
        continue;
      gradient->moveBefore(sum);
      gradient.getAddendMutable().assign(other);
      sum.getResult().replaceAllUsesWith(gradient.getResult());
      sum.erase();
      return true;
    }
    return false;
  }
};

} // namespace

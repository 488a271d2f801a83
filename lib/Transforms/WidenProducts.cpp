//===- WidenProducts.cpp - products of fp16 in fp32 -----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Dialect/Train/TrainBuilders.h"
#include "zopt/Transforms/Passes.h"

namespace zopt {
#define GEN_PASS_DEF_WIDENPRODUCTSPASS
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

namespace {

struct WidenProductsPass : zopt::impl::WidenProductsPassBase<WidenProductsPass> {
  void runOnOperation() override {
    SmallVector<Operation *> products;
    getOperation().walk([&](Operation *op) {
      if (isa<MatmulOp, ConvOp, ConvInputGradOp, ConvWeightGradOp>(op) && getTensorType(op->getOperand(0)).getElementType().isF16())
        products.push_back(op);
    });
    for (Operation *op : products) {
      OpBuilder builder(op);
      Value result = op->getResult(0);
      Type wide = builder.getF32Type();
      for (OpOperand &operand : op->getOpOperands())
        operand.set(train::cast(builder, op->getLoc(), operand.get(), wide));
      RankedTensorType type = getTensorType(result);
      if (type.getElementType() == wide)
        continue;
      result.setType(type.clone(wide));
      builder.setInsertionPointAfter(op);
      Value narrow = train::cast(builder, op->getLoc(), result, type.getElementType());
      result.replaceAllUsesExcept(narrow, narrow.getDefiningOp());
    }
  }
};

} // namespace

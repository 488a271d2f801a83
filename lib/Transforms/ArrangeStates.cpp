//===- ArrangeStates.cpp - states at the ends of a function --------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A model with batch normalization adds to two states a layer, each of a few elements, and moves two: as ops of their own
// these would be copies, an addition and a zeroing each.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "zopt/Dialect/Train/TrainBuilders.h"
#include "zopt/Transforms/Passes.h"
#include "llvm/ADT/MapVector.h"

namespace zopt {
#define GEN_PASS_DEF_ARRANGESTATES
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

namespace {

/// The ops of a function on one state, in their order.
struct Uses {
  SmallVector<AccumulateOp> accumulations;
  SmallVector<ReadStateOp> reads;
  SmallVector<WriteStateOp> writes;

  bool areReadsBefore(Operation *op) const {
    return llvm::all_of(reads, [&](ReadStateOp read) { return read->isBeforeInBlock(op); });
  }
};

struct ArrangeStatesPass : zopt::impl::ArrangeStatesBase<ArrangeStatesPass> {
  void runOnOperation() override {
    Block &block = getOperation().getBody().front();
    llvm::MapVector<StringAttr, Uses> states;
    for (Operation &op : block)
      if (auto accumulate = dyn_cast<AccumulateOp>(op))
        states[accumulate.getStateAttr().getAttr()].accumulations.push_back(accumulate);
      else if (auto read = dyn_cast<ReadStateOp>(op))
        states[read.getStateAttr().getAttr()].reads.push_back(read);
      else if (auto write = dyn_cast<WriteStateOp>(op))
        states[write.getStateAttr().getAttr()].writes.push_back(write);
    const bool isMicroStep = !block.getOps<BackwardOp>().empty();
    auto steps = getOperation()->getParentOp()->getAttrOfType<IntegerAttr>("train.accum_steps");
    for (Uses &uses : llvm::make_second_range(states)) {
      if (isMicroStep && uses.accumulations.size() == 1 && uses.writes.empty() && uses.areReadsBefore(uses.accumulations[0]))
        uses = writeOut(uses, steps && steps.getInt() == 1);
      if (uses.accumulations.empty() && uses.writes.size() == 1 && uses.areReadsBefore(uses.writes[0])) {
        for (ReadStateOp read : uses.reads)
          read->moveBefore(&block, block.begin());
        uses.writes[0]->moveBefore(block.getTerminator());
      }
    }
  }

private:
  static Uses writeOut(const Uses &uses, bool isOnce) {
    AccumulateOp op = uses.accumulations[0];
    OpBuilder builder(op);
    Location loc = op.getLoc();
    Value value = op.getValue();
    RankedTensorType type = getTensorType(value);
    Uses made;
    if (isOnce) {
      for (ReadStateOp read : uses.reads) {
        OpBuilder early(read);
        read.getResult().replaceAllUsesWith(splat(early, loc, type, 0));
        read.erase();
      }
    } else {
      made.reads = uses.reads;
      made.reads.push_back(ReadStateOp::create(builder, loc, type, op.getStateAttr()));
      value = add(builder, loc, made.reads.back(), value);
    }
    made.writes.push_back(WriteStateOp::create(builder, loc, op.getStateAttr(), value));
    made.writes[0].setAccumulates(!isOnce);
    op.erase();
    return made;
  }
};

} // namespace

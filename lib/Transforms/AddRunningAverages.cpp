//===- AddRunningAverages.cpp - running averages as additions -------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RunningAverages.h"
#include "StepStates.h"
#include "zopt/Dialect/Train/TrainBuilders.h"
#include "zopt/Dialect/Zero/Zero.h"
#include "zopt/Transforms/Passes.h"
#include "llvm/ADT/StringSet.h"

namespace zopt {
#define GEN_PASS_DEF_ADDRUNNINGAVERAGESPASS
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

void zopt::applyRunningAverages(OpBuilder &builder, ModuleOp module, Value isApplied) {
  Location loc = isApplied.getLoc();
  SymbolTable symbols(module);
  for (StateOp movement : module.getOps<StateOp>()) {
    if (movement.getRole() != Role::gradient || !movement.getSymName().ends_with(kMovement))
      continue;
    auto state = symbols.lookup<StateOp>(movement.getSymName().drop_back(kMovement.size()));
    RankedTensorType type = state.getTensorType();
    Value moved = ReadStateOp::create(builder, loc, type, movement.getSymName()); // over ranks this is the sum
    Value ranks = zero::WorldSizeOp::create(builder, loc, RankedTensorType::get({}, type.getElementType()));
    Value average = ReadStateOp::create(builder, loc, type, state.getSymName());
    Value next = add(builder, loc, average, div(builder, loc, moved, ranks));
    WriteStateOp::create(builder, loc, state.getSymName(), select(builder, loc, isApplied, next, average));
  }
}

namespace {

class AddRunningAveragesPass : public zopt::impl::AddRunningAveragesPassBase<AddRunningAveragesPass> {
public:
  void runOnOperation() override {
    ModuleOp module = getOperation();
    auto forward = module.lookupSymbol<func::FuncOp>(kForward);
    if (!forward)
      return;
    auto mode = module->getAttrOfType<StringAttr>(kMode);
    const bool trains = mode && mode.getValue() == "train";
    llvm::StringSet<> moved;
    for (auto average : llvm::make_early_inc_range(forward.getOps<RunningAverageOp>())) {
      if (!moved.insert(average.getState()).second) {
        average.emitError() << "running average " << average.getStateAttr() << " is moved by two nodes";
        return signalPassFailure();
      }
      if (trains)
        accumulate(average);
      average.erase();
    }
  }

private:
  /// With a the average before the step and d what micro-steps have moved it by: d grows by (value - (a + d)) * (1 -
  /// momentum).
  void accumulate(RunningAverageOp op) {
    auto state = SymbolTable::lookupNearestSymbolFrom<StateOp>(op, op.getStateAttr());
    RankedTensorType type = state.getTensorType();
    std::string name = (op.getState() + kMovement).str();
    createState(getOperation(), name, type, Role::gradient, 0.0);
    OpBuilder builder(op);
    Location loc = op.getLoc();
    Value average = ReadStateOp::create(builder, loc, type, op.getState()),
          movement = ReadStateOp::create(builder, loc, type, name);
    Value distance = sub(builder, loc, cast(builder, loc, op.getValue(), type.getElementType()),
                         add(builder, loc, average, movement));
    Value share = scalar(builder, loc, type.getElementType(), 1.0 - op.getMomentum().convertToDouble());
    AccumulateOp::create(builder, loc, name, mul(builder, loc, distance, share));
  }
};

} // namespace

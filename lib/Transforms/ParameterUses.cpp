//===- ParameterUses.cpp - who reads which parameters --------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "ParameterUses.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

using namespace mlir;
using namespace zopt;

/// Ops that may be repeated: pure, without regions, and no contraction.
static bool isRepeatable(Operation *op) {
  return op->getNumOperands() > 0 && op->getNumRegions() == 0 && isPure(op) && !isa<train::CostOpInterface>(op);
}

ParameterUses::ParameterUses(func::FuncOp function, llvm::function_ref<bool(StringAttr)> isParameter) {
  int64_t position = -1;
  bool sawBackward = false;
  for (Operation &op : function.getBody().front()) {
    ++position;
    if (isa<train::BackwardOp>(op)) {
      backwardPosition = position;
      sawBackward = true;
    }
    if (auto read = dyn_cast<train::ReadStateOp>(op)) {
      if (isParameter(read.getStateAttr().getAttr()))
        parametersOf[read.getValue()] = {read.getStateAttr().getAttr()};
      continue;
    }

    SmallVector<StringAttr, 2> names;
    bool onlyParameters = true;
    for (Value operand : op.getOperands()) {
      auto it = parametersOf.find(operand);
      if (it != parametersOf.end())
        names.append(it->second.begin(), it->second.end());
      else if (!operand.getDefiningOp() || !operand.getDefiningOp()->hasTrait<OpTrait::ConstantLike>())
        onlyParameters = false;
    }
    if (names.empty())
      continue;
    if (onlyParameters && isRepeatable(&op)) {
      for (Value result : op.getResults())
        parametersOf[result] = names;
      continue;
    }
    for (OpOperand &operand : op.getOpOperands()) {
      auto it = parametersOf.find(operand.get());
      if (it != parametersOf.end())
        uses.push_back({&operand, position, it->second});
    }
  }
  if (!sawBackward)
    backwardPosition = position + 1;
}

func::FuncOp zopt::getMicroStep(ModuleOp module) {
  if (auto function = module.lookupSymbol<func::FuncOp>("micro_step"))
    return function;
  return module.lookupSymbol<func::FuncOp>("forward");
}

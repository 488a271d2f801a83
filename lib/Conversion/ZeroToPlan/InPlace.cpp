//===- InPlace.cpp - results that take the place of an operand -----------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Kernels that read an element, or a row, before they write the same one may write over an operand that nothing reads afterwards. The largest such operand of a language model is its logits: their gradient
// takes no memory of its own.
//
//===----------------------------------------------------------------------===//

#include "FunctionLowering.h"

using namespace mlir;
using namespace zopt;

/// The value whose elements `value` is a view of.
static Value skipMovement(Value value) {
  while (Operation *op = value.getDefiningOp()) {
    if (!isMovement(op))
      break;
    value = op->getOperand(0);
  }
  return value;
}

void FunctionLowering::computeLastReads() {
  // What reads through a view reads the value; where movement turns out to be a copy, this is later than the truth.
  for (Operation &op : function.getBody().front())
    if (!isMovement(&op))
      for (Value operand : op.getOperands())
        lastReads[skipMovement(operand)] = &op;
}

/// Operands whose place a kernel of `op` may take: it reads an element, or a row, before it writes the same one.
static bool allowsInPlace(Operation *op, unsigned operand) {
  if (isa<train::CrossEntropyGradOp, train::CrossEntropyStepOp, train::RotaryOp>(op))
    return operand == 0;
  // A library reads its factors while it writes: the addend must not be one of them too.
  if (auto product = dyn_cast<train::FusedMatmulOp>(op))
    return product.getAddend() && product->getOperand(operand) == product.getAddend() && llvm::count(product->getOperands(), product.getAddend()) == 1;
  // The residual's gradient is read where the sum is written.
  if (auto norm = dyn_cast<train::LayerNormGradOp>(op))
    return norm.getAddend() && norm->getOperand(operand) == norm.getAddend();
  if (auto norm = dyn_cast<train::RMSNormGradOp>(op))
    return norm.getAddend() && norm->getOperand(operand) == norm.getAddend();
  return op->hasTrait<train::Elementwise>() || isa<train::FusedOp>(op);
}

std::optional<View> FunctionLowering::getInPlaceView(Value result) {
  Operation *op = result.getDefiningOp();
  if (!context.isGpu() || (result != op->getResult(0) && !isa<train::FusedOp>(op)))
    return std::nullopt;
  for (OpOperand &operand : op->getOpOperands()) {
    Value value = operand.get(), root = skipMovement(value);
    if (!allowsInPlace(op, operand.getOperandNumber()) || value.getType() != result.getType() || lastReads.lookup(root) != op)
      continue;
    View view = getView(value);
    if (owners.lookup(view.storage) != root || view.offset != 0)
      continue;
    if (llvm::any_of(op->getOperands(), [&](Value other) { return other != value && getView(other).storage == view.storage; }))
      continue;
    owners[view.storage] = result;
    return view;
  }
  return std::nullopt;
}

bool FunctionLowering::isReadBefore(train::ReadStateOp read, Operation *writer) {
  Operation *last = lastReads.lookup(read.getResult());
  return !last || last->isBeforeInBlock(writer);
}

bool FunctionLowering::mayOverwrite(train::WriteStateOp write) {
  StringAttr state = write.getStateAttr().getAttr();
  Value value = write.getValue();
  Operation *producer = value.getDefiningOp();
  if (!producer || producer->getBlock() != write->getBlock() || writers[state].size() != 1)
    return false;
  return llvm::all_of(readers[state], [&](Operation *op) {
    auto read = dyn_cast<train::ReadStateOp>(op);
    if (!read || !read->isBeforeInBlock(producer))
      return false;
    if (isReadBefore(read, producer))
      return true;
    // Its kernel reads each element before it writes it.
    if (lastReads.lookup(read.getResult()) != producer || read.getType() != value.getType())
      return false;
    for (OpOperand &operand : producer->getOpOperands())
      if (skipMovement(operand.get()) == read.getResult() && operand.get() != read.getResult())
        return false;
    return producer->hasTrait<train::Elementwise>() || isa<train::FusedOp>(producer);
  });
}

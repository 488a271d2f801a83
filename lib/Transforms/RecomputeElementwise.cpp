//===- RecomputeElementwise.cpp - residuals that cost nothing to compute again ---===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Where backward reads an elementwise result, its kernel can read what that was computed from instead, if backward
// keeps those values anyway: silu(gate) of a gated layer, whose gradient wants gate too. Forward then neither writes
// the result nor keeps it. What must not grow is what backward reads.
//
//===----------------------------------------------------------------------===//

#include "Residuals.h"
#include "TensorValues.h"
#include "mlir/IR/IRMapping.h"
#include "zopt/Transforms/Passes.h"
#include "llvm/ADT/SetVector.h"

namespace zopt {
#define GEN_PASS_DEF_RECOMPUTEELEMENTWISE
#include "zopt/Transforms/Passes.h.inc"
} // namespace zopt

using namespace mlir;
using namespace zopt;

/// Ops that are computed again together at most: a kernel of backward gets them all.
static constexpr size_t kMaxOps = 8;

static RankedTensorType typeOf(Value value) { return cast<RankedTensorType>(value.getType()); }
static bool isElementwise(Operation *op) { return op->hasTrait<train::Elementwise>() || isa<train::BroadcastOp>(op); }

/// Held by every kernel itself, as elementwise fusion copies it.
static bool isCopied(Operation *op) {
  if (auto constant = dyn_cast_or_null<train::ConstantOp>(op))
    return isa<SplatElementsAttr>(constant.getValue());
  return isa_and_nonnull<train::IotaOp>(op);
}

namespace {

/// How a residual is computed again: the ops in their order, and the values that they begin with.
struct Recomputation {
  llvm::SetVector<Operation *> ops;
  llvm::SetVector<Value> sources;
};

struct RecomputeElementwisePass : zopt::impl::RecomputeElementwiseBase<RecomputeElementwisePass> {
  void runOnOperation() override {
    auto backwards = getOperation().getOps<train::BackwardOp>();
    if (backwards.empty())
      return;
    backward = *backwards.begin();
    // From the end: what only a recomputed value was kept for is looked at once it is known who reads it.
    SmallVector<Operation *> residuals = findResiduals(getOperation());
    for (Operation *op : llvm::reverse(residuals))
      if (isElementwise(op))
        recompute(op);
  }

private:
  bool isBehind(Operation *user) {
    return backward->isBeforeInBlock(getOperation().getBody().front().findAncestorOpInBlock(*user));
  }
  SmallVector<Operation *> readersBehind(Value value) {
    llvm::SetVector<Operation *> readers;
    for (Operation *user : value.getUsers())
      if (isBehind(user))
        readers.insert(user);
    return readers.takeVector();
  }

  /// Whether backward has `value` without `except`, which is to be computed again.
  bool isAvailable(Value value, Operation *except) {
    Operation *op = value.getDefiningOp();
    return !op || (op != except && op->hasAttr(kResidualAttrName) && !readersBehind(value).empty());
  }

  bool collect(Operation *op, Operation *root, Recomputation &found) {
    for (Value operand : op->getOperands()) {
      Operation *definition = operand.getDefiningOp();
      if (isCopied(definition))
        continue;
      if (isAvailable(operand, root)) {
        found.sources.insert(operand);
        continue;
      }
      if (!isElementwise(definition) || isBehind(definition) ||
          typeOf(operand).getShape() != typeOf(root->getResult(0)).getShape() || !collect(definition, root, found))
        return false;
    }
    found.ops.insert(op);
    return found.ops.size() <= kMaxOps;
  }

  void recompute(Operation *op) {
    Value result = op->getResult(0);
    SmallVector<Operation *> readers = readersBehind(result);
    Recomputation found;
    if (!collect(op, op, found))
      return;
    for (Operation *reader : readers) {
      // Only a reader that computes element by element takes the ops into its kernel.
      if (!isElementwise(reader) || reader->getBlock() != op->getBlock() ||
          typeOf(reader->getResult(0)).getShape() != typeOf(result).getShape())
        return;
      int64_t bytes = 0;
      for (Value source : found.sources)
        if (!llvm::is_contained(reader->getOperands(), source))
          bytes += bytesOf(source);
      if (bytes > bytesOf(result))
        return;
    }
    for (Operation *reader : readers) {
      OpBuilder builder(reader);
      IRMapping map;
      for (Operation *source : found.ops)
        builder.clone(*source, map)->removeAttr(kResidualAttrName);
      reader->replaceUsesOfWith(result, map.lookup(result));
    }
    op->removeAttr(kResidualAttrName);
  }

  Operation *backward = nullptr;
};

} // namespace

//===- Optimizer.cpp - kernels of the update and of the gradient's norm ----===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Families.h"
#include "mlir/IR/IRMapping.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::kernels;

/// Elements of an outer iteration: segments begin at multiples of it.
static constexpr int64_t kBlock = 128;

/// A run of whole blocks, as many as the launch says.
static View blocks(KernelBuilder &kernel, unsigned argument, Type elementType, bool write) {
  return kernel.argument(Access{argument, elementType, {kBlock, 1}, 0, write}, {ShapedType::kDynamic, kBlock});
}

static bool isVector(Value value) { return isa<VectorType>(value.getType()); }

/// One pass over gradient, parameters, master and slots. Bytes moved an element: each of them read once (not the parameters where there is a master) and, but for the gradient, written once. Values
/// that depend on scalars alone (bias corrections, say) stay scalar.
void kernels::writeUpdateKernel(KernelBuilder &kernel, train::OptimizerOp optimizer, Type computeType, Type gradientType, bool hasMaster) {
  OpBuilder &b = kernel.builder;
  Block &rule = optimizer.getBody().front();
  Type type = rule.getArgument(0).getType();
  unsigned next = 0;
  View gradient = blocks(kernel, next++, gradientType, false);
  View parameters = blocks(kernel, next++, computeType, true);
  View master = hasMaster ? blocks(kernel, next++, type, true) : parameters;
  SmallVector<View> slots, scalars;
  for (size_t slot = 0; slot < optimizer.getSlots().size(); ++slot)
    slots.push_back(blocks(kernel, next++, type, true));
  for (int scalar = 0; scalar < 5; ++scalar) // scale, lr, step, finite, decay
    scalars.push_back(kernel.linear(next++, type, 1));
  Value block = kernel.begin(1, grainFor(kBlock));

  auto loadScalar = [&](unsigned index) { return kernel.loadScalar(scalars[index], kernel.index(0)); };
  Value finite = arith::CmpFOp::create(b, kernel.loc, arith::CmpFPredicate::ONE, loadScalar(3), kernel.scalar(0, type));
  auto guarded = scf::IfOp::create(b, kernel.loc, finite, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(guarded.thenBlock());

  IRMapping map;
  unsigned firstScalar = 2 + slots.size();
  map.map(rule.getArgument(firstScalar), loadScalar(1));
  map.map(rule.getArgument(firstScalar + 1), loadScalar(2));
  map.map(rule.getArgument(firstScalar + 2), loadScalar(4));
  Value scale = kernel.broadcast(loadScalar(0));
  auto perElement = [&](Operation &op) {
    return llvm::any_of(op.getOperands(), [&](Value operand) { return !map.contains(operand) || isVector(map.lookup(operand)); });
  };
  // What depends on scalars alone goes before the loop.
  for (Operation &op : rule.without_terminator())
    if (!perElement(op))
      b.clone(op, map);
  auto loop = scf::ForOp::create(b, kernel.loc, kernel.index(0), kernel.index(kBlock), kernel.index(kLanes));
  b.setInsertionPointToStart(loop.getBody());
  SmallVector<Value> at = {block, loop.getInductionVar()};
  map.map(rule.getArgument(0), kernel.convert(kernel.load(master, at), type));
  map.map(rule.getArgument(1), kernel.mulF(kernel.convert(kernel.load(gradient, at), type), scale));
  for (auto [slot, view] : llvm::enumerate(slots))
    map.map(rule.getArgument(2 + slot), kernel.load(view, at));
  auto lanesOf = [&](Value value) {
    Value mapped = map.lookup(value);
    return isVector(mapped) ? mapped : kernel.broadcast(mapped);
  };
  for (Operation &op : rule.without_terminator()) {
    if (llvm::all_of(op.getResults(), [&](Value result) { return map.contains(result); }))
      continue;
    OperationState state(op.getLoc(), op.getName());
    for (Value operand : op.getOperands())
      state.operands.push_back(lanesOf(operand));
    for (Type resultType : op.getResultTypes())
      state.types.push_back(VectorType::get({kLanes}, resultType));
    state.propertiesAttr = op.getPropertiesAsAttribute();
    Operation *vectorized = b.create(state);
    map.map(op.getResults(), vectorized->getResults());
  }
  Operation *yield = rule.getTerminator();
  Value updated = lanesOf(yield->getOperand(0));
  kernel.store(kernel.convert(updated, master.elementType), master, at);
  if (hasMaster)
    kernel.storeRounded(updated, parameters, at);
  for (auto [slot, view] : llvm::enumerate(slots))
    kernel.store(lanesOf(yield->getOperand(1 + slot)), view, at);
}

/// Bytes moved: the gradient once, 8 bytes a block.
void kernels::writeSquaresKernel(KernelBuilder &kernel, Type gradientType) {
  View gradient = blocks(kernel, 0, gradientType, false);
  View sums = kernel.argument(Access{1, kernel.builder.getF64Type(), {1, 0}, 0, true}, {ShapedType::kDynamic, kBlock});
  Value block = kernel.begin(1, grainFor(kBlock));
  Type f64 = kernel.builder.getF64Type();
  // Squares of fp32 numbers are exact in f64.
  Value sum = kernel.reduceRow(kBlock, KernelBuilder::Combine::Sum, f64, [&](Value i, Lanes lanes) -> SmallVector<Value> {
    Value x = kernel.convert(kernel.load(gradient, {block, i}, lanes), f64);
    return {kernel.mulF(x, x)};
  })[0];
  kernel.storeScalar(sum, sums, {block, kernel.index(0)});
}

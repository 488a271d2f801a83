//===- Optimizer.cpp - kernels of the update and of the gradient's norm ----===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Families.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/IR/IRMapping.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::kernels;

/// Elements of an outer iteration: segments begin at multiples of it.
static constexpr int64_t kBlock = 128;

/// A run of whole blocks, as many as the launch says.
static View blocks(KernelBuilder &kernel, unsigned argument, Type elementType, bool write) {
  // Buckets begin at multiples of 256 bytes, their runs at multiples of a block.
  return kernel.argument(Access{argument, elementType, {kBlock, 1}, 0, write, /*alignment=*/64}, {ShapedType::kDynamic, kBlock});
}

/// A GPU has a warp for each of eight neighbouring blocks, 16 bytes of fp32 a thread; `repeats` of them one after another.
static void spreadBlocks(KernelBuilder &kernel, int64_t repeats) {
  if (kernel.isGpu())
    kernel.setSpread({/*lanes=*/4, /*threads=*/32, /*groups=*/8, repeats});
}

static bool isVector(Value value) { return isa<VectorType>(value.getType()); }

/// Computes the ops of `rule` that depend on scalars alone, whose operands `map` has, in one thread of a block, and gives what others need of them to all threads: two exponentials in f64 would cost
/// more than the elements that a thread updates.
static void shareScalars(KernelBuilder &kernel, Block &rule, ArrayRef<Operation *> scalarOps, IRMapping &map) {
  OpBuilder &b = kernel.builder;
  SmallVector<Operation *> computed;
  for (Operation *op : scalarOps)
    if (op->hasTrait<OpTrait::ConstantLike>())
      b.clone(*op, map);
    else
      computed.push_back(op);
  SmallVector<Value> shared, memories;
  for (Operation *op : computed)
    for (Value result : op->getResults())
      if (llvm::any_of(result.getUsers(), [&](Operation *user) { return !llvm::is_contained(computed, user); })) {
        shared.push_back(result);
        memories.push_back(kernel.workgroupMemory({1}, result.getType()));
      }
  Value thread = gpu::ThreadIdOp::create(b, kernel.loc, gpu::Dimension::x);
  kernel.ifThen(arith::CmpIOp::create(b, kernel.loc, arith::CmpIPredicate::eq, thread, kernel.index(0)), [&] {
    IRMapping inside = map;
    for (Operation *op : computed)
      b.clone(*op, inside);
    for (auto [value, memory] : llvm::zip(shared, memories))
      memref::StoreOp::create(b, kernel.loc, inside.lookup(value), memory, kernel.index(0));
  });
  kernel.barrier();
  for (Operation *op : computed)
    for (Value result : op->getResults())
      map.map(result, Value()); // known to be scalar
  for (auto [value, memory] : llvm::zip(shared, memories))
    map.map(value, memref::LoadOp::create(b, kernel.loc, memory, ValueRange{kernel.index(0)}).getResult());
}

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
  for (int scalar = 0; scalar < (kernel.isGpu() ? 4 : 5); ++scalar) // scale, lr, step, finite, decay
    scalars.push_back(kernel.linear(next++, type, 1));
  Value decay = kernel.isGpu() ? kernel.scalarArgument(next++, type) : Value();
  spreadBlocks(kernel, /*repeats=*/4);
  auto loadScalar = [&](unsigned index) { return index == 4 && decay ? decay : kernel.loadScalar(scalars[index], kernel.index(0)); };

  IRMapping map;
  unsigned firstScalar = 2 + slots.size();
  auto perElement = [&](Operation &op) {
    return llvm::any_of(op.getOperands(), [&](Value operand) { return !map.contains(operand) || (map.lookup(operand) && isVector(map.lookup(operand))); });
  };
  if (kernel.isGpu()) {
    map.map(rule.getArgument(firstScalar), loadScalar(1));
    map.map(rule.getArgument(firstScalar + 1), loadScalar(2));
    map.map(rule.getArgument(firstScalar + 2), loadScalar(4));
    SmallVector<Operation *> scalarOps;
    for (Operation &op : rule.without_terminator())
      if (!perElement(op)) {
        scalarOps.push_back(&op);
        for (Value result : op.getResults())
          map.map(result, Value());
      }
    for (Operation *op : scalarOps)
      for (Value result : op->getResults())
        map.erase(result);
    shareScalars(kernel, rule, scalarOps, map);
  }
  Value block = kernel.begin(1, grainFor(kBlock));

  Value finite = arith::CmpFOp::create(b, kernel.loc, arith::CmpFPredicate::ONE, loadScalar(3), kernel.scalar(0, type));
  auto guarded = scf::IfOp::create(b, kernel.loc, finite, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(guarded.thenBlock());

  if (!kernel.isGpu()) {
    map.map(rule.getArgument(firstScalar), loadScalar(1));
    map.map(rule.getArgument(firstScalar + 1), loadScalar(2));
    map.map(rule.getArgument(firstScalar + 2), loadScalar(4));
  }
  Value scale = kernel.broadcast(loadScalar(0));
  SmallVector<Value> at = {block};
  if (kernel.isGpu()) {
    at.push_back(kernel.placeAt(0));
  } else {
    // What depends on scalars alone goes before the loop.
    for (Operation &op : rule.without_terminator())
      if (!perElement(op))
        b.clone(op, map);
    auto loop = scf::ForOp::create(b, kernel.loc, kernel.index(0), kernel.index(kBlock), kernel.index(kCpuLanes));
    b.setInsertionPointToStart(loop.getBody());
    at.push_back(loop.getInductionVar());
  }
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
      state.types.push_back(VectorType::get({kernel.lanes()}, resultType));
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
  spreadBlocks(kernel, /*repeats=*/4);
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

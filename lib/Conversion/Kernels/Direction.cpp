//===- Direction.cpp - the kernel in front of Newton-Schulz iterations ---------===//
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

/// Elements of an outer iteration, as in the update.
static constexpr int64_t kBlock = 128;

/// Bytes moved an element: gradient read once, slots read and written once, direction written once.
void kernels::writeDirectionKernel(KernelBuilder &kernel, train::OptimizerOp optimizer, Type gradientType,
                                   int64_t count) {
  OpBuilder &b = kernel.builder;
  Block &rule = optimizer.getBody().front();
  Type type = rule.getArgument(0).getType();
  unsigned next = 0;
  auto blocks = [&](Type elementType, bool write) {
    return kernel.argument(Access{next++, elementType, {kBlock, 1}, 0, write, /*alignment=*/64}, {count, kBlock});
  };
  View gradient = blocks(gradientType, false);
  SmallVector<View> slots;
  for (size_t slot = 0, changed = optimizer.getSlots().size() - (optimizer.getAverage() ? 1 : 0); slot < changed;
       ++slot)
    slots.push_back(blocks(type, true));
  View direction = blocks(type, true), scaleView = kernel.linear(next++, type, 1),
       finiteView = kernel.linear(next++, type, 1);

  IRMapping map;
  auto lanesOf = [&](Value value) {
    Value mapped = map.lookup(value);
    return isa<VectorType>(mapped.getType()) ? mapped : kernel.broadcast(mapped);
  };
  auto writeElements = [&](ValueRange at, Value scale) {
    map.map(rule.getArgument(1), kernel.mulF(kernel.convert(kernel.load(gradient, at), type), scale));
    for (auto [slot, view] : llvm::enumerate(slots))
      map.map(rule.getArgument(2 + slot), kernel.load(view, at));
    for (Operation &op : rule.without_terminator()) {
      if (op.hasTrait<OpTrait::ConstantLike>()) {
        b.clone(op, map);
        continue;
      }
      OperationState state(op.getLoc(), op.getName());
      for (Value operand : op.getOperands())
        state.operands.push_back(lanesOf(operand));
      for (Type resultType : op.getResultTypes())
        state.types.push_back(VectorType::get({kernel.lanes()}, resultType));
      state.propertiesAttr = op.getPropertiesAsAttribute();
      map.map(op.getResults(), b.create(state)->getResults());
    }
    Operation *yield = rule.getTerminator();
    kernel.store(lanesOf(yield->getOperand(0)), direction, at);
    for (auto [slot, view] : llvm::enumerate(slots))
      kernel.store(lanesOf(yield->getOperand(1 + slot)), view, at);
  };

  if (kernel.isGpu()) {
    Value finite = arith::CmpFOp::create(b, kernel.loc, arith::CmpFPredicate::ONE,
                                         kernel.loadScalar(finiteView, kernel.index(0)), kernel.scalar(0, type));
    Value scale = kernel.loadScalar(scaleView, kernel.index(0));
    kernel.setSpread({/*lanes=*/4, /*threads=*/32, /*groups=*/8, /*repeats=*/4}); // as the update
    Value block = kernel.begin(count, grainFor(kBlock));
    kernel.ifThen(finite, [&] { writeElements({block, kernel.placeAt(0)}, kernel.broadcast(scale)); });
    return;
  }
  Value block = kernel.begin(count, grainFor(kBlock));
  Value finite = arith::CmpFOp::create(b, kernel.loc, arith::CmpFPredicate::ONE,
                                       kernel.loadScalar(finiteView, kernel.index(0)), kernel.scalar(0, type));
  auto guarded = scf::IfOp::create(b, kernel.loc, finite, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(guarded.thenBlock());
  Value scale = kernel.broadcast(kernel.loadScalar(scaleView, kernel.index(0)));
  auto loop = scf::ForOp::create(b, kernel.loc, kernel.index(0), kernel.index(kBlock), kernel.index(kCpuLanes));
  b.setInsertionPointToStart(loop.getBody());
  writeElements({block, loop.getInductionVar()}, scale);
}

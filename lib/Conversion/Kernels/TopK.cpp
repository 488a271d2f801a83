//===- TopK.cpp - the kernel of top_k ----------------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Families.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::kernels;

/// One outer iteration is one element: it counts the elements of its row that come before it, which is its place in the
/// order, and writes itself there where that is below k.
LogicalResult kernels::generateTopK(Context &context, train::TopKOp op) {
  const TensorLayout &input = context.operand(0);
  const bool smallest = op.getSmallest(), real = isa<FloatType>(input.elementType);
  Rows rows(input.shape, {rowAccess(0, input), rowAccess(1, context.result(0), /*write=*/true),
                          rowAccess(2, context.result(1), /*write=*/true)});
  const int64_t k = context.result(0).shape.back();
  SmallVector<int64_t> shape = rows.shape(), selected = shape;
  selected.back() = k;
  KernelBuilder kernel(context.context(), "top_k", context.target);
  View elements = kernel.argument(rows.accesses[0], shape), values = kernel.argument(rows.accesses[1], selected),
       indices = kernel.argument(rows.accesses[2], selected);
  kernel.spreadRow(rows.n);
  SmallVector<Value> at = kernel.delinearize(kernel.begin(countElements(shape), grainFor(rows.n)), shape);
  OpBuilder &b = kernel.builder;
  Location loc = kernel.loc;
  Value place = at.back(), stored = kernel.loadScalar(elements, at);
  Type i32 = b.getI32Type(), compute = real ? train::getComputeType(input.elementType) : input.elementType,
       f32 = b.getF32Type();
  Value own = kernel.broadcast(real ? kernel.convert(stored, compute) : stored);
  Value ownPlace = kernel.broadcast(arith::IndexCastOp::create(b, loc, i32, place));

  Value count =
      kernel.reduceRow(rows.n, {KernelBuilder::Combine::Sum}, f32, [&](Value i, Lanes lanes) -> SmallVector<Value> {
        at.back() = i;
        Value other = real ? kernel.loadCompute(elements, at, lanes) : kernel.load(elements, at, lanes);
        Value otherPlace = arith::AddIOp::create(b, loc, kernel.broadcast(arith::IndexCastOp::create(b, loc, i32, i)),
                                                 kernel.laneNumbers(i32));
        Value earlier = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt, otherPlace, ownPlace);
        auto both = [&](Value x, Value y) -> Value { return arith::AndIOp::create(b, loc, x, y); };
        auto either = [&](Value x, Value y) -> Value { return arith::OrIOp::create(b, loc, x, y); };
        Value before, same;
        if (real) {
          auto compare = [&](arith::CmpFPredicate predicate, Value x, Value y) -> Value {
            return arith::CmpFOp::create(b, loc, predicate, x, y);
          };
          using arith::CmpFPredicate;
          Value otherIsNaN = compare(CmpFPredicate::UNO, other, other),
                ownIsNaN = compare(CmpFPredicate::UNO, own, own);
          Value otherIsNumber = compare(CmpFPredicate::ORD, other, other),
                ownIsNumber = compare(CmpFPredicate::ORD, own, own);
          before = smallest ? either(compare(CmpFPredicate::OLT, other, own), both(otherIsNumber, ownIsNaN))
                            : either(compare(CmpFPredicate::OGT, other, own), both(otherIsNaN, ownIsNumber));
          same = either(compare(CmpFPredicate::OEQ, other, own), both(otherIsNaN, ownIsNaN));
        } else {
          const bool truth =
              getElementTypeOrSelf(op.getInput().getType()).isUnsignedInteger() || input.elementType.isInteger(1);
          auto compare = [&](arith::CmpIPredicate predicate) -> Value {
            return arith::CmpIOp::create(b, loc, predicate, other, own);
          };
          before = compare(smallest ? (truth ? arith::CmpIPredicate::ult : arith::CmpIPredicate::slt)
                                    : (truth ? arith::CmpIPredicate::ugt : arith::CmpIPredicate::sgt));
          same = compare(arith::CmpIPredicate::eq);
        }
        Value precedes = either(before, both(same, earlier));
        return {arith::SelectOp::create(b, loc, precedes, kernel.splat(1, f32), kernel.splat(0, f32))};
      })[0];

  Value rank = arith::IndexCastOp::create(b, loc, b.getIndexType(), arith::FPToSIOp::create(b, loc, i32, count));
  kernel.ifThen(arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt, rank, kernel.index(k)), [&] {
    at.back() = rank;
    kernel.storeScalar(stored, values, at);
    kernel.storeScalar(arith::IndexCastOp::create(b, loc, b.getI64Type(), place), indices, at);
  });
  context.add(kernel);
  return success();
}

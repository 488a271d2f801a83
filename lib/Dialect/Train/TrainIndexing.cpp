//===- TrainIndexing.cpp - scatter and top_k: verifiers and derivatives --------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Dialect/Train/TrainBuilders.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

using Values = SmallVector<Value>;

static Type elementOf(Value value) { return getTensorType(value).getElementType(); }

//===----------------------------------------------------------------------===//
// Verifiers
//===----------------------------------------------------------------------===//

LogicalResult ScatterOp::verify() {
  RankedTensorType data = getTensorType(getData()), indices = getTensorType(getIndices()), updates = getTensorType(getUpdates());
  if (data.getRank() < 1 || indices.getRank() != 1) // (C1)
    return emitOpError() << "has data of rank " << data.getRank() << " and indices of rank " << indices.getRank() << ", expected at least 1 and 1";
  if (data.getDimSize(0) == 0 && indices.getDimSize(0) != 0)
    return emitOpError() << "has " << indices.getDimSize(0) << " indices, but data has no row";
  SmallVector<int64_t> expected(data.getShape()); // (C2)
  expected[0] = indices.getDimSize(0);
  if (updates != data.clone(expected))
    return emitOpError() << "updates are " << updates << ", expected " << data.clone(expected);
  if (data.getElementType().isInteger(1) && getReduction() != ScatterReduction::none) // (C3)
    return emitOpError() << "has no reduction " << stringifyScatterReduction(getReduction()) << " of i1";
  return success();
}

LogicalResult TopKOp::verify() {
  RankedTensorType input = getTensorType(getInput()), values = getTensorType(getValues()), indices = getTensorType(getIndices());
  constexpr int64_t mostCounted = int64_t(1) << 24; // counts are fp32
  if (input.getRank() < 1 || input.getShape().back() > mostCounted) // (C3)
    return emitOpError() << "selects from " << input << ", expected at least one axis and at most " << mostCounted << " elements in the last";
  int64_t k = values.getRank() ? values.getShape().back() : 0;
  if (values.getRank() != input.getRank() || values.getShape().drop_back() != input.getShape().drop_back() || k < 1 || k > input.getShape().back() || indices.getShape() != values.getShape()) // (C1)
    return emitOpError() << "takes " << input << " to values " << values << " and indices " << indices;
  if (values.getElementType() != input.getElementType() || !indices.getElementType().isInteger(64)) // (C2)
    return emitOpError() << "has values of " << values.getElementType() << " and indices of " << indices.getElementType() << ", expected " << input.getElementType() << " and i64";
  return success();
}

//===----------------------------------------------------------------------===//
// Derivatives
//===----------------------------------------------------------------------===//

namespace {
/// The rows of a scatter, as values: builds what its derivative is made of.
struct Rows {
  OpBuilder &builder;
  Location loc;
  Value indices;
  int64_t positions = getTensorType(indices).getDimSize(0);

  /// Row indices[p] of `table` for each p.
  Value at(Value table) {
    SmallVector<int64_t> shape(getTensorType(table).getShape());
    shape[0] = positions;
    return GatherOp::create(builder, loc, getTensorType(table).clone(shape), table, indices, /*axis=*/0);
  }
  Value scatter(ScatterReduction reduction, Value data, Value updates) { return ScatterOp::create(builder, loc, reduction, data, indices, updates); }
  Value number(Value like, double value) { return scalar(builder, loc, elementOf(like), value); }
  Value full(Value like, double value) { return train::broadcast(builder, loc, number(like, value), getTensorType(like).getShape()); }
  Value equal(Value a, Value b) { return compare(builder, loc, ComparePredicate::eq, a, b); }
  /// 1 where the condition holds, in the element type of `like`.
  Value ones(Value condition, Value like) { return train::cast(builder, loc, condition, elementOf(like)); }
};
} // namespace

Values ScatterOp::buildVJP(OpBuilder &b, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  Location loc = getLoc();
  Rows rows{b, loc, getIndices()};
  Value data = getData(), updates = getUpdates(), dy = cotangents[0];
  const bool toData = needed[0], toUpdates = needed[2];
  Values grads(3);
  switch (getReduction()) {
  case ScatterReduction::add:
    grads[0] = dy;
    grads[2] = toUpdates ? rows.at(dy) : Value();
    return grads;

  case ScatterReduction::none: {
    if (toData)
      grads[0] = rows.scatter(ScatterReduction::none, dy, rows.full(updates, 0));
    if (toUpdates) {
      // Only the last position of a row left a trace.
      auto i64 = b.getI64Type();
      Value position = IotaOp::create(b, loc, RankedTensorType::get({rows.positions}, i64), /*axis=*/0, /*start=*/0, /*step=*/1);
      Value none = train::broadcast(b, loc, scalar(b, loc, i64, -1), {getTensorType(data).getDimSize(0)});
      Value wins = rows.equal(rows.at(rows.scatter(ScatterReduction::none, none, position)), position);
      SmallVector<int64_t> spread(getTensorType(updates).getRank(), 1);
      spread[0] = rows.positions;
      grads[2] = select(b, loc, train::reshape(b, loc, wins, spread), rows.at(dy), rows.number(dy, 0));
    }
    return grads;
  }

  case ScatterReduction::mul: {
    // A factor's derivative is the product of the others: with one zero among them, only that zero has one.
    Value dataZero = rows.equal(data, rows.number(data, 0)), updateZero = rows.equal(updates, rows.number(updates, 0)), one = rows.number(data, 1), zero = rows.number(data, 0);
    Value zeros = rows.scatter(ScatterReduction::add, rows.ones(dataZero, data), rows.ones(updateZero, updates));
    Value dataFactor = select(b, loc, dataZero, one, data), updateFactor = select(b, loc, updateZero, one, updates);
    Value product = rows.scatter(ScatterReduction::mul, dataFactor, updateFactor);
    auto derivative = [&](Value dy, Value zeros, Value product, Value isZero, Value factor) {
      Value others = div(b, loc, product, factor);
      Value none = rows.equal(zeros, zero), single = rows.equal(zeros, one);
      Value ofZero = select(b, loc, single, others, zero), ofOther = select(b, loc, none, others, zero);
      return mul(b, loc, dy, select(b, loc, isZero, ofZero, ofOther));
    };
    if (toData)
      grads[0] = derivative(dy, zeros, product, dataZero, dataFactor);
    if (toUpdates)
      grads[2] = derivative(rows.at(dy), rows.at(zeros), rows.at(product), updateZero, updateFactor);
    return grads;
  }

  case ScatterReduction::max:
  case ScatterReduction::min: {
    Value result = getResult();
    Value dataWins = rows.equal(data, result), updateWins = rows.equal(updates, rows.at(result));
    Value winners = rows.scatter(ScatterReduction::add, rows.ones(dataWins, dy), rows.ones(updateWins, dy));
    Value share = div(b, loc, dy, winners);
    if (toData)
      grads[0] = select(b, loc, dataWins, share, rows.number(dy, 0));
    if (toUpdates)
      grads[2] = select(b, loc, updateWins, rows.at(share), rows.number(dy, 0));
    return grads;
  }
  }
  llvm_unreachable("unknown reduction");
}

Values TopKOp::buildVJP(OpBuilder &b, ArrayRef<Value> cotangents, ArrayRef<bool> needed) {
  if (!cotangents[0])
    return {Value()};
  Location loc = getLoc();
  ArrayRef<int64_t> input = getTensorType(getInput()).getShape();
  const int64_t n = input.back(), k = getTensorType(getValues()).getShape().back(), rows = ShapedType::getNumElements(input.drop_back());
  // Each selected element's place among all elements.
  Value first = IotaOp::create(b, loc, RankedTensorType::get({rows, 1}, b.getI64Type()), /*axis=*/0, /*start=*/0, /*step=*/n);
  Value place = train::reshape(b, loc, add(b, loc, train::reshape(b, loc, getIndices(), {rows, k}), first), {rows * k});
  Value flat = GatherGradOp::create(b, loc, getTensorType(cotangents[0]).clone({rows * n}), train::reshape(b, loc, cotangents[0], {rows * k}), place, /*axis=*/0);
  return {train::reshape(b, loc, flat, input)};
}

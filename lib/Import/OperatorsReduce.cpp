//===- OperatorsReduce.cpp - reductions, arg max, running sums -------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Emit.h"
#include "Fold.h"
#include "Operators.h"

#include <limits>

using namespace mlir;

namespace zopt::importer {

using Predicate = train::ComparePredicate;

/// max of -x negated; integers by complement, which has no smallest number without a negative.
static Value smallest(Emit &k, Value x, ArrayRef<int64_t> axes) {
  if (isa<FloatType>(k.elementOf(x)))
    return k.unary<train::NegOp>(k.largest(k.unary<train::NegOp>(x), axes));
  return k.logicalNot(k.largest(k.logicalNot(x), axes));
}

/// Of bools: their order is that of 0 and 1.
static Value extremumOfBools(Emit &k, Value x, ArrayRef<int64_t> axes, bool largest) {
  Value numbers = k.cast(x, k.b.getI32Type());
  return k.compare(Predicate::ne, largest ? k.largest(numbers, axes) : smallest(k, numbers, axes), 0.0);
}

/// m + log(sum(e^(x - m))) for m = floor(max(x)), which has no derivative and cancels; 0 where the maximum is infinite.
static Value logSumExp(Emit &k, Value x, ArrayRef<int64_t> axes) {
  Value shift = k.unary<train::FloorOp>(k.largest(x, axes));
  Value infinite = k.compare(Predicate::eq, k.unary<train::AbsOp>(shift), std::numeric_limits<double>::infinity());
  shift = k.select(infinite, k.c(x, 0), shift);
  return k.add(k.unary<train::LogOp>(k.sum(k.unary<train::ExpOp>(k.sub(x, shift)), axes)), shift);
}

/// The root of a sum of squares; its derivative is 0 where the sum is, as PyTorch's norm has it.
static Value rootOf(Emit &k, Value squares) {
  Value isZero = k.compare(Predicate::eq, squares, 0.0);
  return k.select(isZero, k.c(squares, 0), k.unary<train::SqrtOp>(k.select(isZero, k.c(squares, 1), squares)));
}

/// What a reduction over no element gives.
static std::optional<double> ofNothing(StringRef op, Type element) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  if (op == "ReduceProd")
    return 1;
  if (op == "ReduceLogSum" || op == "ReduceLogSumExp")
    return -infinity;
  if ((op == "ReduceMax" || op == "ReduceMin") && isa<FloatType>(element))
    return op == "ReduceMax" ? -infinity : infinity;
  if ((op == "ReduceMax" || op == "ReduceMin") && element.isInteger(1))
    return op == "ReduceMin";
  if (op == "ReduceSum" || op == "ReduceL1" || op == "ReduceL2" || op == "ReduceSumSquare")
    return 0;
  return std::nullopt;
}

LogicalResult lowerReduce(NodeImporter &node) {
  FailureOr<SmallVector<int64_t, 8>> axes = reduceAxes(node);
  if (failed(axes))
    return failure();
  StringRef op = node.proto.op_type();
  Type element = node.element(0);
  const bool isFloat = isa<FloatType>(element), isBool = element.isInteger(1);
  if (isBool && op != "ReduceMax" && op != "ReduceMin")
    return node.error("needs numbers, but got bools");
  Shape shape;
  const bool keep = node.attribute("keepdims", int64_t(1)) != 0;
  for (int64_t axis = 0; axis < node.rank(0); ++axis) {
    if (!llvm::is_contained(*axes, axis))
      shape.push_back(node.shape(0)[axis]);
    else if (keep)
      shape.push_back(1);
  }
  if (countElements(node.shape(0)) == 0 && countElements(shape) != 0) {
    std::optional<double> value = ofNothing(op, element);
    if (!value)
      return node.error("has no value for no element: the input is " + describe(node.shape(0)));
    node.result(0, Constant::splat(convertElement(element), shape, isFloat ? Scalar{0, *value} : Scalar{static_cast<int64_t>(*value), 0}), element);
    return success();
  }
  if (axes->empty() && (op == "ReduceSum" || op == "ReduceMean" || op == "ReduceMax" || op == "ReduceMin" || op == "ReduceProd")) {
    node.forward(0, 0);
    return success();
  }
  Value x = node.operand(0);
  if (!x)
    return failure();
  Emit k(node);
  // Logarithms and roots of integers are taken in fp32 and truncated, as the result's type asks for.
  const bool transcendental = op == "ReduceL2" || op == "ReduceLogSum" || op == "ReduceLogSumExp";
  if (!isFloat && transcendental)
    x = k.cast(x, node.builder.getF32Type());
  Value result;
  if (op == "ReduceSum")
    result = k.sum(x, *axes);
  else if (op == "ReduceMean")
    result = k.mean(x, *axes);
  else if (op == "ReduceProd")
    result = k.reduce<train::ReduceProdOp>(x, *axes);
  else if (op == "ReduceMax" || op == "ReduceMin")
    result = isBool ? extremumOfBools(k, x, *axes, op == "ReduceMax") : op == "ReduceMax" ? k.largest(x, *axes) : smallest(k, x, *axes);
  else if (op == "ReduceL1")
    result = k.sum(k.unary<train::AbsOp>(x), *axes);
  else if (op == "ReduceL2")
    result = rootOf(k, k.sum(k.mul(x, x), *axes));
  else if (op == "ReduceSumSquare")
    result = k.sum(k.mul(x, x), *axes);
  else if (op == "ReduceLogSum")
    result = k.unary<train::LogOp>(k.sum(x, *axes));
  else
    result = logSumExp(k, x, *axes);
  node.result(0, k.reshape(k.cast(result, element), shape));
  return success();
}

//===----------------------------------------------------------------------===//
// Places of extrema
//===----------------------------------------------------------------------===//

/// An input whose smallest element is where the original's largest is.
static Value reversedOrder(Emit &k, Value x) { return isa<FloatType>(k.elementOf(x)) ? k.unary<train::NegOp>(x) : k.logicalNot(x); }

LogicalResult lowerArgMax(NodeImporter &node) {
  FailureOr<int64_t> axis = node.axis(node.attribute("axis", int64_t(0)), node.rank(0));
  if (failed(axis))
    return failure();
  if (node.shape(0)[*axis] == 0)
    return node.error("has no element to choose from: the input is " + describe(node.shape(0)));
  Value x = node.operand(0);
  if (!x)
    return failure();
  Emit k(node);
  if (node.proto.op_type() == "ArgMin")
    x = reversedOrder(k, x);
  Value place = k.argMax(x, *axis, node.attribute("select_last_index", int64_t(0)) != 0);
  Shape shape(node.shape(0));
  if (node.attribute("keepdims", int64_t(1)) != 0)
    shape[*axis] = 1;
  else
    shape.erase(shape.begin() + *axis);
  node.result(0, k.reshape(place, shape));
  return success();
}

//===----------------------------------------------------------------------===//
// Rows
//===----------------------------------------------------------------------===//

/// Softmax, LogSoftmax and Hardmax: along an axis; before opset 13 over the axes from `axis` (1) on, as one.
LogicalResult lowerSoftmax(NodeImporter &node) {
  if (!isa<FloatType>(node.element(0)))
    return node.error("operand 0 must be floats");
  const bool coerces = node.graph.opset < 13;
  const int64_t rank = node.rank(0), named = node.attribute("axis", int64_t(coerces ? 1 : -1));
  if (coerces && named == rank) { // rows of one element
    Value input = node.operand(0);
    if (!input)
      return failure();
    Emit k(node);
    node.result(0, k.add(k.sub(input, input), node.proto.op_type() == "LogSoftmax" ? 0.0 : 1.0));
    return success();
  }
  FailureOr<int64_t> axis = node.axis(named, rank);
  if (failed(axis))
    return failure();
  Value input = node.operand(0);
  if (!input)
    return failure();
  Emit k(node);
  Value rows = input;
  SmallVector<int64_t, 8> swap = llvm::to_vector<8>(llvm::seq<int64_t>(0, rank));
  if (coerces) {
    Shape flat(node.shape(0).take_front(*axis));
    flat.push_back(countElements(node.shape(0).drop_front(*axis)));
    rows = k.reshape(input, flat);
  } else {
    // The row ops work on the last axis.
    std::swap(swap[*axis], swap[rank - 1]);
    rows = node.transpose(input, swap);
  }
  Value result;
  if (node.proto.op_type() == "Softmax")
    result = k.unary<train::SoftmaxOp>(rows);
  else if (node.proto.op_type() == "LogSoftmax")
    result = k.unary<train::LogSoftmaxOp>(rows);
  else { // 1 at the first of the largest
    const int64_t last = k.rankOf(rows) - 1;
    Value places = k.iota(k.rankOf(rows), last, k.shapeOf(rows)[last]);
    result = k.cast(k.compare(Predicate::eq, places, k.argMax(rows, last, /*last=*/false)), node.element(0));
  }
  node.result(0, coerces ? k.reshape(result, node.shape(0)) : node.transpose(result, swap));
  return success();
}

LogicalResult lowerLpNormalization(NodeImporter &node) {
  const int64_t p = node.attribute("p", int64_t(2));
  if (p != 1 && p != 2)
    return node.error("p is " + Twine(p) + ", but it must be 1 or 2");
  FailureOr<int64_t> axis = node.axis(node.attribute("axis", int64_t(-1)), node.rank(0));
  if (failed(axis))
    return failure();
  Value x = node.operand(0);
  if (!x)
    return failure();
  Emit k(node);
  Value norm = p == 1 ? k.sum(k.unary<train::AbsOp>(x), *axis) : rootOf(k, k.sum(k.mul(x, x), *axis));
  // A row of zeros stays one.
  node.result(0, k.div(x, k.select(k.compare(Predicate::eq, norm, 0.0), k.c(norm, 1), norm)));
  return success();
}

/// Sums (or products) up to each place, by doubling: after step i every place has the 2^i before it. Their order depends on the length alone.
LogicalResult lowerCumulative(NodeImporter &node) {
  FailureOr<SmallVector<int64_t, 8>> named = node.integers(1, "the axis");
  if (failed(named))
    return failure();
  if (named->size() != 1)
    return node.error("the axis is " + describe(*named) + ", but it must be one number");
  FailureOr<int64_t> axis = node.axis(named->front(), node.rank(0));
  if (failed(axis))
    return failure();
  Value x = node.operand(0);
  if (!x)
    return failure();
  Emit k(node);
  const bool product = node.proto.op_type() == "CumProd", reverse = node.attribute("reverse", int64_t(0)) != 0;
  const int64_t size = node.shape(0)[*axis];
  // Elements that come in from outside.
  auto neutral = [&](int64_t count) {
    Shape shape(node.shape(0));
    shape[*axis] = count;
    return train::splat(node.builder, node.loc, node.type(shape, node.element(0)), product ? 1 : 0);
  };
  auto shifted = [&](Value value, int64_t distance) {
    Value rest = k.slice(value, *axis, reverse ? distance : 0, size - distance);
    return reverse ? k.concat({rest, neutral(distance)}, *axis) : k.concat({neutral(distance), rest}, *axis);
  };
  if (size > 0 && node.attribute("exclusive", int64_t(0)) != 0)
    x = size == 1 ? neutral(1) : shifted(x, 1);
  for (int64_t distance = 1; distance < size; distance *= 2)
    x = product ? k.mul(x, shifted(x, distance)) : k.add(x, shifted(x, distance));
  node.result(0, x);
  return success();
}

} // namespace zopt::importer

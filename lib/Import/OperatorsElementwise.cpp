//===- OperatorsElementwise.cpp - elementwise ONNX operators --------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Fold.h"
#include "Operators.h"

#include "llvm/ADT/StringSwitch.h"

using namespace mlir;

namespace zopt::importer {

template <typename Op> static Value unary(NodeImporter &node, Value input) { return Op::create(node.builder, node.loc, input.getType(), input); }

LogicalResult lowerUnary(NodeImporter &node) {
  Value input = node.operand(0);
  if (!input)
    return failure();
  using Make = Value (*)(NodeImporter &, Value);
  const Make make = llvm::StringSwitch<Make>(node.proto.op_type())
                        .Case("Abs", unary<train::AbsOp>)
                        .Case("Ceil", unary<train::CeilOp>)
                        .Case("Cos", unary<train::CosOp>)
                        .Case("Erf", unary<train::ErfOp>)
                        .Case("Exp", unary<train::ExpOp>)
                        .Case("Floor", unary<train::FloorOp>)
                        .Case("Log", unary<train::LogOp>)
                        .Case("Neg", unary<train::NegOp>)
                        .Case("Not", unary<train::NotOp>)
                        .Case("Reciprocal", unary<train::ReciprocalOp>)
                        .Case("Relu", unary<train::ReluOp>)
                        .Case("Sigmoid", unary<train::SigmoidOp>)
                        .Case("Sign", unary<train::SignOp>)
                        .Case("Sin", unary<train::SinOp>)
                        .Case("Softplus", unary<train::SoftplusOp>)
                        .Case("Sqrt", unary<train::SqrtOp>)
                        .Case("Tanh", unary<train::TanhOp>)
                        .Default(nullptr);
  node.result(0, make(node, input));
  return success();
}

/// The operands of a broadcasting op, and the shape that ONNX gives the result; checks element types and shapes.
static FailureOr<Shape> broadcastOperands(NodeImporter &node, int first, SmallVectorImpl<Value> &values) {
  Shape shape;
  for (int i = first; i < node.inputs(); ++i) {
    if (!node.has(i))
      return node.error("operand " + Twine(i) + " is missing");
    std::optional<Shape> both = broadcast(shape, node.shape(i));
    if (!both)
      return node.error("operands of shapes " + describe(shape) + " and " + describe(node.shape(i)) + " do not broadcast");
    shape = *both;
  }
  for (int i = first; i < node.inputs(); ++i) {
    Value value = node.broadcastingOperand(i);
    if (!value)
      return failure();
    values.push_back(value);
  }
  return shape;
}

/// Constants may have come without axes along which they do not change: a result that lacks them is broadcast.
static LogicalResult finish(NodeImporter &node, Value value, ArrayRef<int64_t> shape) {
  node.result(0, node.broadcastTo(value, shape));
  return success();
}

static LogicalResult sameElement(NodeImporter &node, ArrayRef<Value> values) {
  Type first = getElementTypeOrSelf(values.front());
  for (Value value : values)
    if (getElementTypeOrSelf(value) != first) {
      std::string a, b;
      llvm::raw_string_ostream(a) << first;
      llvm::raw_string_ostream(b) << getElementTypeOrSelf(value);
      return node.error("operands have different element types, " + a + " and " + b);
    }
  return success();
}

LogicalResult lowerBinary(NodeImporter &node) {
  StringRef op = node.proto.op_type();
  const bool variadic = op == "Max" || op == "Min" || op == "Sum";
  if (node.inputs() < (variadic ? 1 : 2) || (!variadic && node.inputs() > 2))
    return node.error("has " + Twine(node.inputs()) + " operands");

  // x * 1 and x / 1 change no bit.
  if (op == "Mul" || op == "Div")
    for (int i = op == "Div" ? 1 : 0; i < 2; ++i)
      if (node.constant(i) && node.constant(i)->asSplat() && node.has(1 - i) && node.element(0) == node.element(1)) {
        const Scalar one = *node.constant(i)->asSplat();
        if ((isa<FloatType>(node.element(i)) ? one.real == 1 : one.integer == 1) && broadcast(node.shape(0), node.shape(1)) == std::optional<Shape>(Shape(node.shape(1 - i)))) {
          node.forward(0, 1 - i);
          return success();
        }
      }

  SmallVector<Value, 4> values;
  FailureOr<Shape> shape = broadcastOperands(node, 0, values);
  if (failed(shape))
    return failure();
  if (op == "Pow" && getElementTypeOrSelf(values[1]) != getElementTypeOrSelf(values[0])) {
    auto type = cast<RankedTensorType>(values[1].getType());
    values[1] = train::CastOp::create(node.builder, node.loc, type.clone(getElementTypeOrSelf(values[0])), values[1]);
  }
  if (failed(sameElement(node, values)))
    return failure();
  using Make = Value (*)(NodeImporter &, Value, Value);
#define BINARY(NAME, OP) .Case(NAME, [](NodeImporter &n, Value a, Value b) { return n.binary<train::OP>(a, b); })
  const Make make = llvm::StringSwitch<Make>(op)
      BINARY("Add", AddOp) BINARY("Sum", AddOp) BINARY("Sub", SubOp) BINARY("Mul", MulOp) BINARY("Div", DivOp) BINARY("Pow", PowOp) BINARY("Max", MaxOp) BINARY("Min", MinOp) BINARY("And", AndOp)
          BINARY("Or", OrOp)
              .Default(nullptr);
#undef BINARY
  Value result = values[0];
  for (Value value : ArrayRef(values).drop_front())
    result = make(node, result, value);
  return finish(node, result, *shape);
}

LogicalResult lowerCompare(NodeImporter &node) {
  SmallVector<Value, 2> values;
  if (node.inputs() != 2)
    return node.error("has " + Twine(node.inputs()) + " operands");
  FailureOr<Shape> shape = broadcastOperands(node, 0, values);
  if (failed(shape) || failed(sameElement(node, values)))
    return failure();
  const auto predicate = llvm::StringSwitch<train::ComparePredicate>(node.proto.op_type())
                             .Case("Equal", train::ComparePredicate::eq)
                             .Case("Less", train::ComparePredicate::lt)
                             .Case("LessOrEqual", train::ComparePredicate::le)
                             .Case("Greater", train::ComparePredicate::gt)
                             .Default(train::ComparePredicate::ge);
  Shape small = *broadcast(cast<RankedTensorType>(values[0].getType()).getShape(), cast<RankedTensorType>(values[1].getType()).getShape());
  return finish(node, train::CompareOp::create(node.builder, node.loc, node.type(small, node.builder.getI1Type()), predicate, values[0], values[1]), *shape);
}

LogicalResult lowerWhere(NodeImporter &node) {
  if (node.inputs() != 3)
    return node.error("has " + Twine(node.inputs()) + " operands");
  SmallVector<Value, 3> values;
  FailureOr<Shape> shape = broadcastOperands(node, 0, values);
  if (failed(shape) || failed(sameElement(node, ArrayRef(values).drop_front())))
    return failure();
  if (!getElementTypeOrSelf(values[0]).isInteger(1))
    return node.error("the condition must be a tensor of bool");
  Shape small;
  for (Value value : values)
    small = *broadcast(small, cast<RankedTensorType>(value.getType()).getShape());
  return finish(node, train::SelectOp::create(node.builder, node.loc, node.type(small, getElementTypeOrSelf(values[1])), values[0], values[1], values[2]), *shape);
}

LogicalResult lowerCast(NodeImporter &node) {
  FailureOr<int32_t> target = castTarget(node);
  if (failed(target))
    return failure();
  Type element = convertElementType(*target, node.builder.getContext());
  if (!element)
    return node.error("casts to the element type " + Twine(*target) + ", which is not supported");
  if (element == node.element(0)) {
    node.forward(0, 0);
    return success();
  }
  Value input = node.operand(0);
  if (!input)
    return failure();
  node.result(0, train::CastOp::create(node.builder, node.loc, node.type(node.shape(0), element), input));
  return success();
}

LogicalResult lowerGelu(NodeImporter &node) {
  Value input = node.operand(0);
  if (!input)
    return failure();
  StringRef form = node.attribute("approximate", StringRef("none"));
  if (form != "none" && form != "tanh")
    return node.error("approximate is '" + form + "', but it must be none or tanh");
  node.result(0, train::GeluOp::create(node.builder, node.loc, input.getType(), input, form == "tanh" ? train::GeluApproximation::tanh : train::GeluApproximation::none));
  return success();
}

LogicalResult lowerClip(NodeImporter &node) {
  Value result = node.operand(0);
  for (int i = 1; i <= 2 && result; ++i) {
    if (!node.has(i))
      continue;
    Value bound = node.operand(i);
    if (!bound || failed(sameElement(node, {result, bound})))
      return failure();
    result = i == 1 ? node.binary<train::MaxOp>(result, bound) : node.binary<train::MinOp>(result, bound);
  }
  if (!result)
    return failure();
  node.result(0, result);
  return success();
}

LogicalResult lowerIsNaN(NodeImporter &node) {
  Value input = node.operand(0);
  if (!input)
    return failure();
  if (!isa<FloatType>(node.element(0)))
    return node.error("needs a float operand");
  node.result(0, train::IsNaNOp::create(node.builder, node.loc, node.type(node.shape(0), node.builder.getI1Type()), input));
  return success();
}

LogicalResult lowerIdentity(NodeImporter &node) {
  node.forward(0, 0);
  return success();
}

} // namespace zopt::importer

//===- OperatorsElementwise.cpp - elementwise ONNX operators --------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Emit.h"
#include "Fold.h"
#include "Operators.h"

#include "llvm/ADT/StringSwitch.h"

using namespace mlir;

namespace zopt::importer {

template <typename Op> static Value unary(NodeImporter &node, Value input) { return Op::create(node.builder, node.loc, input.getType(), input); }

LogicalResult lowerUnary(NodeImporter &node) {
  if (node.inputs() != 1)
    return node.error("has " + Twine(node.inputs()) + " operands");
  // Of integers there are few functions; of bools one.
  StringRef op = node.proto.op_type();
  const bool isFloat = isa<FloatType>(node.element(0)), isBool = node.element(0).isInteger(1);
  const bool ofBools = op == "Not", ofIntegers = op == "BitwiseNot", ofNumbers = op == "Abs" || op == "Neg" || op == "Sign" || op == "Relu";
  if (ofBools ? !isBool : ofIntegers ? isFloat || isBool : ofNumbers ? isBool : !isFloat)
    return node.error(ofBools ? "needs bools" : ofIntegers ? "needs integers" : ofNumbers ? "needs numbers, but got bools" : "needs a float operand");
  if (op == "Neg" && node.element(0).isUnsignedInteger())
    return node.error("needs signed numbers");
  Value input = node.operand(0);
  if (!input)
    return failure();
  using Make = Value (*)(NodeImporter &, Value);
  const Make make = llvm::StringSwitch<Make>(node.proto.op_type())
                        .Case("Abs", unary<train::AbsOp>)
                        .Case("Acos", unary<train::AcosOp>)
                        .Case("Acosh", unary<train::AcoshOp>)
                        .Case("Asin", unary<train::AsinOp>)
                        .Case("Asinh", unary<train::AsinhOp>)
                        .Case("Atan", unary<train::AtanOp>)
                        .Case("Atanh", unary<train::AtanhOp>)
                        .Case("BitwiseNot", unary<train::NotOp>)
                        .Case("Cosh", unary<train::CoshOp>)
                        .Case("Round", unary<train::RoundOp>)
                        .Case("Sinh", unary<train::SinhOp>)
                        .Case("Tan", unary<train::TanOp>)
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

/// What an operator of two or more tensors may be of.
static LogicalResult checkElement(NodeImporter &node, Type element) {
  StringRef op = node.proto.op_type();
  const bool isFloat = isa<FloatType>(element), isBool = element.isInteger(1);
  if (op == "And" || op == "Or" || op == "Xor")
    return isBool ? success() : node.error("needs bools");
  if (op.starts_with("Bitwise") || op == "BitShift")
    return isFloat || isBool ? node.error("needs integers") : success();
  if (op == "Mean" || op == "Sum")
    return isFloat ? success() : node.error("needs float operands");
  return isBool ? node.error("needs numbers, but got bools") : success();
}

LogicalResult lowerBinary(NodeImporter &node) {
  StringRef op = node.proto.op_type();
  const bool variadic = op == "Max" || op == "Min" || op == "Sum" || op == "Mean";
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
  // The power has the base's type; one of integers with a float exponent is computed in floats.
  Emit k(node);
  const Type base = getElementTypeOrSelf(values[0]);
  if (op == "Pow") {
    const Type exponent = k.elementOf(values[1]);
    const Type computed = isa<FloatType>(base) || isa<IntegerType>(exponent) ? base : exponent;
    for (Value &value : values)
      value = k.cast(value, computed);
  }
  if (failed(sameElement(node, values)))
    return failure();
  using Make = Value (*)(NodeImporter &, Value, Value);
#define BINARY(NAME, OP) .Case(NAME, [](NodeImporter &n, Value a, Value b) { return n.binary<train::OP>(a, b); })
  const Make make = llvm::StringSwitch<Make>(op)
      BINARY("Add", AddOp) BINARY("Sum", AddOp) BINARY("Sub", SubOp) BINARY("Mul", MulOp) BINARY("Div", DivOp) BINARY("Pow", PowOp) BINARY("Max", MaxOp) BINARY("Min", MinOp) BINARY("And", AndOp)
          BINARY("Or", OrOp) BINARY("Xor", XorOp) BINARY("Mean", AddOp) BINARY("BitwiseAnd", AndOp) BINARY("BitwiseOr", OrOp) BINARY("BitwiseXor", XorOp)
              .Default(nullptr);
#undef BINARY
  if (failed(checkElement(node, base)))
    return failure();
  Value result = values[0];
  if (op == "BitShift") {
    StringRef direction = node.attribute("direction", StringRef());
    if (direction != "LEFT" && direction != "RIGHT")
      return node.error("direction is '" + direction + "', but it must be LEFT or RIGHT");
    result = direction == "LEFT" ? node.binary<train::ShiftLeftOp>(values[0], values[1]) : node.binary<train::ShiftRightOp>(values[0], values[1]);
  } else {
    for (Value value : ArrayRef(values).drop_front())
      result = make(node, result, value);
  }
  if (op == "Mean" && values.size() > 1)
    result = k.div(result, static_cast<double>(values.size()));
  return finish(node, op == "Pow" ? k.cast(result, base) : result, *shape);
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
    return node.error("casts to the element type " + elementTypeName(*target) + ", which is not supported");
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

LogicalResult lowerBitCast(NodeImporter &node) {
  MLIRContext *context = node.builder.getContext();
  const int32_t target = static_cast<int32_t>(node.attribute("to", int64_t(0)));
  Type from = node.graph.declaredType(node.proto.input(0)), to = declaredElementType(target, context);
  if (!to)
    return node.error("casts to the element type " + elementTypeName(target) + ", which is not supported");
  auto bits = [](Type type) { return type.isInteger(1) ? 8u : type.getIntOrFloatBitWidth(); };
  if (!from && bits(to) == 32)
    from = node.element(0);
  if (!from)
    return node.error("the model does not declare whether '" + node.proto.input(0) + "' is float16 or bfloat16");
  if (bits(from) != bits(to))
    return node.error("takes " + Twine(bits(from)) + " bits for " + Twine(bits(to)));
  if (from == to) {
    node.forward(0, 0);
    return success();
  }
  Value value = node.operand(0);
  if (!value)
    return failure();
  Emit emit(node);
  if (isa<FloatType>(from)) {
    Type integer = isa<FloatType>(to) ? Type(node.builder.getIntegerType(bits(from))) : to;
    value =
        train::BitcastOp::create(node.builder, node.loc, node.type(node.shape(0), integer), value, TypeAttr::get(from));
  }
  if (isa<FloatType>(to))
    value =
        train::BitcastOp::create(node.builder, node.loc, node.type(node.shape(0), convertElementType(target, context)),
                                 value, TypeAttr::get(to));
  node.result(0, emit.cast(value, convertElementType(target, context)));
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

/// x below the minimum becomes it, then what is above the maximum becomes that one; at a bound the cotangent stays with x, as PyTorch's clamp has it.
LogicalResult lowerClip(NodeImporter &node) {
  Value result = node.operand(0);
  if (!result)
    return failure();
  if (node.element(0).isInteger(1))
    return node.error("needs numbers, but got bools");
  Emit k(node);
  for (int i = 1; i <= 2; ++i) {
    Value bound;
    if (node.graph.opset < 11) {
      const onnx::AttributeProto *attribute = node.find(i == 1 ? "min" : "max");
      if (!attribute)
        continue;
      bound = k.c(result, static_cast<double>(attribute->f()));
    } else {
      if (!node.has(i))
        continue;
      if (countElements(node.shape(i)) != 1)
        return node.error("operand " + Twine(i) + " is a bound of shape " + describe(node.shape(i)) + ", but it must be a scalar");
      bound = node.operand(i);
      if (!bound || failed(sameElement(node, {result, bound})))
        return failure();
      bound = k.reshape(bound, {});
    }
    result = k.select(k.compare(i == 1 ? train::ComparePredicate::le : train::ComparePredicate::ge, result, bound), bound, result);
  }
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
